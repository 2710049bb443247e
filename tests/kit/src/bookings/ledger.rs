//! What was booked and cancelled, and in which way the service is ill. No network here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Such as `car-3`; numbers are of all kinds together, from 1.
    pub id: String,
    /// `flight`, `hotel` or `car`.
    pub kind: String,
    pub what: String,
    /// The key of the request that made it; empty where it had none.
    pub key: String,
    pub is_cancelled: bool,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    pub target: String,
    /// Empty where it had none.
    pub key: String,
    /// What was answered; `None` where the connection was broken off instead.
    pub status: Option<u16>,
}

/// A request, read.
pub(super) struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub key: &'a str,
    pub body: &'a [u8],
}

/// What to do about a request once it is done.
pub(super) struct Answer {
    pub status: u16,
    pub body: Value,
    /// How long to wait first, in milliseconds.
    pub wait_ms: u64,
    /// Whether to break the connection off instead.
    pub is_dropped: bool,
}

pub(super) struct Ledger {
    bookings: Vec<Booking>,
    cancelled: Vec<String>,
    effects: BTreeMap<String, u32>,
    log: Vec<Logged>,
    /// Status and how often, by kind.
    failing: BTreeMap<String, (u16, u32)>,
    /// How many answers are still lost, by kind; under the empty name of any kind.
    drops: BTreeMap<String, u32>,
    wait_ms: u64,
    is_forgetful: bool,
    tell: Box<dyn Fn(&Logged) + Send>,
}

/// In place of a status: nothing is done, and the connection is broken off.
pub(super) const BROKEN_OFF: u16 = 0;

const KINDS: [&str; 3] = ["flight", "hotel", "car"];

impl Ledger {
    pub(super) fn new(tell: Box<dyn Fn(&Logged) + Send>) -> Self {
        Self {
            bookings: Vec::new(),
            cancelled: Vec::new(),
            effects: BTreeMap::new(),
            log: Vec::new(),
            failing: BTreeMap::new(),
            drops: BTreeMap::new(),
            wait_ms: 0,
            is_forgetful: false,
            tell,
        }
    }

    pub(super) fn fail(&mut self, kind: &str, status: u16, times: u32) {
        self.failing.insert(kind.to_owned(), (status, times));
    }

    pub(super) fn drop_after_commit(&mut self, kind: &str, times: u32) {
        self.drops.insert(kind.to_owned(), times);
    }

    pub(super) fn slow(&mut self, ms: u64) {
        self.wait_ms = ms;
    }

    pub(super) fn forget_keys(&mut self) {
        self.is_forgetful = true;
    }

    pub(super) fn effects(&self) -> BTreeMap<String, u32> {
        self.effects.clone()
    }

    pub(super) fn bookings(&self) -> Vec<Booking> {
        self.bookings.clone()
    }

    pub(super) fn cancelled(&self) -> Vec<String> {
        self.cancelled.clone()
    }

    pub(super) fn log(&self) -> Vec<Logged> {
        self.log.clone()
    }

    /// Does what is asked, and says what to answer.
    pub(super) fn answer(&mut self, asked: &Asked<'_>) -> Answer {
        let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let kind = KINDS.into_iter().find(|kind| parts[0].strip_suffix('s') == Some(kind));
        let (status, body) = match (asked.method, kind, &parts[1..]) {
            ("POST", Some(kind), []) => self.unless_failing(kind, |ledger| ledger.book(kind, asked)),
            ("DELETE", Some(kind), [id]) => {
                self.unless_failing(&format!("{kind}.cancel"), |ledger| ledger.cancel(id, asked.key))
            }
            ("GET", Some(kind), []) => self.unless_failing(&format!("{kind}.find"), |ledger| {
                ledger.find(kind, parameter(query, "key").unwrap_or(""))
            }),
            ("GET", None, []) if parts[0] == "effects" => (200, self.told()),
            ("POST", None, []) => self.be_ill(parts[0], query),
            _ => (404, json!({"error": "there is nothing here"})),
        };
        let is_dropped = status == BROKEN_OFF
            || status < 300
                && match (asked.method, kind) {
                    ("POST", Some(kind)) => self.is_dropped(kind),
                    ("DELETE", Some(kind)) => self.is_dropped(&format!("{kind}.cancel")),
                    _ => false,
                };
        let logged = Logged {
            method: asked.method.to_owned(),
            target: asked.target.to_owned(),
            key: asked.key.to_owned(),
            status: (!is_dropped).then_some(status),
        };
        (self.tell)(&logged);
        self.log.push(logged);
        Answer { status, body, wait_ms: if kind.is_some() { self.wait_ms } else { 0 }, is_dropped }
    }

    /// Whether the answer of this write is to be lost; counts it.
    fn is_dropped(&mut self, kind: &str) -> bool {
        let left = [kind, ""].into_iter().find(|name| self.drops.get(*name).is_some_and(|left| *left > 0));
        left.and_then(|name| self.drops.get_mut(name)).map(|left| *left -= 1).is_some()
    }

    fn unless_failing(&mut self, kind: &str, act: impl FnOnce(&mut Self) -> (u16, Value)) -> (u16, Value) {
        match self.failing.get_mut(kind) {
            Some((status, times)) if *times > 0 => {
                *times -= 1;
                (*status, json!({"error": format!("{kind} fails, as it was told to")}))
            }
            _ => act(self),
        }
    }

    fn book(&mut self, kind: &str, asked: &Asked<'_>) -> (u16, Value) {
        let body = serde_json::from_slice::<Value>(asked.body).unwrap_or_default();
        let query = asked.target.split_once('?').map_or("", |(_, query)| query);
        let Some(what) = body["what"].as_str().or_else(|| parameter(query, "what")) else {
            return (400, json!({"error": "the body is not {\"what\": text}"}));
        };
        if let Some(known) = self.seen(asked.key) {
            return match known.kind == kind && known.what == what {
                true => (200, shown(known)),
                false => (422, json!({"error": "the key is that of another request"})),
            };
        }
        let id = format!("{kind}-{}", self.bookings.len() + 1);
        let (kind, what, key) = (kind.to_owned(), what.to_owned(), asked.key.to_owned());
        let booking = Booking { id, kind, what, key, is_cancelled: false };
        let told = shown(&booking);
        self.bookings.push(booking);
        self.count(asked.key);
        (201, told)
    }

    fn seen(&self, key: &str) -> Option<&Booking> {
        self.bookings.iter().find(|booking| !key.is_empty() && !self.is_forgetful && booking.key == key)
    }

    fn cancel(&mut self, id: &str, key: &str) -> (u16, Value) {
        let Some(booking) = self.bookings.iter_mut().find(|booking| booking.id == id) else {
            return (404, json!({"error": "there is no such booking"}));
        };
        let was_cancelled = std::mem::replace(&mut booking.is_cancelled, true);
        let told = shown(booking);
        if !was_cancelled {
            self.cancelled.push(id.to_owned());
            self.count(key);
        }
        (200, told)
    }

    fn find(&self, kind: &str, key: &str) -> (u16, Value) {
        let found = self.bookings.iter().find(|booking| booking.kind == kind && booking.key == key);
        found.map_or_else(
            || (404, json!({"error": "nothing was booked under this key"})),
            |booking| (200, shown(booking)),
        )
    }

    fn count(&mut self, key: &str) {
        *self.effects.entry(key.to_owned()).or_default() += 1;
    }

    fn told(&self) -> Value {
        json!({
            "effects": self.effects,
            "bookings": self.bookings.iter().map(shown).collect::<Vec<_>>(),
            "cancelled": self.cancelled,
        })
    }

    fn be_ill(&mut self, how: &str, query: &str) -> (u16, Value) {
        let number = |name| parameter(query, name).and_then(|text| text.parse::<u32>().ok());
        match how {
            "fail" => {
                let status = number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(503);
                self.fail(parameter(query, "kind").unwrap_or("car"), status, number("times").unwrap_or(u32::MAX));
            }
            "drop" => self.drop_after_commit(parameter(query, "kind").unwrap_or(""), number("times").unwrap_or(1)),
            "slow" => self.slow(number("ms").unwrap_or(0).into()),
            "forget-keys" => self.forget_keys(),
            _ => return (404, json!({"error": "there is nothing here"})),
        }
        (200, json!({"done": how}))
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn shown(booking: &Booking) -> Value {
    let state = if booking.is_cancelled { "cancelled" } else { "booked" };
    json!({"id": booking.id, "kind": booking.kind, "what": booking.what, "state": state})
}
