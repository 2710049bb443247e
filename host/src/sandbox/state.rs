//! What a guest's host functions work on during one call.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Json, Kind, Limits, LogLine, printable};
use crate::policy::Call;
use crate::sandbox::capabilities::http::Http;
use crate::sandbox::denials::Denials;
use crate::sandbox::limits::Meter;
use crate::sandbox::trap::Ended;
use crate::sandbox::{Begin, CallLink, HostCall};

/// All that belongs to one call. Dropped with its store.
pub(super) struct GuestState {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) meter: Meter,
    pub(super) call: Arc<Call>,
    pub(super) link: Arc<dyn CallLink>,
    pub(super) log: LogSink,
    pub(super) denials: Denials,
    pub(super) http: Http,
    pub(super) clock: Arc<dyn Clock>,
    /// Monotonic milliseconds at which the call ends.
    pub(super) deadline_ms: u64,
    pub(super) progress_reports: u64,
    /// Host calls announced to the link so far.
    pub(super) announced: u32,
    pub(super) has_written: bool,
    /// Whether a host function was entered and is not charged for yet.
    pub(super) is_host_call: bool,
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl GuestState {
    /// Announces a host call to whoever drives this one.
    pub(super) async fn begin(
        &mut self,
        what: &'static str,
        args: Digest,
        is_write: bool,
    ) -> Result<(HostCall, Begin), Failure> {
        self.announced = self.announced.saturating_add(1);
        let host_call = HostCall { n: self.announced, what, args, is_write };
        let begin = self.link.begin(&host_call).await?;
        self.has_written |= is_write;
        Ok((host_call, begin))
    }

    /// Reports what a host call brought.
    pub(super) async fn done(&mut self, host_call: &HostCall, result: &Json) {
        self.link.done(host_call, result).await;
    }

    /// Notes something that the guest tried and was refused.
    pub(super) fn deny(&mut self, code: &str, what: &str) {
        self.denials.note(code, what);
    }

    /// Ends a call that uses what its component imports for other functions.
    pub(super) fn not_asked(&self, capability: &str) -> wasmtime::Error {
        let tool = self.call.tool().name();
        let message = format!("run `{tool}`: it uses `{capability}`, which its manifest does not ask for");
        Ended(Failure::new(Kind::PolicyDenied, message).hint("report this to the tool's author")).into()
    }

    /// Milliseconds until the call ends.
    pub(super) fn left_ms(&self) -> u64 {
        self.deadline_ms.saturating_sub(self.clock.monotonic_ms())
    }
}

/// Where all that a guest logs and prints goes: lines, capped and escaped.
#[derive(Clone)]
pub(super) struct LogSink(Arc<Mutex<Lines>>);

struct Lines {
    lines: Vec<LogLine>,
    /// Text of a line that has not ended yet, per printed stream.
    open: [Vec<u8>; 2],
    bytes: u64,
    dropped: u64,
    bytes_max: u64,
    lines_max: u64,
}

/// Bytes kept of one line.
const LINE_BYTES_MAX: usize = 2 << 10;

/// The two streams that a guest prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    Stdout,
    Stderr,
}

impl LogSink {
    pub(super) fn new(limits: &Limits) -> Self {
        let lines = Lines {
            lines: Vec::new(),
            open: [Vec::new(), Vec::new()],
            bytes: 0,
            dropped: 0,
            bytes_max: limits.log_bytes_max,
            lines_max: limits.log_lines_max,
        };
        Self(Arc::new(Mutex::new(lines)))
    }

    /// Adds one line from `source`.
    pub(super) fn line(&self, source: &str, text: &str) {
        self.with(|lines| lines.add(source, text.as_bytes()));
    }

    /// Adds printed bytes; lines end at newlines.
    pub(super) fn print(&self, stream: Printed, bytes: &[u8]) {
        self.with(|lines| lines.print(stream, bytes));
    }

    /// Returns the lines, and how many bytes were dropped.
    pub(super) fn take(&self) -> (Vec<LogLine>, u64) {
        self.with(|lines| {
            for stream in [Printed::Stdout, Printed::Stderr] {
                lines.end_line(stream);
            }
            (std::mem::take(&mut lines.lines), lines.dropped)
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Lines) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lines {
    fn print(&mut self, stream: Printed, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let open = &mut self.open[stream as usize];
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let kept = text.len().min(LINE_BYTES_MAX.saturating_sub(open.len()));
            open.extend_from_slice(&text[..kept]);
            self.dropped += u64::try_from(text.len() - kept).unwrap_or(u64::MAX);
            if part.ends_with(b"\n") {
                self.end_line(stream);
            }
        }
    }

    fn end_line(&mut self, stream: Printed) {
        let open = std::mem::take(&mut self.open[stream as usize]);
        if !open.is_empty() {
            self.add(if stream == Printed::Stdout { "stdout" } else { "stderr" }, &open);
        }
    }

    fn add(&mut self, source: &str, text: &[u8]) {
        let all = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let kept = text.len().min(LINE_BYTES_MAX);
        let is_full =
            self.lines.len() as u64 >= self.lines_max || self.bytes.saturating_add(kept as u64) > self.bytes_max;
        if is_full {
            self.dropped = self.dropped.saturating_add(all);
            return;
        }
        self.bytes += kept as u64;
        self.dropped += all - kept as u64;
        self.lines.push(LogLine { source: source.into(), text: printable(&String::from_utf8_lossy(&text[..kept])) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(log_bytes_max: u64, log_lines_max: u64) -> LogSink {
        LogSink::new(&Limits { log_bytes_max, log_lines_max, ..Limits::default() })
    }

    #[test]
    fn printed_bytes_become_lines() {
        let sink = sink(1_000, 10);
        sink.print(Printed::Stdout, b"one\ntw");
        sink.print(Printed::Stderr, b"other\n");
        sink.print(Printed::Stdout, b"o\x1b[31m");
        let texts: Vec<_> = sink.take().0.into_iter().map(|line| format!("{} {}", line.source, line.text)).collect();
        assert_eq!(texts, ["stdout one", "stderr other", "stdout two\\u{1b}[31m"]);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let sink = sink(100, 3);
        for _ in 0..1_000 {
            sink.print(Printed::Stdout, b"0123456789\n");
        }
        let (lines, dropped) = sink.take();
        assert_eq!((lines.len(), dropped), (3, 9_970));
        let one_line = self::sink(1 << 20, 10);
        one_line.print(Printed::Stdout, &vec![b'x'; 1 << 20]);
        let (lines, dropped) = one_line.take();
        assert_eq!((lines[0].text.len(), dropped), (LINE_BYTES_MAX, (1 << 20) - LINE_BYTES_MAX as u64));
    }
}
