//! A value that can be used and not shown.
//!
//! Promises: one type for every secret of the host, the key of a model's API included; no `Display` and no `Serialize`;
//! its `Debug` text says nothing of the value, not even its length; the memory is wiped when the last clone goes. Leaves
//! to others: where a secret is found (`config`), and what becomes of a value that comes back (`sandbox`, `planner`).

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::{Failure, Kind};

/// Bytes of a secret: the longest in use are signed tokens of a few KiB.
pub const SECRET_BYTES_MAX: usize = 16 << 10;

/// A secret value: printable ASCII, so that it can stand in a header as it is. Clones share one piece of memory.
///
/// ```
/// use cofferdam::domain::Secret;
///
/// let secret = Secret::new("correct horse")?;
/// assert_eq!(format!("{secret:?}"), "[secret]");
/// # Ok::<(), cofferdam::domain::Failure>(())
/// ```
///
/// It has no text and no JSON:
///
/// ```compile_fail
/// fn shown(secret: cofferdam::domain::Secret) -> String { secret.to_string() }
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes `text`.
    ///
    /// # Errors
    /// `data.config` without the text: it is empty or longer than [`SECRET_BYTES_MAX`], has a space at an end, or
    /// characters that are no printable ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self, Failure> {
        let text = Zeroizing::new(text.into());
        let wrong = |what: &str| Failure::new(Kind::DataConfig, format!("take a secret: {what}"));
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() > SECRET_BYTES_MAX {
            return Err(wrong(&format!("it has more than {SECRET_BYTES_MAX} bytes")));
        }
        let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain || text.starts_with(' ') || text.ends_with(' ') {
            return Err(wrong("it has characters that cannot stand in a header")
                .hint("check it for a line end, a space at an end, or letters beyond ASCII"));
        }
        Ok(Self(Arc::new(text)))
    }

    /// Returns the text, for the one place that sends it or looks for it. What is made of it is as secret as it is.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What a guest writes for the value: this, and the secret's name.
pub const SECRET_PLACEHOLDER: &str = "cofferdam-secret-";

/// Returns what stands for the value of the secret `name`.
pub fn secret_placeholder(name: &str) -> String {
    format!("{SECRET_PLACEHOLDER}{name}")
}

/// Returns whether `text` can name a secret: lower-case letters, digits, `-` and `_`, first a letter, at most 64 bytes.
/// A placeholder ends where its name ends, so the name holds nothing that could stand behind it in a header.
pub fn is_secret_name(text: &str) -> bool {
    text.len() <= 64
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && text.bytes().all(is_secret_name_byte)
}

/// Returns whether `byte` can stand in the name of a secret.
pub fn is_secret_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;

    /// Answers for any type whether it has a trait: the inherent constant is there only where it has, and goes first.
    struct Probe<T>(PhantomData<T>);

    trait Lacks {
        const SHOWS: bool = false;
        const SERIALIZES: bool = false;
        const COMPARES: bool = false;
    }

    impl<T> Lacks for Probe<T> {}

    impl<T: fmt::Display> Probe<T> {
        const SHOWS: bool = true;
    }

    impl<T: serde::Serialize> Probe<T> {
        const SERIALIZES: bool = true;
    }

    impl<T: PartialEq> Probe<T> {
        const COMPARES: bool = true;
    }

    #[test]
    fn a_secret_has_no_text_no_json_and_no_comparison_that_takes_time() {
        let of_secret = [Probe::<Secret>::SHOWS, Probe::<Secret>::SERIALIZES, Probe::<Secret>::COMPARES];
        assert_eq!(of_secret, [false; 3]);
        // The probe sees what is there.
        let of_text = [Probe::<String>::SHOWS, Probe::<String>::SERIALIZES, Probe::<String>::COMPARES];
        assert_eq!(of_text, [true; 3]);
    }

    #[test]
    fn its_debug_text_is_the_same_for_all() {
        let shown = |text: &str| format!("{:?} {:#?}", Secret::new(text).unwrap(), Some(Secret::new(text).unwrap()));
        assert_eq!(shown("hunter2hunter2"), shown("x"));
        assert!(!shown("hunter2").contains("hunter2"));
    }

    #[test]
    fn what_no_header_can_hold_is_refused_without_being_repeated() {
        let long = "x".repeat(SECRET_BYTES_MAX + 1);
        for wrong in ["", "hunter2\n", "hunter2\r\nhost: evil", " hunter2", "hunter2 ", "hünter2", &long] {
            let failure = Secret::new(wrong).expect_err("it is no secret");
            assert_eq!(failure.kind, Kind::DataConfig);
            let told = format!("{failure:?}");
            assert!(!told.contains("unter2") && !told.contains("xxx"), "{told}");
        }
        assert_eq!(Secret::new("hunter2 and more").unwrap().expose(), "hunter2 and more");
    }

    #[test]
    fn names_are_plain() {
        assert!(is_secret_name("github") && is_secret_name("git-hub_2"));
        for wrong in ["", "GitHub", "2x", "a.b", "a b", "ü", &"x".repeat(65)] {
            assert!(!is_secret_name(wrong), "{wrong}");
        }
    }
}
