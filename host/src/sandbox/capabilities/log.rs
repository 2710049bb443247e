//! Lines of a guest for the operator. Untrusted text: capped and escaped.

use crate::sandbox::capabilities::bindings::cofferdam::tool::log::{Host, Level};
use crate::sandbox::state::GuestState;

impl Host for GuestState {
    async fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        if !self.call.grant().log {
            self.deny("denied.log", &message);
            return Ok(());
        }
        let source = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        self.log.line(source, &message);
        Ok(())
    }
}
