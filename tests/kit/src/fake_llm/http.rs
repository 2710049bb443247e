//! As much of HTTP/1.1 as one request and one reply need, written by hand: a script must be able to cut a reply at any
//! byte, and libraries are built to prevent that.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::reply::{Body, Reply};
use super::{Recorded, State};

/// Longest head of a request, in bytes: as servers commonly have it.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Longest body of a request, in bytes: more than any context window holds.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Longest wait for a request to be complete: a client that hangs must not hang the test.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);

const PATH: &str = "/v1/chat/completions";

/// The parts of a request's head that matter here.
struct Head {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

/// What is answered when the request itself is wrong.
struct Refusal {
    status: u16,
    text: String,
}

/// Serves until `stopped`, on this thread.
pub(super) fn serve(listener: TcpListener, state: Arc<State>, stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return state.fault(&format!("no runtime: {error}")),
    };
    runtime.block_on(async move {
        let accepting = accept(listener, Arc::clone(&state));
        tokio::select! {
            result = accepting => if let Err(error) = result { state.fault(&format!("accept: {error}")) },
            _ = stopped => {}
        }
    });
}

async fn accept(listener: TcpListener, state: Arc<State>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // A client that goes away is its own business: a test of deadlines does just that.
            let _ = exchange(stream, &state).await;
        });
    }
}

async fn exchange(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = tokio::time::timeout(REQUEST_WAIT_MAX, request(&mut stream)).await;
    let request = request.unwrap_or_else(|_| Err(Refusal::new(408, "the request did not end")));
    let refusal = match request {
        Err(refusal) => {
            state.fault(&refusal.text);
            refusal
        }
        Ok(request) => {
            let body = request.body.clone();
            match state.answer(request) {
                Ok(reply) => return send(stream.get_mut(), &reply, reply.body(&body)).await,
                Err(fault) => Refusal::new(500, fault),
            }
        }
    };
    let text = format!("fake-llm: {}\n", refusal.text);
    let reply = Reply { status: Some(refusal.status), ..Reply::default() };
    let body = Body { content_type: "text/plain; charset=utf-8", bytes: text.into_bytes(), is_chunked: false };
    send(stream.get_mut(), &reply, body).await
}

impl Refusal {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Result<Recorded, Refusal> {
    let head = Head::parse(&head(stream).await?)?;
    if head.method != "POST" || head.path != PATH {
        return Err(Refusal::new(404, format!("`{} {}` is not `POST {PATH}`", head.method, head.path)));
    }
    let length = head.header("content-length").and_then(|text| text.parse::<usize>().ok());
    let length = length.ok_or_else(|| Refusal::new(411, "the request has no Content-Length"))?;
    if length > BODY_BYTES_MAX {
        return Err(Refusal::new(413, format!("the request is longer than {BODY_BYTES_MAX} bytes")));
    }
    let mut bytes = vec![0; length];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|_| Refusal::new(400, "the body is shorter than its Content-Length"))?;
    let is_json = head.header("content-type").is_some_and(|text| text.starts_with("application/json"));
    if !is_json {
        return Err(Refusal::new(415, "the request is not `application/json`"));
    }
    let body: Value =
        serde_json::from_slice(&bytes).map_err(|e| Refusal::new(400, format!("the body is no JSON: {e}")))?;
    Ok(Recorded { path: head.path.clone(), has_authorization: head.header("authorization").is_some(), body })
}

/// Reads up to the empty line.
async fn head(stream: &mut BufReader<TcpStream>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() == HEAD_BYTES_MAX {
            return Err(Refusal::new(431, format!("the head is longer than {HEAD_BYTES_MAX} bytes")));
        }
        bytes.push(stream.read_u8().await.map_err(|_| Refusal::new(400, "the head has no end"))?);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::new(400, "the head is not UTF-8"))
}

impl Head {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(path), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
            return Err(Refusal::new(400, "the request line is not `METHOD path HTTP/1.1`"));
        };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Self { method: method.to_owned(), path: path.to_owned(), headers })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

async fn send(stream: &mut TcpStream, reply: &Reply, body: Body) -> std::io::Result<()> {
    pause(reply.delay_ms).await;
    stream.write_all(head_of(reply, &body).as_bytes()).await?;
    let bytes = &body.bytes[..reply.cut_after.unwrap_or(usize::MAX).min(body.bytes.len())];
    match reply.drip {
        None => stream.write_all(bytes).await?,
        Some(drip) => {
            for piece in bytes.chunks(drip.bytes) {
                pause(drip.ms).await;
                stream.write_all(piece).await?;
            }
        }
    }
    stream.shutdown().await
}

fn head_of(reply: &Reply, body: &Body) -> String {
    let length = if body.is_chunked {
        ("transfer-encoding", "chunked".to_owned())
    } else {
        ("content-length", body.bytes.len().to_string())
    };
    let mut headers = vec![("content-type", body.content_type.to_owned()), length, ("connection", "close".to_owned())];
    headers.retain(|(name, _)| !reply.headers.keys().any(|given| given.eq_ignore_ascii_case(name)));
    let given = reply.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let lines: String = headers.into_iter().chain(given).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {} \r\n{lines}\r\n", reply.status.unwrap_or(200))
}

#[expect(clippy::disallowed_methods, reason = "a fake server keeps people waiting in real time")]
async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
