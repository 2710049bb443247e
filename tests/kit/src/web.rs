//! A web server on this machine that does as a test says, well or ill, and remembers what it was asked.
//!
//! It is written by hand, as the fake model server is: a library would keep it from answering what no server should.

pub mod coded;
mod http2;
pub(crate) mod serve;
mod tls;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use tls::{Certificates, Identity, Validity};

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with the request as JSON: method, target, headers, body. The connection stays.
    Echo,
    /// Answers as servers do. The connection stays.
    Page { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Writes these octets as they are, so many times, and closes.
    Octets { head: Vec<u8>, piece: Vec<u8>, times: usize },
    /// The same, and never closes.
    Stalled { head: Vec<u8>, piece: Vec<u8>, every_ms: u64 },
    /// Says nothing, until the client closes.
    Silent,
}

impl Reply {
    /// A page with this text.
    pub fn text(text: &str) -> Self {
        Self::Page { status: 200, headers: vec![], body: text.into() }
    }

    /// A page with one header more.
    pub fn page(status: u16, name: &str, value: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::Page { status, headers: vec![(name.into(), value.into())], body: body.into() }
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::page(status, "location", location, "")
    }

    /// These octets, once.
    pub fn octets(head: impl Into<Vec<u8>>) -> Self {
        Self::Octets { head: head.into(), piece: vec![], times: 0 }
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection that it came over, from 1 in the order in which they were accepted.
    pub connection: usize,
}

impl Seen {
    /// Returns the first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running server; it ends when it is dropped.
pub struct WebServer {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    replies: Mutex<HashMap<String, Reply>>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    open: Mutex<usize>,
}

impl WebServer {
    /// Starts a server without TLS, on a free port of the loopback.
    ///
    /// # Panics
    /// Where the machine has no port left.
    pub fn start() -> Self {
        Self::with("127.0.0.1:0", None)
    }

    /// Starts a server without TLS at this address.
    ///
    /// # Panics
    /// Where it is taken.
    pub fn start_at(address: &str) -> Self {
        Self::with(address, None)
    }

    /// Starts a server with TLS.
    ///
    /// # Panics
    /// Where the machine has no port left, or the certificate does not fit its key.
    pub fn start_tls(identity: &Identity) -> Self {
        Self::with("127.0.0.1:0", Some(identity.acceptor("http/1.1")))
    }

    /// Starts a server with TLS that speaks HTTP/2.
    ///
    /// # Panics
    /// Where the machine has no port left, or the certificate does not fit its key.
    pub fn start_http2(identity: &Identity) -> Self {
        Self::with("127.0.0.1:0", Some(identity.acceptor("h2")))
    }

    fn with(address: &str, acceptor: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        listener.set_nonblocking(true).expect("the listener can wait");
        let address = listener.local_addr().expect("the listener has an address");
        let (stop, stopped) = oneshot::channel();
        let state = Arc::new(State::default());
        let serving = state.clone();
        let thread = std::thread::spawn(move || serve::serve(listener, acceptor, &serving, stopped));
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Says what is done with requests for `path`. What nothing is said about is answered with 404.
    pub fn on(&self, path: &str, reply: Reply) {
        locked(&self.state.replies).insert(path.to_owned(), reply);
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns `host:port` by this name.
    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.port())
    }

    /// Returns what was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.state.seen).clone()
    }

    /// Returns how many connections were accepted so far.
    pub fn connections(&self) -> usize {
        *locked(&self.state.connections)
    }

    /// Returns how many of them are open, as far as the server has noticed.
    pub fn open(&self) -> usize {
        *locked(&self.state.open)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
