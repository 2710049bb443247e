//! A service that books flights, hotels and cars, well or ill as a test says, and counts what it did.
//!
//! - `POST /flights`, `/hotels`, `/cars` with `{"what": text}`, or with `?what=text` for whoever sends no such body, books:
//!   201 with `{"id", "kind", "what", "state"}`. A request of an `Idempotency-Key` that it has seen is answered with the
//!   booking of then, status 200; with another body, 422.
//! - `DELETE /flights/ID` cancels: 200 with the booking, also where it was cancelled before.
//! - `GET /flights?key=KEY` finds what was booked under a key: 200 with the booking, or 404.
//! - `POST /fail?kind=car&status=503&times=1`, `/drop?kind=car&times=1`, `/slow?ms=100`, `/forget-keys` make it ill; `GET /effects`
//!   tells what it did, for whoever tries it by hand.
//!
//! What it did are effects: bookings made, and bookings cancelled. Each is counted under the key of its request.

mod ledger;
mod serve;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::web::locked;

use ledger::Ledger;
pub use ledger::{Booking, Logged};

/// A running service; it ends when it is dropped.
pub struct Bookings {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bookings {
    /// Starts it on a free port of the loopback.
    ///
    /// # Panics
    /// Where the machine has no port left.
    pub fn start() -> Self {
        Self::start_on(0, |_| {}).expect("a port is free")
    }

    /// Starts it on this port of the loopback, 0 for any; `tell` hears of each request when it is answered.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn start_on(port: u16, tell: impl Fn(&Logged) + Send + 'static) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let ledger = Arc::new(Mutex::new(Ledger::new(Box::new(tell))));
        let serving = Arc::clone(&ledger);
        let thread = std::thread::spawn(move || serve::serve(listener, &serving, stopped));
        Ok(Self { address, ledger, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Fails the next `times` requests of a kind with this status, before they do anything. A kind is `flight`, `hotel` or
    /// `car` for booking one, `car.cancel` for cancelling and `car.find` for finding one. Status 0 breaks the connection off.
    pub fn fail(&self, kind: &str, status: u16, times: u32) {
        locked(&self.ledger).fail(kind, status, times);
    }

    /// Does what the next `times` writes ask for, and breaks the connection off in place of an answer.
    pub fn drop_after_commit(&self, times: u32) {
        locked(&self.ledger).drop_after_commit("", times);
    }

    /// As [`Bookings::drop_after_commit`], for writes of one kind: `hotel` for booking one, `hotel.cancel` for cancelling.
    pub fn drop_after_commit_of(&self, kind: &str, times: u32) {
        locked(&self.ledger).drop_after_commit(kind, times);
    }

    /// Waits so long between doing what is asked and answering, in milliseconds.
    pub fn slow(&self, ms: u64) {
        locked(&self.ledger).slow(ms);
    }

    /// Takes each request as a new one from here on, whatever its key.
    pub fn forget_keys(&self) {
        locked(&self.ledger).forget_keys();
    }

    /// Returns how many effects each key had. Requests without one stand together under the empty key.
    pub fn effects(&self) -> BTreeMap<String, u32> {
        locked(&self.ledger).effects()
    }

    /// Returns all bookings, cancelled ones too, in the order in which they were made.
    pub fn bookings(&self) -> Vec<Booking> {
        locked(&self.ledger).bookings()
    }

    /// Returns the ids of the bookings that stand, in the order in which they were made.
    pub fn standing(&self) -> Vec<String> {
        self.bookings().into_iter().filter(|booking| !booking.is_cancelled).map(|booking| booking.id).collect()
    }

    /// Returns the ids of the bookings that were cancelled, in the order in which that happened.
    pub fn cancelled(&self) -> Vec<String> {
        locked(&self.ledger).cancelled()
    }

    /// Returns all requests that it was sent, in order.
    pub fn log(&self) -> Vec<Logged> {
        locked(&self.ledger).log()
    }
}

impl Drop for Bookings {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
