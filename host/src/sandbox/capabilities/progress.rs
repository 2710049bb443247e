//! Signs of life of a guest, passed on to whoever waits, up to a limit.

use crate::domain::printable;
use crate::sandbox::capabilities::bindings::cofferdam::tool::progress::Host;
use crate::sandbox::state::GuestState;

/// Characters of a message that are passed on.
const MESSAGE_CHARS_MAX: usize = 200;

impl Host for GuestState {
    async fn report(&mut self, fraction: Option<f64>, message: String) -> wasmtime::Result<()> {
        if !self.call.grant().progress {
            return Err(self.not_asked("progress"));
        }
        if self.progress.count(self.clock.monotonic_ms()) {
            let fraction = fraction.filter(|f| f.is_finite()).map(|f| f.clamp(0.0, 1.0));
            self.journal.link().progress(fraction, &printable(&self.secrets.head(&message, MESSAGE_CHARS_MAX)));
        }
        Ok(())
    }
}
