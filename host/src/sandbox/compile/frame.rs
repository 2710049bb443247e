//! What host and child tell each other: one request, one answer, both with their length in front.
//!
//! The child reads the compiler's own words and a stranger's component; so what it says is bounded here, whatever it is.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::domain::Digest;

/// Bytes of a text in an answer: one message of a compiler.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// Bytes that are read at first: more is made room for as it comes, so that a length alone takes no memory.
const FIRST_BYTES: u64 = 64 << 10;

/// Bytes in front of a request: digest of the engine that is to run it, and length of the component.
const HEAD_BYTES: usize = 40;

/// Returns what stands in front of a component of `bytes` bytes.
pub(super) fn head(identity: &Digest, bytes: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..32].copy_from_slice(identity.as_bytes());
    head[32..].copy_from_slice(&(bytes as u64).to_le_bytes());
    head
}

/// Reads a request: which engine it is for, and the component.
///
/// # Errors
/// It ends before its length.
pub(super) fn request(from: &mut impl Read) -> io::Result<(Digest, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    from.read_exact(&mut head)?;
    let (mut identity, mut length) = ([0; 32], [0; 8]);
    identity.copy_from_slice(&head[..32]);
    length.copy_from_slice(&head[32..]);
    let length = u64::from_le_bytes(length);
    let mut component = Vec::new();
    from.take(length).read_to_end(&mut component)?;
    if component.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((Digest::from_bytes(identity), component))
}

/// How a compilation ended, where the child lived to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It made code.
    Artefact(Vec<u8>),
    /// The compiler refuses the component, in these words.
    Invalid(String),
    /// There was no more memory.
    Memory,
    /// Its compiler makes code for another engine.
    OtherEngine,
    /// The machine does not let it bound itself.
    Unbounded(String),
}

impl Answer {
    /// Writes the answer.
    ///
    /// # Errors
    /// The host is gone.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (tag, content): (u8, &[u8]) = match self {
            Self::Artefact(code) => (0, code),
            Self::Invalid(why) => (1, cut(why)),
            Self::Memory => (2, &[]),
            Self::OtherEngine => (3, &[]),
            Self::Unbounded(why) => (4, cut(why)),
        };
        to.write_all(&[tag])?;
        to.write_all(&(content.len() as u64).to_le_bytes())?;
        to.write_all(content)?;
        to.flush()
    }

    /// Reads an answer whose code has `artefact_bytes_max` at most. `None` where it stops before its end.
    ///
    /// # Errors
    /// Says what is wrong with it: there is more than may be, or it is no answer.
    pub(super) async fn read(
        from: &mut (impl AsyncRead + Unpin),
        artefact_bytes_max: u64,
    ) -> Result<Option<Self>, Wrong> {
        let mut head = [0; 9];
        if from.read_exact(&mut head).await.is_err() {
            return Ok(None);
        }
        let mut length = [0; 8];
        length.copy_from_slice(&head[1..]);
        let length = u64::from_le_bytes(length);
        match head[0] {
            0 if length > artefact_bytes_max => return Err(Wrong::Long),
            0 => {}
            1..=4 if length <= TEXT_BYTES_MAX => {}
            _ => return Err(Wrong::Foreign),
        }
        let mut content = Vec::with_capacity(usize::try_from(length.min(FIRST_BYTES)).unwrap_or_default());
        let read = from.take(length).read_to_end(&mut content).await;
        if read.is_err() || content.len() as u64 != length {
            return Ok(None);
        }
        let text = |content: Vec<u8>| String::from_utf8_lossy(&content).into_owned();
        Ok(Some(match head[0] {
            0 => Self::Artefact(content),
            1 => Self::Invalid(text(content)),
            2 => Self::Memory,
            3 => Self::OtherEngine,
            4 => Self::Unbounded(text(content)),
            _ => return Err(Wrong::Foreign),
        }))
    }
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is longer than it may be.
    Long,
    /// It is nothing that a helper says.
    Foreign,
}

fn cut(text: &str) -> &[u8] {
    let length = text.len().min(usize::try_from(TEXT_BYTES_MAX).unwrap_or(usize::MAX));
    &text.as_bytes()[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<Answer>, Wrong> {
        Answer::read(&mut &bytes[..], 100).await
    }

    #[tokio::test]
    async fn answers_read_back_and_cut_ones_are_none() {
        let long = Answer::Invalid("x".repeat(9_000));
        for answer in [Answer::Artefact(vec![1; 100]), Answer::Memory, Answer::OtherEngine, long] {
            let mut bytes = Vec::new();
            answer.write(&mut bytes).unwrap();
            let expected = match &answer {
                Answer::Invalid(why) => Answer::Invalid(why[..4_096].to_owned()),
                other => other.clone(),
            };
            assert_eq!(read(&bytes).await, Ok(Some(expected)));
            for end in [0, 5, bytes.len() - 1] {
                assert_eq!(read(&bytes[..end]).await, Ok(None), "cut at {end}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_too_long_or_foreign_is_not_read() {
        let mut bytes = Vec::new();
        Answer::Artefact(vec![1; 101]).write(&mut bytes).unwrap();
        assert_eq!(read(&bytes).await, Err(Wrong::Long));
        let claims = [&[1][..], &u64::MAX.to_le_bytes()].concat();
        assert_eq!(read(&claims).await, Err(Wrong::Foreign));
        assert_eq!(read(b"usage: helper").await, Err(Wrong::Foreign));
        assert_eq!(read(&[9, 0, 0, 0, 0, 0, 0, 0, 0]).await, Err(Wrong::Foreign));
    }

    #[test]
    fn a_request_reads_back_and_a_cut_one_is_refused() {
        let identity = Digest::of(b"engine");
        let bytes = [&head(&identity, 3)[..], b"abc"].concat();
        assert_eq!(request(&mut &bytes[..]).unwrap(), (identity, b"abc".to_vec()));
        for end in [0, 39, 42] {
            assert!(request(&mut &bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
