//! Lines that a person types.
//!
//! Promises: after [`Lines::forget`] only what is typed from then on counts, whether what came before was read here, was
//! waiting in the terminal, or was half a line. Leaves it to [`super::ask`] what a line means.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc;

/// Lines read ahead: the first one after a question answers it.
const LINES_KEPT_MAX: usize = 1;

/// Bytes of one line: a terminal of Linux hands out no longer ones.
const LINE_BYTES_MAX: usize = 4_096;

/// Reads that are thrown away at one time: far more than a person types, so that a pipe without end does not hold us.
const READS_FORGOTTEN_MAX: usize = 1_024;

/// Lines of a terminal, which a thread of its own reads: a read cannot be given up, so it must not hold the runtime.
pub(super) struct Lines<T> {
    source: Arc<Source<T>>,
    typed: mpsc::Receiver<String>,
}

struct Source<T> {
    terminal: T,
    /// Held while a line goes from the terminal to its reader, so that none can be on the way while all are forgotten.
    passing: Mutex<()>,
}

impl<T: AsFd + Send + Sync + 'static> Lines<T> {
    /// Starts to read.
    pub(super) fn of(terminal: T) -> Self {
        let (sender, typed) = mpsc::channel(LINES_KEPT_MAX);
        let source = Arc::new(Source { terminal, passing: Mutex::new(()) });
        let reader = source.clone();
        std::thread::spawn(move || while reader.pass_on(&sender) {});
        Self { source, typed }
    }

    /// Forgets what was typed before.
    pub(super) fn forget(&mut self) {
        let _passing = self.source.passing();
        // A pipe has nothing to flush; all of it can be read.
        let _ = tcflush(&self.source.terminal, QueueSelector::IFlush);
        for _ in 0..READS_FORGOTTEN_MAX {
            if !self.source.is_readable_now() || self.source.read().is_none() {
                break;
            }
        }
        while self.typed.try_recv().is_ok() {}
    }

    /// Waits for the next line; `None` where the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.typed.recv().await
    }
}

impl<T: AsFd> Source<T> {
    /// Waits for a line and passes it on; false where no more will come, or nobody wants them.
    fn pass_on(&self, sender: &mpsc::Sender<String>) -> bool {
        self.is_readable(None);
        let _passing = self.passing();
        // What was there may have been forgotten meanwhile, and to wait here would hold up the next question.
        if !self.is_readable_now() {
            return true;
        }
        let Some(line) = self.read() else { return false };
        !matches!(sender.try_send(line), Err(mpsc::error::TrySendError::Closed(_)))
    }

    fn passing(&self) -> MutexGuard<'_, ()> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_readable_now(&self) -> bool {
        self.is_readable(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    /// Answers whether a read returns at once, with a line or with the reason why there is none.
    fn is_readable(&self, wait: Option<&Timespec>) -> bool {
        loop {
            match poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], wait) {
                Err(Errno::INTR) => {}
                ready => return ready != Ok(0),
            }
        }
    }

    /// Reads a line: a terminal gives one at a time.
    fn read(&self) -> Option<String> {
        let mut bytes = [0; LINE_BYTES_MAX];
        loop {
            match read(&self.terminal, &mut bytes) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return None,
                Ok(len) => return Some(String::from_utf8_lossy(&bytes[..len]).into_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};

    use super::*;

    #[tokio::test]
    async fn what_was_typed_before_a_question_does_not_answer_it() {
        let (reader, mut typist) = pipe().unwrap();
        let mut lines = Lines::of(reader);
        typist.write_all(b"y\n").unwrap();
        lines.forget();
        typist.write_all(b"n\n").unwrap();
        assert_eq!(lines.next().await.as_deref(), Some("n\n"));
        drop(typist);
        assert_eq!(lines.next().await, None);
    }

    #[tokio::test]
    async fn a_line_that_was_read_ahead_is_forgotten_too() {
        let (reader, mut typist) = pipe().unwrap();
        let mut lines = Lines::of(reader);
        typist.write_all(b"y\n").unwrap();
        while lines.typed.is_empty() {
            tokio::task::yield_now().await;
        }
        lines.forget();
        typist.write_all(b"n\n").unwrap();
        assert_eq!(lines.next().await.as_deref(), Some("n\n"));
    }
}
