//! What a call wrote becomes the mounts', once the call has succeeded.
//!
//! Promises: nothing is changed before the commit is announced; the announcement is durable before the first change; from
//! it on nothing interrupts but the death of the process, the call's deadline neither. Leaves to others: the changes themselves (`overlay/`).

use crate::domain::{Digest, Failure, Json, Kind};
use crate::sandbox::Begin;
use crate::sandbox::capabilities::files::{READ_BYTES_MAX, lock};
use crate::sandbox::overlay::{Applied, Refused, Shared};
use crate::sandbox::state::GuestState;

/// Digests of what is staged: another content is another commit.
fn contents(mounts: &[Shared]) -> Vec<u8> {
    let digest = |mount: &Shared, file| {
        let (mut digest, mut offset) = (Digest::of(b""), 0);
        let mut mount = lock(mount);
        // It may be closed. One that does not read was synced before, which told why.
        if mount.retain(file).is_ok() {
            while let Ok(bytes) = mount.read(file, READ_BYTES_MAX, offset) {
                if bytes.is_empty() {
                    break;
                }
                digest = Digest::of_parts(&[digest.as_bytes(), &bytes]);
                offset = offset.saturating_add(bytes.len() as u64);
            }
            mount.release(file);
        }
        *digest.as_bytes()
    };
    let digests = mounts.iter().flat_map(|mount| {
        let files = lock(mount).staged_files();
        files.into_iter().flat_map(move |file| digest(mount, file))
    });
    digests.collect()
}

impl GuestState {
    /// Whether the call has written anything.
    pub(super) fn has_staged(&self) -> bool {
        self.files.iter().any(|mount| lock(mount).has_changed())
    }

    /// Brings what the call has written to disk, and checks that it can be committed. The call may be stopped meanwhile.
    ///
    /// # Errors
    /// `data.conflict` and `host.storage` where something cannot be changed; nothing was.
    pub(super) async fn ready_commit(&mut self) -> Result<(), Failure> {
        for mount in &self.files.clone() {
            self.sync(mount).await?;
        }
        if self.journal.is_next_known() {
            // It was begun before: the mounts are, at least in part, what it made of them.
            return Ok(());
        }
        self.files.iter().try_for_each(|mount| {
            tokio::task::block_in_place(|| lock(mount).check_commit()).map_err(|refused| self.unkept(&refused))
        })
    }

    /// Commits what the call has written and made ready. To be awaited to its end.
    ///
    /// # Errors
    /// `host.storage` where something cannot be changed after all; what the announcement brings. The message says whether
    /// anything was.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        let mounts = self.files.clone();
        let planned: Vec<String> = mounts.iter().flat_map(|mount| lock(mount).planned()).collect();
        let mut args = planned.join("\n").into_bytes();
        if self.journal.records() {
            args.extend(tokio::task::block_in_place(|| contents(&mounts)));
        }
        let (host_call, begin) = self.begin("files.write", Digest::of(&args), true).await?;
        match begin {
            Begin::Proceed | Begin::Repeat { .. } => {}
            // It was done before: what is staged now is what is there.
            Begin::Answer(_) => return Ok(()),
            Begin::Refuse(failure) => return Err(failure),
        }
        let done = tokio::task::block_in_place(|| self.apply(&mounts))?;
        self.done(&host_call, Json::from(done)).await?;
        Ok(())
    }

    /// Brings what is staged to disk. Between two files the call may be stopped.
    async fn sync(&mut self, mount: &Shared) -> Result<(), Failure> {
        let files = lock(mount).staged_files();
        for file in files {
            let synced = tokio::task::block_in_place(|| lock(mount).sync(file));
            synced.map_err(|why| {
                self.failure(Kind::HostStorage, format!("{why}; nothing was changed")).hint("look at the disk")
            })?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn apply(&self, mounts: &[Shared]) -> Result<usize, Failure> {
        let mut done = Vec::new();
        for mount in mounts {
            let Applied { done: changes, refused } = lock(mount).apply();
            done.extend(changes);
            if let Some(refused) = refused {
                return Err(self.partly_kept(&refused, &done));
            }
        }
        Ok(done.len())
    }

    fn unkept(&self, refused: &Refused) -> Failure {
        let kind = if refused.is_conflict { Kind::DataConflict } else { Kind::HostStorage };
        let hint = "look at who else writes there, and at its permissions";
        self.failure(kind, format!("it could not {}: {}; nothing was changed", refused.what, refused.why)).hint(hint)
    }

    fn partly_kept(&self, refused: &Refused, done: &[String]) -> Failure {
        let done = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
        self.failure(Kind::HostStorage, format!("it could not {}: {}; done before: {done}", refused.what, refused.why))
            .hint("look at the files, then say whether the step is done")
    }

    fn failure(&self, kind: Kind, why: String) -> Failure {
        Failure::new(kind, format!("keep what `{}` wrote: {why}", self.call.tool().name()))
    }
}
