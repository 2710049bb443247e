//! Bodies that are short on the wire and long when they are decoded.

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader};

/// Codes `length` octets, all zero, with `coding`: `gzip`, `deflate` or `br`.
///
/// # Panics
/// For another coding.
pub async fn zeros(coding: &str, length: u64) -> Vec<u8> {
    coded(coding, BufReader::new(tokio::io::repeat(0).take(length))).await
}

/// Codes a text.
///
/// # Panics
/// For another coding.
pub async fn text(coding: &str, text: &str) -> Vec<u8> {
    coded(coding, text.as_bytes()).await
}

async fn coded(coding: &str, plain: impl AsyncBufRead + Unpin) -> Vec<u8> {
    match coding {
        "gzip" => whole(GzipEncoder::new(plain)).await,
        "deflate" => whole(ZlibEncoder::new(plain)).await,
        "br" => whole(BrotliEncoder::with_quality(plain, async_compression::Level::Fastest)).await,
        other => panic!("`{other}` is not a coding"),
    }
}

async fn whole(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.expect("memory reads");
    bytes
}
