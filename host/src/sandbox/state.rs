//! What a guest's host functions work on during one call.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Json, Kind, Limits, LogLine, escaped};
use crate::policy::Call;
use crate::sandbox::capabilities::http::Http;
use crate::sandbox::denials::Denials;
use crate::sandbox::journal::Journal;
use crate::sandbox::limits::{Meter, Pace};
use crate::sandbox::looks::Looks;
use crate::sandbox::open_files::OpenFiles;
use crate::sandbox::overlay::Shared;
use crate::sandbox::secrets::{Granted, Scrubber};
use crate::sandbox::seen::Seen;
use crate::sandbox::trap::Ended;
use crate::sandbox::{Begin, HostCall};

/// All that belongs to one call. Dropped with its store.
pub(super) struct GuestState {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) meter: Meter,
    pub(super) call: Arc<Call>,
    pub(super) log: LogSink,
    /// The secrets of this call. What leaves it goes through here.
    pub(super) secrets: Granted,
    pub(super) denials: Denials,
    pub(super) http: Http,
    /// The mounts that may be written, with what the call wrote there.
    pub(super) files: Vec<Shared>,
    pub(super) open_files: OpenFiles,
    pub(super) clock: Arc<dyn Clock>,
    /// Monotonic milliseconds at which the call ends.
    pub(super) deadline_ms: u64,
    pub(super) progress: Pace,
    pub(super) journal: Arc<Journal>,
    /// Changes of state so far.
    pub(super) state_writes: u64,
    /// What it saw of mounts that it may only read.
    pub(super) seen: Seen,
    /// What it saw of mounts that it may write.
    pub(super) looks: Looks,
    /// Whether a host function was entered and is not charged for yet.
    pub(super) is_host_call: bool,
    /// How often the host was entered and not left: the guest makes room for what a host call brings within it.
    pub(super) host_depth: u32,
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
        let host_call = self.journal.number(what, args, is_write);
        let begin = self.journal.begin(&host_call).await?;
        if let Begin::Answer(recorded) = &begin {
            self.journal.pass(recorded.ms);
        }
        Ok((host_call, begin))
    }

    /// Reports what the call saw of files: what it writes next may depend on it.
    ///
    /// # Errors
    /// Ends the call: it sees something else than before.
    pub(super) async fn report_files(&mut self) -> Result<(), Failure> {
        self.looks.report().await?;
        self.seen.report(&self.journal).await
    }

    /// Reports what a host call brought.
    pub(super) async fn done(&mut self, host_call: &HostCall, value: Json) -> Result<(), Failure> {
        let ms = self.journal.count();
        self.journal.done(host_call, value, ms).await
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
    secrets: Granted,
    /// Takes secrets out of what is printed, per stream: before it is lines, as one may be printed in parts.
    scrubbers: [Scrubber; 2],
    /// Text of a line that has not ended yet, per printed stream.
    open: [Vec<u8>; 2],
    bytes: u64,
    dropped: u64,
    bytes_max: u64,
    lines_max: u64,
    /// Bytes kept of one line.
    line_bytes_max: usize,
}

/// The two streams that a guest prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    Stdout,
    Stderr,
}

impl LogSink {
    pub(super) fn new(limits: &Limits, secrets: &Granted) -> Self {
        // What is kept of a line is held until it ends, so all lines together are its bound too.
        let line_bytes_max = limits.log_line_bytes_max.min(limits.log_bytes_max);
        let lines = Lines {
            lines: Vec::new(),
            secrets: secrets.clone(),
            scrubbers: [secrets.scrubber(), secrets.scrubber()],
            open: [Vec::new(), Vec::new()],
            bytes: 0,
            dropped: 0,
            bytes_max: limits.log_bytes_max,
            lines_max: limits.log_lines_max,
            line_bytes_max: usize::try_from(line_bytes_max).unwrap_or(usize::MAX),
        };
        Self(Arc::new(Mutex::new(lines)))
    }

    /// Adds one line from `source`.
    pub(super) fn line(&self, source: &str, text: &str) {
        self.with(|lines| lines.line(source, text.as_bytes()));
    }

    /// Adds printed bytes; lines end at newlines.
    pub(super) fn print(&self, stream: Printed, bytes: &[u8]) {
        self.with(|lines| lines.print(stream, bytes));
    }

    /// Returns the lines, and how many bytes were dropped.
    pub(super) fn take(&self) -> (Vec<LogLine>, u64) {
        self.with(|lines| {
            for stream in [Printed::Stdout, Printed::Stderr] {
                let rest = lines.scrubbers[stream as usize].finish();
                lines.split(stream, &rest);
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
        let clean = self.scrubbers[stream as usize].push(bytes);
        self.split(stream, &clean);
    }

    /// Splits printed text into lines.
    fn split(&mut self, stream: Printed, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let open = &mut self.open[stream as usize];
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let kept = text.len().min(self.line_bytes_max.saturating_sub(open.len()));
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
            self.add(if stream == Printed::Stdout { "stdout" } else { "stderr" }, &open, open.len());
        }
    }

    /// Adds a whole line. Only so much of it is looked at as decides about what is kept.
    fn line(&mut self, source: &str, text: &[u8]) {
        let clean = self.secrets.scrubber().head(text, self.line_bytes_max);
        self.add(source, &clean, text.len());
    }

    /// Adds what is left of a line of `all` bytes.
    fn add(&mut self, source: &str, clean: &[u8], all: usize) {
        let kept = clean.len().min(self.line_bytes_max);
        let is_full =
            self.lines.len() as u64 >= self.lines_max || self.bytes.saturating_add(kept as u64) > self.bytes_max;
        if is_full {
            self.dropped = self.dropped.saturating_add(all as u64);
            return;
        }
        self.bytes += kept as u64;
        self.dropped += all.saturating_sub(kept) as u64;
        self.lines.push(LogLine { source: source.into(), text: escaped(&String::from_utf8_lossy(&clean[..kept])) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::secrets::tests::{VALUE, grant, granted, granted_value};

    fn sink(log_bytes_max: u64, log_lines_max: u64) -> LogSink {
        LogSink::new(&Limits { log_bytes_max, log_lines_max, ..Limits::default() }, &Granted::default())
    }

    fn texts(sink: &LogSink) -> Vec<String> {
        sink.take().0.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_secret_is_in_no_line_however_it_is_printed() {
        let granted = || granted(vec![grant("a", "https://a.example/")]);
        let sink = LogSink::new(&Limits::default(), &granted());
        sink.line("info", &format!("it is {VALUE}!"));
        for byte in format!("it is {VALUE}!\nnext\n").bytes() {
            sink.print(Printed::Stdout, &[byte]);
        }
        sink.print(Printed::Stderr, &VALUE.as_bytes()[..9]);
        sink.print(Printed::Stderr, format!("\n{}", &VALUE[9..]).as_bytes());
        assert_eq!(texts(&sink), ["it is [secret:a]!", "it is [secret:a]!", "next", "[secret:a]"]);
        // A line that is cut within a secret holds nothing of it, whatever was taken out before.
        for log_line_bytes_max in 1..60 {
            let sink = LogSink::new(&Limits { log_line_bytes_max, ..Limits::default() }, &granted());
            sink.line("info", &format!("{VALUE}{VALUE} and {VALUE}"));
            sink.print(Printed::Stdout, format!("{VALUE}{VALUE} and {VALUE}").as_bytes());
            assert!(texts(&sink).iter().all(|text| !text.contains("hun")), "{log_line_bytes_max}");
        }
    }

    #[test]
    fn a_long_line_is_kept_and_a_long_secret_is_not() {
        // As long as a signed token.
        let token = "eyJhbGciOiJFUzI1NiJ9".repeat(20);
        let granted = granted_value(grant("a", "https://a.example/"), &token);
        assert!(granted.scrubber().reach() > 2_048);
        for bytes in [1, 2_048, 2_049, 5_000, 6_848, 6_849, 11_648, 11_649, 50_000] {
            let sink = LogSink::new(&Limits::default(), &granted);
            sink.line("info", &format!("{}{token}", "x".repeat(bytes)));
            sink.line("info", &format!("{token}{}{token}", "x".repeat(bytes)));
            let texts = texts(&sink);
            let whole = |text: String| text[..text.len().min(2_048)].to_owned();
            assert_eq!(texts[0], whole(format!("{}[secret:a]", "x".repeat(bytes))), "{bytes}");
            let behind = texts[1].strip_prefix("[secret:a]").expect("it begins with the secret");
            assert!(behind.len() >= bytes.min(1_600) && behind.starts_with('x'), "{bytes}: {}", behind.len());
            assert!(!behind.contains("eyJ"), "{bytes}: {behind}");
        }
    }

    #[test]
    fn a_line_has_a_bound_of_its_own() {
        let sink = LogSink::new(&Limits { log_line_bytes_max: 10_000, ..Limits::default() }, &Granted::default());
        sink.line("info", &"x".repeat(12_000));
        sink.print(Printed::Stdout, &vec![b'x'; 12_000]);
        let (lines, dropped) = sink.take();
        assert_eq!((lines[0].text.len(), lines[1].text.len(), dropped), (10_000, 10_000, 4_000));
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
        assert_eq!((lines[0].text.len(), dropped), (2_048, (1 << 20) - 2_048));
    }
}
