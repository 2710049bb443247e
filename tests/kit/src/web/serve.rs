//! Accepts connections, reads requests and does with them what the script says.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::{Reply, Seen, State, http2, locked};

/// Octets of a request's head: more than any host here sends.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// Octets of a request's body.
const BODY_BYTES_MAX: usize = 64 << 20;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Serves until `stopped`, on this thread.
pub(super) fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    state: &Arc<State>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is one");
        tokio::select! {
            () = accept(&listener, acceptor, state) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: &tokio::net::TcpListener, acceptor: Option<TlsAcceptor>, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = {
            let mut connections = locked(&state.connections);
            *connections += 1;
            *connections
        };
        *locked(&state.open) += 1;
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            // A client that goes away is its own business.
            let _ = match acceptor {
                None => converse(stream, connection, &state).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        http2::converse(stream, connection, &state).await
                    }
                    Ok(stream) => converse(stream, connection, &state).await,
                    Err(error) => Err(error),
                },
            };
            *locked(&state.open) -= 1;
        });
    }
}

async fn converse(stream: impl Stream, connection: usize, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = request(&mut stream).await? {
        let seen = Seen { connection, ..seen };
        let path = seen.target.split('?').next().unwrap_or_default().to_owned();
        locked(&state.seen).push(seen.clone());
        let reply = locked(&state.replies).get(&path).cloned();
        let reply =
            reply.unwrap_or_else(|| Reply::Page { status: 404, headers: vec![], body: b"nothing here".to_vec() });
        if !answer(stream.get_mut(), &seen, reply).await? {
            return stream.get_mut().shutdown().await;
        }
    }
    Ok(())
}

/// Answers; whether the connection stays.
async fn answer(stream: &mut impl Stream, seen: &Seen, reply: Reply) -> std::io::Result<bool> {
    match reply {
        Reply::Echo => {
            page(stream, seen, 200, &[], &echoed(seen)).await?;
            Ok(true)
        }
        Reply::Page { status, headers, body } => {
            page(stream, seen, status, &headers, &body).await?;
            Ok(true)
        }
        Reply::Octets { head, piece, times } => {
            stream.write_all(&head).await?;
            for _ in 0..times {
                stream.write_all(&piece).await?;
            }
            stream.flush().await?;
            Ok(false)
        }
        Reply::Stalled { head, piece, every_ms } => {
            stream.write_all(&head).await?;
            loop {
                stream.flush().await?;
                pause(every_ms).await;
                stream.write_all(&piece).await?;
            }
        }
        Reply::Silent => {
            while stream.read(&mut [0; 64]).await? > 0 {}
            Ok(false)
        }
    }
}

/// The request as JSON.
pub(super) fn echoed(seen: &Seen) -> Vec<u8> {
    let body = json!({
        "method": seen.method, "target": seen.target, "headers": seen.headers,
        "body": String::from_utf8_lossy(&seen.body),
    });
    body.to_string().into_bytes()
}

pub(crate) async fn page(
    stream: &mut impl Stream,
    seen: &Seen,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} \r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes()).await?;
    if seen.method != "HEAD" {
        stream.write_all(body).await?;
    }
    stream.flush().await
}

/// Reads the next request; `None` where the client has gone.
pub(crate) async fn request(stream: &mut BufReader<impl Stream>) -> std::io::Result<Option<Seen>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let text = line(stream).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut seen = Seen { method, target, headers, body: Vec::new(), connection: 0 };
    seen.body = body(stream, &seen).await?;
    Ok(Some(seen))
}

/// One line without its end; `None` at the end of the connection.
async fn line(stream: &mut BufReader<impl Stream>) -> std::io::Result<Option<String>> {
    let mut text = Vec::new();
    let mut limited = stream.take(HEAD_BYTES_MAX as u64);
    if limited.read_until(b'\n', &mut text).await? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned()))
}

async fn body(stream: &mut BufReader<impl Stream>, seen: &Seen) -> std::io::Result<Vec<u8>> {
    if seen.header("transfer-encoding").is_some() {
        return chunked(stream).await;
    }
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0).min(BODY_BYTES_MAX);
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn chunked(stream: &mut BufReader<impl Stream>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let text = line(stream).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let length = usize::from_str_radix(text.trim(), 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
        let mut chunk = vec![0; length.min(BODY_BYTES_MAX)];
        stream.read_exact(&mut chunk).await?;
        bytes.extend_from_slice(&chunk);
        if length == 0 {
            // Trailers, up to an empty line.
            while line(stream).await?.is_some_and(|text| !text.is_empty()) {}
            return Ok(bytes);
        }
        line(stream).await?;
    }
}

#[expect(clippy::disallowed_methods, reason = "a server keeps people waiting in real time")]
pub(crate) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
