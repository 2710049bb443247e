//! Is it known what the attempts at a step have changed?

use crate::domain::Kind;

/// What attempts at a step may have changed, as far as their events tell. State machine and trace ask the same question
/// here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    has_written: bool,
    /// An attempt that had begun to write did not tell how that ended.
    is_open: bool,
}

impl Doubt {
    /// Notes that an attempt begins to change something.
    pub fn wrote(&mut self) {
        self.has_written = true;
    }

    /// Notes that the process of an attempt died.
    pub fn interrupted(&mut self) {
        self.is_open |= self.has_written;
    }

    /// Notes that an attempt failed, and answers whether it is unknown what was changed: something was begun, and this
    /// attempt, or one before it, did not tell how that ended. A tool that gives up tells, unless one of its writes is open:
    /// then it cannot know.
    pub fn failed(&mut self, kind: Kind, has_open_write: bool) -> bool {
        self.is_open |= self.has_written && leaves_open(kind, has_open_write);
        self.is_open
    }

    /// Notes that it is known again: the step succeeded, or somebody said that nothing happened.
    pub fn settled(&mut self) {
        *self = Self::default();
    }

    /// Answers whether something was begun of which nobody said that it did not happen.
    pub fn has_written(self) -> bool {
        self.has_written
    }
}

/// Answers whether an attempt that failed so, after it had begun to change something, leaves it unknown what it changed.
pub fn leaves_open(kind: Kind, has_open_write: bool) -> bool {
    has_open_write || !kind.is_told()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_unknown_until_somebody_tells() {
        let mut doubt = Doubt::default();
        assert!(!doubt.failed(Kind::ToolTrap, false), "nothing was begun");
        doubt.wrote();
        assert!(!doubt.failed(Kind::ToolDeclared, false), "the tool tells");
        assert!(!doubt.failed(Kind::NetworkHttp5xx, false), "its writes were answered: something else failed");
        assert!(doubt.failed(Kind::NetworkHttp5xx, true), "it cannot know");
        assert!(doubt.failed(Kind::ToolDeclared, false), "what it tells is of this attempt, and not of the one before");
        doubt.settled();
        assert!(!doubt.failed(Kind::ToolTrap, false));
    }

    #[test]
    fn a_write_that_is_open_leaves_a_doubt_whatever_the_tool_says() {
        for kind in Kind::ALL.iter().copied() {
            let mut doubt = Doubt::default();
            assert!(!doubt.failed(kind, true), "{kind}: nothing was begun");
            doubt.wrote();
            assert!(doubt.failed(kind, true), "{kind}");
        }
    }

    #[test]
    fn an_attempt_whose_process_died_leaves_a_doubt_where_it_had_begun_to_write() {
        for has_written in [false, true] {
            let mut doubt = Doubt::default();
            if has_written {
                doubt.wrote();
            }
            doubt.interrupted();
            assert_eq!(doubt.failed(Kind::HostDiverged, false), has_written);
        }
    }
}
