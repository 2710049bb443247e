//! What a reply says that it used: counted once in the script, and told in each provider's own way of counting.

use serde::Deserialize;

/// The usage of a reply, in the script: numbers, or a word for how to make them up.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Usage {
    Tokens(Tokens),
    Word(UsageWord),
}

/// How the numbers of a usage are made up, or that there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageWord {
    /// The reply leaves its usage out.
    None,
    /// The most that a provider could count: a token for each byte of the request, and all tokens that the reply was
    /// allowed.
    Echo,
    /// As `echo`, and all of the request was written to a cache that lives an hour.
    EchoWritten,
}

/// Tokens as the script counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// All of the request: those read from a cache, and those written to one, included.
    #[serde(alias = "prompt_tokens")]
    pub prompt: u64,
    /// Of `prompt`: read from the provider's cache.
    pub cached: u64,
    /// Of `prompt`: written to a cache that lives five minutes.
    pub cache_write_5m: u64,
    /// Of `prompt`: written to a cache that lives an hour.
    pub cache_write_1h: u64,
    /// All of the reply, reasoning included.
    #[serde(alias = "completion_tokens")]
    pub reply: u64,
    /// Of `reply`: reasoning.
    pub reasoning: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { prompt: 100, cached: 0, cache_write_5m: 0, cache_write_1h: 0, reply: 20, reasoning: 0 }
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self::Tokens(Tokens::default())
    }
}

impl Usage {
    /// Checks that no part is more than its whole.
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            Self::Tokens(tokens) if tokens.cached + tokens.written() > tokens.prompt => {
                Err("a usage has more cached and written tokens than its `prompt`, which holds them".to_owned())
            }
            Self::Tokens(tokens) if tokens.reasoning > tokens.reply => {
                Err("a usage has more reasoning tokens than its `reply`, which holds them".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Returns the numbers for a request of so many bytes that allowed its reply so many tokens.
    pub(super) fn tokens(self, bytes: usize, reply_tokens_max: Option<u64>) -> Result<Option<Tokens>, String> {
        let echo = || {
            let reply = reply_tokens_max.ok_or("the usage is an echo, and the request bounds its reply by nothing")?;
            Ok::<_, String>(Tokens { prompt: bytes as u64, reply, ..Tokens::default() })
        };
        match self {
            Self::Tokens(tokens) => Ok(Some(tokens)),
            Self::Word(UsageWord::None) => Ok(None),
            Self::Word(UsageWord::Echo) => echo().map(Some),
            Self::Word(UsageWord::EchoWritten) => {
                echo().map(|tokens| Some(Tokens { cache_write_1h: tokens.prompt, ..tokens }))
            }
        }
    }
}

impl Tokens {
    /// Returns all tokens, of request and reply.
    pub(super) fn total(self) -> u64 {
        self.prompt + self.reply
    }

    /// Returns the tokens that were written to a cache, however long it lives.
    pub(super) fn written(self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// Returns the tokens of the request that no cache had to do with.
    pub(super) fn uncached(self) -> u64 {
        self.prompt - self.cached - self.written()
    }
}
