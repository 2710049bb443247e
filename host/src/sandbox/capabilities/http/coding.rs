//! Undoes the content codings that the host offers to servers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::refusal::Refusal;

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    /// What HTTP calls `deflate`.
    Zlib,
    Brotli,
}

impl Coding {
    /// Reads the coding of an answer.
    ///
    /// # Errors
    /// For a coding that was not offered, or several on top of each other.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        let text = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match (text.as_str(), values.next()) {
            ("identity" | "", None) => Ok(Self::Identity),
            ("gzip" | "x-gzip", None) => Ok(Self::Gzip),
            ("deflate", None) => Ok(Self::Zlib),
            ("br", None) => Ok(Self::Brotli),
            // Without the text: it is the server's, which may echo a secret.
            _ => Err(Refusal::failed(ErrorCode::HttpResponseContentCoding(None))),
        }
    }
}

/// The octets that a coded body stands for.
pub(super) enum Decoder<R> {
    Gzip(Pin<Box<GzipDecoder<R>>>),
    Zlib(Pin<Box<ZlibDecoder<R>>>),
    Brotli(Pin<Box<BrotliDecoder<R>>>, Begun),
}

/// Whether the first octet of a body was looked at.
pub(super) struct Begun(bool);

impl<R: AsyncBufRead> Decoder<R> {
    /// Returns the decoder of `coding`, or `body` back where there is nothing to undo.
    pub(super) fn new(coding: Coding, body: R) -> Result<Self, R> {
        match coding {
            Coding::Identity => Err(body),
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(body);
                decoder.multiple_members(true);
                Ok(Self::Gzip(Box::pin(decoder)))
            }
            Coding::Zlib => Ok(Self::Zlib(Box::pin(ZlibDecoder::new(body)))),
            Coding::Brotli => Ok(Self::Brotli(Box::pin(BrotliDecoder::new(body)), Begun(false))),
        }
    }

    /// Reads what is there.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Gzip(decoder) => decoder.as_mut().poll_read(cx, into),
            Self::Zlib(decoder) => decoder.as_mut().poll_read(cx, into),
            Self::Brotli(decoder, Begun(true)) => decoder.as_mut().poll_read(cx, into),
            Self::Brotli(decoder, begun) => {
                let head = ready!(decoder.as_mut().get_pin_mut().poll_fill_buf(cx))?;
                if head.first().is_some_and(|octet| has_large_window(*octet)) {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a large window")));
                }
                *begun = Begun(true);
                decoder.as_mut().poll_read(cx, into)
            }
        }
    }
}

/// Whether a brotli body begins as RFC 7932 (section 9.1) forbids. The decoder takes it for an extension, whose windows
/// have up to 1 GiB instead of 16 MiB.
fn has_large_window(first: u8) -> bool {
    first & 0x7f == 0x11
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn decoded(coding: Coding, body: &[u8]) -> io::Result<Vec<u8>> {
        let Ok(mut decoder) = Decoder::new(coding, body) else { return Ok(body.to_vec()) };
        let mut bytes = vec![0; 100];
        let mut into = ReadBuf::new(&mut bytes);
        std::future::poll_fn(|cx| decoder.poll_read(cx, &mut into)).await?;
        Ok(into.filled().to_vec())
    }

    #[tokio::test]
    async fn a_window_is_no_larger_than_the_standard_lets_it_be() {
        // An uncompressed block of one octet and an empty last one, behind windows of 16 bits and of a large one.
        let plain = [0x0b, 0x00, 0x80, b'x', 0x03];
        assert_eq!(decoded(Coding::Brotli, &plain).await.unwrap(), b"x");
        for first in [0x11, 0x91] {
            let large = [first, 30, 0x00, 0x80, b'x', 0x03];
            assert_eq!(decoded(Coding::Brotli, &large).await.unwrap_err().to_string(), "a large window");
        }
    }

    #[test]
    fn only_a_coding_that_was_offered_is_undone() {
        let of = |values: &[&'static str]| {
            let values = values.iter().map(|value| (CONTENT_ENCODING, value.parse().unwrap()));
            Coding::of(&values.collect()).map_err(|refusal| format!("{:?}", refusal.error))
        };
        assert_eq!(of(&[]), Ok(Coding::Identity));
        assert_eq!(of(&["GZIP"]), Ok(Coding::Gzip));
        assert_eq!(of(&["br"]), Ok(Coding::Brotli));
        assert_eq!(of(&["deflate"]), Ok(Coding::Zlib));
        for wrong in [&["zstd"][..], &["gzip, gzip"], &["gzip", "br"], &["compress"]] {
            let told = of(wrong).unwrap_err();
            assert!(told.contains("HttpResponseContentCoding(None)"), "nothing of what the server says: {told}");
        }
    }
}
