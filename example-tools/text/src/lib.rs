//! `text`: the smallest kind of tool. It computes, asks for nothing, and so may be cached, repeated and run in parallel.

use cofferdam_tool_sdk::prelude::*;

/// Measures and condenses text.
#[tools]
mod text {
    use std::collections::HashMap;

    /// Words that say little about what a text is about.
    const COMMON: &str = "a about after again all also an and any are as at be because been before but by came can \
                          could did do does each every first for four from get got had has have he her his i if in \
                          into is it its just last me more most my no not of off on one only or other our out over \
                          same second she should so some still such than that the their them then there these they \
                          this three to too took two up us very was we were what when where which while who will with \
                          without would you your";

    /// Words shorter than this many characters are no keywords.
    const KEYWORD_CHARS_MIN: usize = 3;

    /// What was counted.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct TextStats {
        /// Runs of letters and digits.
        pub words: u64,
        /// Lines; a last line without a line break counts.
        pub lines: u64,
        /// Sentences, told by `.`, `!` and `?`.
        pub sentences: u64,
        /// Unicode characters.
        pub characters: u64,
        /// Bytes in UTF-8.
        pub bytes: u64,
    }

    /// A word and how often it occurs.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Keyword {
        /// In lower case.
        pub word: String,
        pub count: u32,
    }

    /// Counts words, lines, sentences, characters and bytes.
    #[tool(effect = "pure")]
    pub fn stats(
        /// The text to measure.
        text: String,
    ) -> TextStats {
        TextStats {
            words: words(&text).count() as u64,
            lines: text.lines().count() as u64,
            sentences: sentences(&text).count() as u64,
            characters: text.chars().count() as u64,
            bytes: text.len() as u64,
        }
    }

    /// Lists the most frequent telling words, most frequent first.
    #[tool(effect = "pure")]
    pub fn keywords(
        /// The text to read.
        text: String,
        /// How many words to return at most.
        limit: u32,
    ) -> Vec<Keyword> {
        let mut keywords: Vec<Keyword> =
            counts(&text).into_iter().map(|(word, count)| Keyword { word, count }).collect();
        keywords.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
        keywords.truncate(limit as usize);
        keywords
    }

    /// Picks the sentences that carry most of a text's keywords, in their order.
    #[tool(effect = "pure")]
    pub fn summarise(
        /// The text to condense.
        text: String,
        /// How many sentences to keep: 1 or more.
        sentence_count: u32,
    ) -> Result<String, ToolError> {
        if sentence_count == 0 {
            return Err(ToolError::input("`sentence-count` is 0: ask for 1 or more"));
        }
        let counts = counts(&text);
        let mut ranked: Vec<(usize, &str)> = sentences(&text).enumerate().collect();
        // The sort is stable: of equals, the earlier sentence wins.
        ranked.sort_by_key(|(_, sentence)| std::cmp::Reverse(weight(sentence, &counts)));
        ranked.truncate(sentence_count as usize);
        ranked.sort_by_key(|(position, _)| *position);
        let kept: Vec<&str> = ranked.into_iter().map(|(_, sentence)| sentence).collect();
        Ok(kept.join(" "))
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| word.contains(char::is_alphanumeric))
    }

    fn sentences(text: &str) -> impl Iterator<Item = &str> {
        let ends = |c: char| c.is_whitespace();
        let mut start = 0;
        let breaks =
            text.match_indices(ends).filter(|(at, _)| text[..*at].ends_with(['.', '!', '?'])).map(|(at, _)| at);
        let pieces: Vec<&str> =
            breaks.chain([text.len()]).map(|end| &text[std::mem::replace(&mut start, end)..end]).collect();
        pieces.into_iter().map(str::trim).filter(|sentence| !sentence.is_empty())
    }

    fn counts(text: &str) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for word in words(text).map(str::to_lowercase).filter(|word| is_telling(word)) {
            *counts.entry(word).or_insert(0) += 1;
        }
        counts
    }

    fn is_telling(word: &str) -> bool {
        word.chars().count() >= KEYWORD_CHARS_MIN && !COMMON.split(' ').any(|common| common == word)
    }

    fn weight(sentence: &str, counts: &HashMap<String, u32>) -> u32 {
        words(sentence).filter_map(|word| counts.get(&word.to_lowercase())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::text::*;

    const NOTE: &str = "Orders rose in May. The weather was fine.\nMay orders came from Berlin!";

    #[test]
    fn stats_count_what_they_say() {
        let expected = TextStats { words: 13, lines: 2, sentences: 3, characters: 70, bytes: 70 };
        assert_eq!(stats(NOTE.to_owned()), expected);
        assert_eq!(stats("größer".to_owned()).bytes, 8);
        assert_eq!(stats(String::new()), TextStats { words: 0, lines: 0, sentences: 0, characters: 0, bytes: 0 });
    }

    #[test]
    fn keywords_rank_by_count_then_name() {
        let found: Vec<(String, u32)> =
            keywords(NOTE.to_owned(), 3).into_iter().map(|keyword| (keyword.word, keyword.count)).collect();
        assert_eq!(found, [("may".to_owned(), 2), ("orders".to_owned(), 2), ("berlin".to_owned(), 1)]);
    }

    #[test]
    fn a_summary_keeps_the_telling_sentences_in_order() {
        assert_eq!(summarise(NOTE.to_owned(), 2).unwrap(), "Orders rose in May. May orders came from Berlin!");
        assert_eq!(summarise(NOTE.to_owned(), 0).unwrap_err().code, "input.invalid");
    }
}
