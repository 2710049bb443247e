//! What a call saw of the mounts that it may write, look by look: run again it sees the same, though its own commit has
//! changed them since.
//!
//! Promises: a look that was recorded is answered before anything of the mount is looked at; what is too large to be kept
//! is looked at again and compared; a call that looks at something else than before is stopped; nothing is paid where
//! nobody records. All looks since the last report are one host call (`files.seen`), which gets its number with the first
//! of them. Leaves to others: what a look is (`overlay/view.rs`), and when they are reported: before each write that may
//! depend on them.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::{Digest, Failure, Json, Kind, RecordedValue, canonical};
use crate::sandbox::journal::{Form, Journal, unreadable};
use crate::sandbox::secrets::Granted;
use crate::sandbox::{Begin, HostCall};

/// The host call that looks are recorded as.
const SEEN: &str = "files.seen";

/// Watches the looks of one call. Shared by its mounts.
#[derive(Clone, Default)]
pub(super) struct Looks(Option<Arc<Watch>>);

struct Watch {
    journal: Arc<Journal>,
    secrets: Granted,
    /// The looks since the last report. A guest does one thing at a time.
    batch: Mutex<Option<Batch>>,
}

/// Looks that are one host call.
struct Batch {
    host_call: HostCall,
    /// Digest of what was looked at so far.
    args: Digest,
    /// What is to be recorded.
    entries: Vec<Entry>,
    /// What is left of the record of the same looks; `None` where they were never made.
    before: Option<VecDeque<Entry>>,
    /// Looks made again so far, of those of which a digest alone was kept.
    again: Unkept,
}

/// A part of the record of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
enum Entry {
    Whole { about: String, brought: Json },
    Digest(Unkept),
}

/// Looks in a row that were not kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unkept {
    looks: u64,
    digest: Digest,
}

impl Unkept {
    fn none() -> Self {
        Self { looks: 0, digest: Digest::of(b"") }
    }

    fn and(self, about: &str, brought: &Json) -> Self {
        let parts = [self.digest.as_bytes(), about.as_bytes(), &canonical(brought).into_bytes()[..]];
        Self { looks: self.looks.saturating_add(1), digest: Digest::of_parts(&parts) }
    }
}

impl Looks {
    /// Begins to watch where host calls are recorded.
    pub(super) fn new(journal: &Arc<Journal>, secrets: &Granted) -> Self {
        let watch = || Watch { journal: journal.clone(), secrets: secrets.clone(), batch: Mutex::default() };
        Self(journal.records().then(|| Arc::new(watch())))
    }

    /// Whether looks are recorded or answered.
    pub(super) fn is_watching(&self) -> bool {
        self.0.is_some()
    }

    /// Makes a look, or answers it. `about` names it among those of the call.
    ///
    /// # Errors
    /// What the look brings. Where the call looks at something else than before, an I/O error, and the call ends.
    pub(super) fn look<T>(
        &self,
        about: Arguments<'_>,
        form: &Form<T>,
        make: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Some(watch) = self.0.as_deref() else { return make() };
        let mut batch = watch.batch();
        let batch = batch.get_or_insert_with(|| Batch::begin(&watch.journal));
        batch.look(watch, about.to_string(), form, make).unwrap_or_else(|failure| {
            watch.journal.fail(failure);
            Err(Errno::IO)
        })
    }

    /// Reports the looks since the last time, so that what is written next may depend on them.
    ///
    /// # Errors
    /// `host.diverged`; what the announcement brings.
    pub(super) async fn report(&self) -> Result<(), Failure> {
        let Some(watch) = self.0.as_deref() else { return Ok(()) };
        let journal = &watch.journal;
        journal.check()?;
        let Some(batch) = watch.batch().take() else { return Ok(()) };
        let host_call = HostCall { args: batch.args, ..batch.host_call };
        match journal.begin(&host_call).await? {
            Begin::Proceed => {
                let value = serde_json::to_value(&batch.entries).unwrap_or(Json::Null);
                journal.done(&host_call, value, journal.count()).await
            }
            Begin::Answer(recorded) => {
                journal.pass(recorded.ms);
                if batch.before.is_some_and(|before| before.is_empty()) { Ok(()) } else { Err(unreadable(&host_call)) }
            }
            Begin::Repeat { .. } => Err(unreadable(&host_call)),
            Begin::Refuse(failure) => Err(failure),
        }
    }
}

impl Watch {
    fn batch(&self) -> MutexGuard<'_, Option<Batch>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn begin(journal: &Journal) -> Self {
        let args = Digest::of(b"");
        let host_call = journal.number(SEEN, args, false);
        let before = journal.peek(&host_call).map(|value| entries(journal, value));
        Self { host_call, args, entries: Vec::new(), before, again: Unkept::none() }
    }

    fn look<T>(
        &mut self,
        watch: &Watch,
        about: String,
        form: &Form<T>,
        make: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<Result<T, Errno>, Failure> {
        self.args = Digest::of_parts(&[self.args.as_bytes(), about.as_bytes()]);
        let Some(before) = &mut self.before else {
            let made = make();
            self.note(watch, about, written(&made, form));
            return Ok(made);
        };
        match before.front() {
            Some(Entry::Whole { about: then, .. }) if *then != about => Err(other(&self.host_call, &about, then)),
            Some(Entry::Whole { brought, .. }) => {
                let seen = read(brought, form).ok_or_else(|| unreadable(&self.host_call));
                before.pop_front();
                seen
            }
            Some(Entry::Digest(then)) => {
                let (then, made) = (*then, make());
                self.again = self.again.and(&about, &written(&made, form));
                if self.again.looks == then.looks {
                    before.pop_front();
                    let again = std::mem::replace(&mut self.again, Unkept::none());
                    watch.journal.compare(&self.host_call, again.digest, then.digest)?;
                }
                Ok(made)
            }
            None => Err(other(&self.host_call, &about, "nothing more")),
        }
    }

    /// Keeps a look whole where there is room for it and no secret in it.
    fn note(&mut self, watch: &Watch, about: String, brought: Json) {
        let entry = Entry::Whole { about, brought };
        let text = serde_json::to_string(&entry).unwrap_or_default();
        let is_clean = watch.secrets.contained(text.as_bytes()).is_none();
        if is_clean && watch.journal.keep_look(text.len() as u64) {
            return self.entries.push(entry);
        }
        let Entry::Whole { about, brought } = entry else { return };
        match self.entries.last_mut() {
            Some(Entry::Digest(unkept)) => *unkept = unkept.and(&about, &brought),
            _ => self.entries.push(Entry::Digest(Unkept::none().and(&about, &brought))),
        }
    }
}

/// The record of a batch. One that does not read answers nothing, which ends the call.
fn entries(journal: &Journal, value: RecordedValue) -> VecDeque<Entry> {
    let RecordedValue::Whole { value } = value else { return VecDeque::new() };
    // What it took of the call's share is taken again: looks that come after it meet the same bound.
    let _ = journal.keep_look(canonical(&value).len() as u64);
    serde_json::from_value(value).unwrap_or_default()
}

fn written<T>(made: &Result<T, Errno>, form: &Form<T>) -> Json {
    match made {
        Ok(value) => json!({"ok": (form.write)(value)}),
        Err(error) => json!({"errno": error.raw_os_error()}),
    }
}

fn read<T>(brought: &Json, form: &Form<T>) -> Option<Result<T, Errno>> {
    if let Some(value) = brought.get("ok") {
        return (form.read)(value).map(Ok);
    }
    let errno = i32::try_from(brought.get("errno")?.as_i64()?).ok()?;
    Some(Err(Errno::from_raw_os_error(errno)))
}

fn other(host_call: &HostCall, now: &str, then: &str) -> Failure {
    let HostCall { n, what, .. } = host_call;
    let message = format!("run the call again: in host call {n} (`{what}`) it looks at something else than before");
    Failure::new(Kind::HostDiverged, message)
        .hint("look at what the step did, then say whether it is done")
        .detail(format!("`{then}` before, `{now}` now"))
}
