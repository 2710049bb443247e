//! The journal of a call as it is stored: a line when a host call begins, another when it is done.
//!
//! Pure. A line tells nothing of its place: the log keeps that beside it.

use std::collections::BTreeMap;

use crate::domain::{Failure, HostCallRecord, JournalEntry, Kind};

/// A line, and its place.
pub(super) struct Line {
    pub n: u32,
    pub is_done: bool,
    /// JSON of a record that is not done, or of what the host call brought.
    pub text: Vec<u8>,
}

impl Line {
    /// Adds the line to the records before it; `None` where it is not what was written.
    pub(super) fn add_to(&self, records: &mut BTreeMap<u32, HostCallRecord>) -> Option<()> {
        if self.is_done {
            records.get_mut(&self.n)?.done = Some(serde_json::from_slice(&self.text).ok()?);
        } else {
            let record: HostCallRecord = serde_json::from_slice(&self.text).ok()?;
            records.insert(self.n, record);
        }
        Some(())
    }
}

/// Writes entries as lines.
pub(super) fn lines(entries: Vec<JournalEntry>) -> Result<Vec<Line>, Failure> {
    entries.into_iter().map(line).collect()
}

fn line(entry: JournalEntry) -> Result<Line, Failure> {
    let (n, is_done, text) = match entry {
        JournalEntry::Begun { n, what, args, is_write } => {
            (n, false, serde_json::to_vec(&HostCallRecord { n, what, args, is_write, done: None }))
        }
        JournalEntry::Done { n, recorded } => (n, true, serde_json::to_vec(&recorded)),
    };
    let text = text.map_err(|e| Failure::new(Kind::HostBug, "write the record of a host call").detail(e))?;
    Ok(Line { n, is_done, text })
}
