//! Undoes the content codings that the host offers to servers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    Brotli(Pin<Box<BrotliDecoder<R>>>, Window),
}

/// The window of a brotli body, in MiB of those that a call may have.
pub(super) enum Window {
    /// The first octet of the body tells how large it is.
    Untold(Arc<Semaphore>),
    Taken {
        _held: OwnedSemaphorePermit,
    },
}

impl<R: AsyncBufRead> Decoder<R> {
    /// Returns the decoder of `coding`, which takes its window from `windows`; `body` back where there is nothing to undo.
    pub(super) fn new(coding: Coding, body: R, windows: &Arc<Semaphore>) -> Result<Self, R> {
        match coding {
            Coding::Identity => Err(body),
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(body);
                decoder.multiple_members(true);
                Ok(Self::Gzip(Box::pin(decoder)))
            }
            Coding::Zlib => Ok(Self::Zlib(Box::pin(ZlibDecoder::new(body)))),
            Coding::Brotli => Ok(Self::Brotli(Box::pin(BrotliDecoder::new(body)), Window::Untold(windows.clone()))),
        }
    }

    /// Reads what is there.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Gzip(decoder) => decoder.as_mut().poll_read(cx, into),
            Self::Zlib(decoder) => decoder.as_mut().poll_read(cx, into),
            Self::Brotli(decoder, window) => {
                if let Window::Untold(windows) = window {
                    let head = ready!(decoder.as_mut().get_pin_mut().poll_fill_buf(cx))?;
                    let mib = window_mib(head.first().copied().unwrap_or_default())?;
                    let held = windows.clone().try_acquire_many_owned(mib).map_err(|_| too_many())?;
                    *window = Window::Taken { _held: held };
                }
                decoder.as_mut().poll_read(cx, into)
            }
        }
    }
}

/// Returns the MiB that the window of a brotli body takes, by its first octet (RFC 7932, section 9.1).
///
/// # Errors
/// What the standard has no meaning for. The decoder takes it for an extension, whose windows have up to 1 GiB instead of
/// 16 MiB.
fn window_mib(first: u8) -> io::Result<u32> {
    match (first & 1, (first >> 1) & 7, (first >> 4) & 7) {
        (0, ..) => Ok(1),
        (_, 0, 1) => Err(io::Error::new(io::ErrorKind::InvalidData, "a large window")),
        (_, 0, _) => Ok(1),
        // 18 to 24 bits.
        (_, more, _) => Ok(((1_u32 << (17 + more)) >> 20).max(1)),
    }
}

fn too_many() -> io::Error {
    let error = ErrorCode::HttpResponseContentCoding(None);
    io::Error::other(Refusal::denied("limit.response", error, "the windows of its brotli bodies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the whole of `body`, and returns its decoder too.
    async fn decoded(body: &'static [u8], windows: &Arc<Semaphore>) -> io::Result<(Vec<u8>, Decoder<&'static [u8]>)> {
        let decoder = Decoder::new(Coding::Brotli, body, windows);
        let mut decoder = decoder.unwrap_or_else(|_| panic!("there is a coding to undo"));
        let mut bytes = vec![0; 100];
        let mut into = ReadBuf::new(&mut bytes);
        std::future::poll_fn(|cx| decoder.poll_read(cx, &mut into)).await?;
        Ok((into.filled().to_vec(), decoder))
    }

    #[test]
    fn a_window_is_as_large_as_its_body_says() {
        let of = |first| window_mib(first).map_err(|error| error.to_string());
        assert_eq!([0x00, 0x01, 0x21, 0x71, 0x03, 0x05, 0x07].map(of), [1; 7].map(Ok));
        assert_eq!([0x09, 0x0b, 0x0d, 0x0f, 0x1f, 0x8f].map(of), [2, 4, 8, 16, 16, 16].map(Ok));
        assert_eq!([0x11, 0x91].map(of), ["a large window".to_owned(), "a large window".to_owned()].map(Err));
    }

    #[tokio::test]
    async fn the_windows_of_a_call_have_a_size_together() {
        // A window of 22 bits, an uncompressed block of one octet, and an empty last one.
        let small: &[u8] = &[0x0b, 0x00, 0x80, b'x', 0x03];
        // The same of 24 bits.
        let large: &[u8] = &[0x0f, 0x00, 0x80, b'x', 0x03];
        let windows = Arc::new(Semaphore::new(20));
        let (bytes, held) = decoded(large, &windows).await.unwrap();
        let (_, other) = decoded(small, &windows).await.unwrap();
        assert_eq!(bytes, b"x");
        let refused = decoded(small, &windows).await.err().unwrap();
        let refusal = refused.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()).unwrap();
        assert_eq!(refusal.code, Some("limit.response"));
        drop((held, other));
        assert!(decoded(large, &windows).await.is_ok(), "a body that is gone holds no window");
        assert!(decoded(&[0x11, 30, 0x00, 0x80, b'x', 0x03], &windows).await.is_err());
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
