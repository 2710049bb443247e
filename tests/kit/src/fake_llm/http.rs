//! As much of HTTP/1.1 as one request and one reply need, written by hand: a script must be able to cut a reply at any
//! byte, and libraries are built to prevent that.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::State;
use super::answer::{Answer, Heartbeat};
use super::body::chunk;
use super::request::Recorded;

/// Longest head of a request, in bytes: as servers commonly have it.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Longest body of a request, in bytes: more than any context window holds.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Longest wait for a request to be complete: a client that hangs must not hang the test.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);

/// The parts of a request's head that matter here.
struct Head {
    method: String,
    /// The path, and the query behind it.
    target: String,
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
    let request = tokio::time::timeout(REQUEST_WAIT_MAX, request(&mut stream, state)).await;
    let answer = match request.unwrap_or_else(|_| Err(Refusal::new(408, "the request did not end"))) {
        Ok(request) => state.answer(request),
        Err(refusal) => {
            state.fault(&refusal.text);
            Answer::fault(refusal.status, &refusal.text)
        }
    };
    send(stream.into_inner(), &answer).await
}

impl Refusal {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

async fn request(stream: &mut BufReader<TcpStream>, state: &State) -> Result<Recorded, Refusal> {
    let head = Head::parse(&head(stream).await?)?;
    let length = match head.header("content-length") {
        None if head.method == "POST" => return Err(Refusal::new(411, "the request has no Content-Length")),
        None => Some(0),
        Some(text) => text.parse::<usize>().ok(),
    };
    let length = length.ok_or_else(|| Refusal::new(400, "the Content-Length is not a number"))?;
    if length > BODY_BYTES_MAX {
        return Err(Refusal::new(413, format!("the request is longer than {BODY_BYTES_MAX} bytes")));
    }
    let mut bytes = vec![0; length];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|_| Refusal::new(400, "the body is shorter than its Content-Length"))?;
    let body = match head.json(&bytes) {
        Ok(body) => body,
        Err(_) if bytes.is_empty() || state.takes_any_body() => Value::Null,
        Err(refusal) => return Err(refusal),
    };
    Ok(Recorded::new(&head.method, &head.target, &head.headers, bytes, body))
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
        let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
            return Err(Refusal::new(400, "the request line is not `METHOD path HTTP/1.1`"));
        };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Self { method: method.to_owned(), target: target.to_owned(), headers })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn json(&self, bytes: &[u8]) -> Result<Value, Refusal> {
        if !self.header("content-type").is_some_and(|text| text.starts_with("application/json")) {
            return Err(Refusal::new(415, "the request is not `application/json`"));
        }
        serde_json::from_slice(bytes).map_err(|e| Refusal::new(400, format!("the body is no JSON: {e}")))
    }
}

async fn send(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    pause(answer.manner.delay_ms).await;
    if !answer.manner.hang_up {
        speak(&mut stream, answer).await?;
    }
    if answer.manner.reset {
        stream.set_zero_linger()?;
        drop(stream);
        return Ok(());
    }
    stream.shutdown().await
}

async fn speak(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let manner = &answer.manner;
    stream.write_all(answer.head().as_bytes()).await?;
    for piece in answer.pieces() {
        pause(manner.drip.map_or(manner.event_delay_ms, |drip| drip.ms)).await;
        stream.write_all(&piece).await?;
    }
    if manner.stall_after_events.is_some() {
        stall(stream, manner.heartbeat).await?;
    }
    Ok(())
}

/// Lasts until the client leaves, or the server ends, which drops this.
async fn stall(stream: &mut TcpStream, heartbeat: Option<Heartbeat>) -> std::io::Result<()> {
    let Some(heartbeat) = heartbeat else { return std::future::pending().await };
    loop {
        pause(heartbeat.ms).await;
        stream.write_all(&chunk(heartbeat.says.as_bytes())).await?;
    }
}

#[expect(clippy::disallowed_methods, reason = "a fake server keeps people waiting in real time")]
async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
