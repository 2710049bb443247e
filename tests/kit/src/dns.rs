//! A name server on this machine that answers as a test says, and remembers every question.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the thread looks whether it is to end.
const STOP_POLL: Duration = Duration::from_millis(20);

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A running name server; it ends when it is dropped.
pub struct DnsServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// For each name what is answered to the first question, the second, and so on; the last goes on.
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    questions: Mutex<Vec<String>>,
    is_stopped: AtomicBool,
}

impl DnsServer {
    /// Starts a server on a free port of the loopback.
    ///
    /// # Panics
    /// Where the machine has no port left.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_read_timeout(Some(STOP_POLL)).expect("the socket can wait");
        let address = socket.local_addr().expect("the socket has an address");
        let state = Arc::new(State::default());
        let serving = state.clone();
        let thread = std::thread::spawn(move || serve(&socket, &serving));
        Self { address, state, thread: Some(thread) }
    }

    /// Says what `name` stands for, and forgets what was asked about it. Each answer is for one question of each type, and
    /// the last one for all after it.
    ///
    /// # Panics
    /// Where an address is not one.
    pub fn on(&self, name: &str, answers: &[&[&str]]) {
        let parsed = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().expect("it is an address")).collect();
        let answers = answers.iter().map(parsed).collect();
        self.forget(name);
        locked(&self.state.answers).insert(name.to_owned(), answers);
    }

    /// Knows nothing of `name` any more, as at the start.
    pub fn forget(&self, name: &str) {
        locked(&self.state.answers).remove(name);
        locked(&self.state.questions).retain(|question| question.split(' ').nth(1) != Some(name));
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns every question so far: `A example.test`.
    pub fn questions(&self) -> Vec<String> {
        locked(&self.state.questions).clone()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.state.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, state: &State) {
    let mut packet = [0; 1500];
    while !state.is_stopped.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        if let Some(reply) = reply(&packet[..length], state) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// Answers one message, or nothing where it is none (RFC 1035, section 4).
fn reply(message: &[u8], state: &State) -> Option<Vec<u8>> {
    let (name, after) = name(message, 12)?;
    let kind = u16::from_be_bytes([*message.get(after)?, *message.get(after + 1)?]);
    let question = message.get(12..after + 4)?;
    let label = match kind {
        TYPE_A => "A",
        TYPE_AAAA => "AAAA",
        _ => "OTHER",
    };
    let found = answers(state, &format!("{label} {name}"), &name);
    let is_known = found.is_some();
    let records: Vec<Vec<u8>> = found.unwrap_or_default().iter().filter_map(|ip| record(kind, *ip)).collect();
    let mut reply = message.get(..2)?.to_vec();
    // A response with recursion; NXDOMAIN for names that nobody spoke of.
    reply.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1]);
    reply.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend_from_slice(question);
    reply.extend(records.concat());
    Some(reply)
}

/// Returns what the question gets this time; `None` where the name is unknown.
fn answers(state: &State, question: &str, name: &str) -> Option<Vec<IpAddr>> {
    let mut questions = locked(&state.questions);
    let before = questions.iter().filter(|asked| *asked == question).count();
    questions.push(question.to_owned());
    let answers = locked(&state.answers);
    let answers = answers.get(name)?;
    answers.get(before).or(answers.last()).cloned()
}

/// Reads the labels from `at`, and returns them with the place after them.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

/// One record of the asked type, with a time to live of nothing.
fn record(kind: u16, address: IpAddr) -> Option<Vec<u8>> {
    let data = match (kind, address) {
        (TYPE_A, IpAddr::V4(address)) => address.octets().to_vec(),
        (TYPE_AAAA, IpAddr::V6(address)) => address.octets().to_vec(),
        _ => return None,
    };
    // A pointer to the question's name, type, class IN, TTL 0.
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    record.extend(data);
    Some(record)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
