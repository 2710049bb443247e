//! How much the log holds.

use crate::config::Settings;

use super::super::{Session, text};
use super::finding::Finding;

/// Bytes of the log above which old runs should go: years of work for one person.
const LOG_BYTES_WARN: u64 = 8 << 30;

/// Looks at the log, where there is one: none is made for a look.
pub(super) async fn look(session: &Session, settings: &Settings) -> Vec<Finding> {
    if !settings.state.join("log.db").is_file() {
        return vec![Finding::ok("log", "there is none yet")];
    }
    let stored = match session.host_of_log() {
        Ok(host) => host.stored().await,
        Err(failure) => Err(failure),
    };
    let stored = match stored {
        Ok(stored) => stored,
        Err(failure) => {
            let hint = failure.hint.unwrap_or_else(|| "check it with `cofferdam verify --all`".into());
            return vec![Finding::fail("log", format!("failed to {}", failure.message), hint)];
        }
    };
    let (runs, events) = (text::count(stored.runs), text::count(stored.events));
    let log =
        Finding::ok("log", format!("{runs} runs and sessions, {events} events, {}", text::bytes(stored.disk_bytes)));
    let parts = [
        ("payloads", stored.payload_bytes),
        ("cached outcomes", stored.cache_bytes),
        ("state of tools", stored.state_bytes),
    ];
    let parts = parts.map(|(name, bytes)| Finding::ok(name, text::bytes(bytes)));
    let hint = "remove old runs with `cofferdam prune --older 30d`";
    let log = log.warn_unless(stored.disk_bytes <= LOG_BYTES_WARN, hint);
    std::iter::once(log).chain(parts).collect()
}
