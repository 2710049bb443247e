//! Copies a log that is in use.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::domain::{Failure, Kind};
use crate::store::sqlite::schema::{failed, file_failed};

/// Copies the log of `db`, whose master key is at `key`, to the new directory `to`, which is there when it is whole.
pub(super) fn copy(db: &Connection, key: &Path, to: &Path) -> Result<(), Failure> {
    let draft = draft(to)?;
    let written = write(db, key, &draft).and_then(|()| publish(&draft, to));
    if written.is_err() {
        // The failure to tell is the one that led here.
        drop(fs::remove_dir_all(&draft));
    }
    written
}

/// Makes an empty directory beside `to`.
fn draft(to: &Path) -> Result<PathBuf, Failure> {
    if to.symlink_metadata().is_ok() {
        let message = format!("back up the log to {}: it is there already", to.display());
        return Err(Failure::new(Kind::DataConflict, message).hint("name a directory that is not there yet"));
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    let draft = PathBuf::from(name);
    if draft.symlink_metadata().is_ok() {
        let message = format!("back up the log to {}: {} is in the way", to.display(), draft.display());
        return Err(Failure::new(Kind::DataConflict, message).hint("remove it, unless another backup is under way"));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&draft).map_err(file_failed("make the directory", &draft))?;
    Ok(draft)
}

fn write(db: &Connection, key: &Path, draft: &Path) -> Result<(), Failure> {
    let (file, its_key) = (draft.join("log.db"), draft.join("key"));
    // The file is made first, so that nobody else may ever read it.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    drop(made.map_err(file_failed("make the copy", &file))?);
    let Some(name) = file.to_str() else {
        return Err(Failure::new(
            Kind::DataInput,
            format!("back up the log to {}: its name is no text", file.display()),
        ));
    };
    // One view of the log: what is appended meanwhile is not in it, and does not wait for it.
    db.execute("VACUUM INTO ?1", [name]).map_err(failed("copy the log"))?;
    fs::copy(key, &its_key).map_err(file_failed("copy the master key", &its_key))?;
    for path in [&file, &its_key] {
        let failed = file_failed("write the copy", path);
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(&failed)?;
        File::open(path).and_then(|file| file.sync_all()).map_err(&failed)?;
    }
    File::open(draft).and_then(|dir| dir.sync_all()).map_err(file_failed("write the copy", draft))
}

fn publish(draft: &Path, to: &Path) -> Result<(), Failure> {
    let failed = file_failed("put the copy in its place", to);
    fs::rename(draft, to).map_err(&failed)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(&failed)
}
