//! Undoes the content codings that the host offers to servers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

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
            _ => Err(Refusal::failed(ErrorCode::HttpResponseContentCoding(Some(text)))),
        }
    }
}

/// The octets that a coded body stands for.
pub(super) enum Decoder<R> {
    Gzip(Pin<Box<GzipDecoder<R>>>),
    Zlib(Pin<Box<ZlibDecoder<R>>>),
    Brotli(Pin<Box<BrotliDecoder<R>>>),
}

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
            Coding::Brotli => Ok(Self::Brotli(Box::pin(BrotliDecoder::new(body)))),
        }
    }

    /// Reads what is there.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Gzip(decoder) => decoder.as_mut().poll_read(cx, into),
            Self::Zlib(decoder) => decoder.as_mut().poll_read(cx, into),
            Self::Brotli(decoder) => decoder.as_mut().poll_read(cx, into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_coding_that_was_offered_is_undone() {
        let of = |values: &[&'static str]| {
            let values = values.iter().map(|value| (CONTENT_ENCODING, value.parse().unwrap()));
            Coding::of(&values.collect()).map_err(|refusal| refusal.error.to_string())
        };
        assert_eq!(of(&[]), Ok(Coding::Identity));
        assert_eq!(of(&["GZIP"]), Ok(Coding::Gzip));
        assert_eq!(of(&["br"]), Ok(Coding::Brotli));
        assert_eq!(of(&["deflate"]), Ok(Coding::Zlib));
        for wrong in [&["zstd"][..], &["gzip, gzip"], &["gzip", "br"], &["compress"]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
