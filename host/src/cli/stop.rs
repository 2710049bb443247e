//! Ctrl-C and its kin: the first asks the run to stop, the second ends the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::domain::{Failure, Kind};

/// Hears when the process is asked to stop.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Starts to listen; from here on the process is not ended by these signals.
    ///
    /// # Errors
    /// `host.bug` where the machine does not let it.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::new(Kind::HostBug, "listen for Ctrl-C").detail(e));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Returns when the process is asked to stop.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
