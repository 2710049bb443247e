//! What a planner gets to see of much, in numbers.

/// Bounds on a context pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Tools that are offered; those that the run has used already come on top.
    pub tools_max: usize,
    /// Tokens of the whole request, each taken for a byte: no tokenizer makes more of it.
    pub pack_tokens_max: usize,
    /// Bytes of an output, or of an input, up to which it is shown whole.
    pub whole_bytes_max: usize,
}

impl Default for PackOptions {
    /// Models choose well among twenty tools and no better among more; 100,000 bytes are some 30,000 tokens, which leaves
    /// room for a reply where 32,768 are all there is; a page of text is read, a file is passed on.
    fn default() -> Self {
        Self { tools_max: 20, pack_tokens_max: 100_000, whole_bytes_max: 2_000 }
    }
}
