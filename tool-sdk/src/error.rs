//! The error of a tool: a stable code for programs, a message for people and models, and whether to try again.

use std::fmt;
use std::io::{Error, ErrorKind};

/// Tells a caller why a tool could not do its work. It is a value like any other, not a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolError {
    /// Stable and dotted, like `io.not_found`: callers branch on it.
    pub code: String,
    /// A lowercase fragment that says what happened, best with what to do.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

impl ToolError {
    /// Returns an error that the same call would meet again.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false }
    }

    /// Returns an error that may be gone when the call is tried again.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::new(code, message) }
    }

    /// Returns an error about what the caller passed: code `input.invalid`.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new("input.invalid", message)
    }

    /// Puts what was being attempted in front of the message: `read /data/a.csv: no such file`.
    pub fn about(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for ToolError {}

impl From<Error> for ToolError {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => "io.not_found",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "io.denied",
            ErrorKind::AlreadyExists => "io.exists",
            ErrorKind::IsADirectory => "io.is_directory",
            ErrorKind::NotADirectory => "io.not_directory",
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => "io.invalid",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "io.full",
            ErrorKind::TimedOut => return Self::transient("io.timeout", error.to_string()),
            ErrorKind::Interrupted | ErrorKind::WouldBlock => {
                return Self::transient("io.interrupted", error.to_string());
            }
            _ => "io.failed",
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_have_stable_codes() {
        let error = ToolError::from(Error::from(ErrorKind::NotFound)).about("read /data/a.csv");
        assert_eq!(error.code, "io.not_found");
        assert!(error.message.starts_with("read /data/a.csv: "));
        assert!(!error.retryable);
        assert!(ToolError::from(Error::from(ErrorKind::TimedOut)).retryable);
    }

    #[test]
    fn it_reads_as_a_sentence_with_its_code() {
        assert_eq!(ToolError::input("`limit` is 0").to_string(), "`limit` is 0 [input.invalid]");
    }
}
