//! What a guest sees of a mounted directory: each look at it is recorded, or answered from its record.
//!
//! Promises: nothing of the mount reaches a guest, or a copy that it changes, by another way. Leaves to others: commits,
//! which look at the mount as it is.

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, RawMode, Stat, Timespec, fstat, openat, statat};
use rustix::io::Errno;
use serde_json::json;

use crate::domain::Json;
use crate::sandbox::journal::{Form, octets, read_octets};
use crate::sandbox::looks::Looks;
use crate::sandbox::overlay::base::{Base, DIRECTORY, device};
use crate::sandbox::overlay::files::units;
use crate::sandbox::overlay::{Place, is_reserved};

/// Names of a directory that are one look.
const PAGE_NAMES: usize = 256;

const NOTHING: Form<()> = Form { write: |()| Json::Null, read: |value| value.is_null().then_some(()) };
const OCTETS: Form<Vec<u8>> = Form { write: |bytes| octets(bytes), read: read_octets };
const TEXT: Form<String> =
    Form { write: |text| Json::from(text.as_str()), read: |value| value.as_str().map(str::to_owned) };
const ATTRIBUTES: Form<Attributes> = Form { write: |found| found.write(), read: Attributes::read };
const FOUND: Form<Option<Attributes>> = Form {
    write: |found| found.as_ref().map_or(Json::Null, Attributes::write),
    read: |value| if value.is_null() { Some(None) } else { Attributes::read(value).map(Some) },
};
const NAMES: Form<Vec<Named>> = Form {
    write: |names| names.iter().map(write_name).collect(),
    read: |value| value.as_array()?.iter().map(read_name).collect(),
};

/// What is known of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Kind and permissions, as `st_mode` has them.
    mode: RawMode,
    pub(super) links: u64,
    pub(super) bytes: u64,
    /// Seconds since 1970, and nanoseconds.
    accessed: (i64, i64),
    modified: (i64, i64),
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Attributes {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode,
            links: units(usize::try_from(stat.st_nlink).unwrap_or(usize::MAX)),
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            accessed: (stat.st_atime, i64::try_from(stat.st_atime_nsec).unwrap_or_default()),
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            device: device(stat),
            inode: stat.st_ino,
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn permissions(&self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o777)
    }

    pub(super) fn accessed(&self) -> Timespec {
        Timespec { tv_sec: self.accessed.0, tv_nsec: self.accessed.1 }
    }

    pub(super) fn modified(&self) -> Timespec {
        Timespec { tv_sec: self.modified.0, tv_nsec: self.modified.1 }
    }

    fn write(&self) -> Json {
        let Self { mode, links, bytes, accessed, modified, device, inode } = *self;
        json!([mode, links, bytes, accessed, modified, device, inode])
    }

    fn read(value: &Json) -> Option<Self> {
        let (mode, links, bytes, accessed, modified, device, inode) = serde_json::from_value(value.clone()).ok()?;
        Some(Self { mode, links, bytes, accessed, modified, device, inode })
    }
}

/// One name of a directory and what it is, or why it cannot be told.
pub(super) type Named = Result<(String, FileType), Errno>;

fn write_name(named: &Named) -> Json {
    named.as_ref().map_or_else(|e| json!(e.raw_os_error()), |(name, kind)| json!([name, kind.as_raw_mode()]))
}

fn read_name(value: &Json) -> Option<Named> {
    if let Some(errno) = value.as_i64() {
        return Some(Err(Errno::from_raw_os_error(i32::try_from(errno).ok()?)));
    }
    let (name, mode): (String, RawMode) = serde_json::from_value(value.clone()).ok()?;
    Some(Ok((name, FileType::from_raw_mode(mode))))
}

/// A mounted directory as a guest sees it.
pub(super) struct View {
    /// As it is: for commits alone, and for the staging area.
    pub(super) base: Base,
    /// The path by which the guest knows the mount.
    pub(super) guest: String,
    looks: Looks,
}

/// An open file of a mount.
pub(super) struct BaseFile {
    place: Place,
    /// Empty where it was answered that it opens, until something of it is to be looked at.
    file: OnceCell<File>,
}

/// A directory of a mount that is being listed.
pub(super) struct BaseDir {
    view: Arc<View>,
    place: Place,
    /// Empty where it was answered what is in it.
    dir: OnceCell<Dir>,
    page: VecDeque<Named>,
    pages: u64,
    /// Names that were answered: where the rest is read, they do not come again.
    answered: HashSet<String>,
    is_over: bool,
}

impl View {
    pub(super) fn new(base: Base, guest: &str, looks: Looks) -> Self {
        Self { base, guest: guest.to_owned(), looks }
    }

    /// Whether looks are recorded or answered.
    pub(super) fn is_watched(&self) -> bool {
        self.looks.is_watching()
    }

    /// What stands at `place`, a link itself and not its target; `None` where nothing does.
    pub(super) fn stat(&self, place: &[String]) -> Result<Option<Attributes>, Errno> {
        self.look("stat", place, &FOUND, || Ok(self.base.stat(place)?.as_ref().map(Attributes::of)))
    }

    /// Whether something can be changed in the directory at `place`.
    pub(super) fn changeable(&self, place: &[String]) -> Result<(), Errno> {
        self.look("change", place, &NOTHING, || self.base.changeable(place).map(drop))
    }

    pub(super) fn link(&self, place: &[String]) -> Result<String, Errno> {
        self.look("link", place, &TEXT, || self.base.link(place))
    }

    /// Opens the regular file at `place`, for writing too where `is_write` is set: so that it is known that it may be.
    pub(super) fn open(&self, place: &[String], is_write: bool) -> Result<BaseFile, Errno> {
        let file = OnceCell::new();
        let how = if is_write { "open to write" } else { "open" };
        self.look(how, place, &NOTHING, || {
            let _ = file.set(self.base.file(place, is_write)?);
            Ok(())
        })?;
        Ok(BaseFile { place: place.to_vec(), file })
    }

    pub(super) fn stat_file(&self, file: &BaseFile) -> Result<Attributes, Errno> {
        self.look("stat file", &file.place, &ATTRIBUTES, || Ok(Attributes::of(&fstat(self.file(file)?)?)))
    }

    /// Looks at a file of the staging area: its times are those of this machine.
    pub(super) fn stat_staged(&self, place: &[String], file: &File) -> Result<Attributes, Errno> {
        self.look("stat staged", place, &ATTRIBUTES, || Ok(Attributes::of(&fstat(file)?)))
    }

    /// Reads up to `bytes_max` bytes from `offset`; none at the end of the file.
    pub(super) fn read(&self, file: &BaseFile, bytes_max: usize, offset: u64) -> Result<Vec<u8>, Errno> {
        let place = self.shown(&file.place);
        self.looks.look(format_args!("read {offset} {bytes_max} {place}"), &OCTETS, || {
            let mut buffer = vec![0; bytes_max];
            let read = rustix::io::pread(self.file(file)?, &mut buffer[..], offset)?;
            buffer.truncate(read);
            Ok(buffer)
        })
    }

    /// Begins to list the directory at `place`.
    pub(super) fn list(self: &Arc<Self>, place: &[String]) -> Result<BaseDir, Errno> {
        let dir = OnceCell::new();
        self.look("list", place, &NOTHING, || {
            let _ = dir.set(self.dir(place)?);
            Ok(())
        })?;
        Ok(BaseDir {
            view: self.clone(),
            place: place.to_vec(),
            dir,
            page: VecDeque::new(),
            pages: 0,
            answered: HashSet::new(),
            is_over: false,
        })
    }

    /// The file itself.
    pub(super) fn file<'a>(&self, file: &'a BaseFile) -> Result<&'a File, Errno> {
        if let Some(opened) = file.file.get() {
            return Ok(opened);
        }
        let opened = self.base.file(&file.place, false)?;
        Ok(file.file.get_or_init(|| opened))
    }

    fn dir(&self, place: &[String]) -> Result<Dir, Errno> {
        Dir::new(openat(self.base.dir(place)?, ".", DIRECTORY, Mode::empty())?)
    }

    fn look<T>(
        &self,
        what: &str,
        place: &[String],
        form: &Form<T>,
        make: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.looks.look(format_args!("{what} {}", self.shown(place)), form, make)
    }

    fn shown<'a>(&'a self, place: &'a [String]) -> Shown<'a> {
        Shown { guest: &self.guest, place }
    }
}

/// A place by the guest's path, written only where somebody records it.
struct Shown<'a> {
    guest: &'a str,
    place: &'a [String],
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.guest.trim_end_matches('/'))?;
        self.place.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl BaseDir {
    /// Returns the next name.
    pub(super) fn next(&mut self) -> Option<Named> {
        if self.page.is_empty() && !self.is_over {
            match self.next_page() {
                Ok(page) => {
                    self.is_over = page.is_empty();
                    self.page = page.into();
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front()
    }

    fn next_page(&mut self) -> Result<Vec<Named>, Errno> {
        let Self { view, place, dir, answered, pages, .. } = self;
        let mut is_read = false;
        let shown = Shown { guest: &view.guest, place };
        let page = view.looks.look(format_args!("names {pages} {shown}"), &NAMES, || {
            is_read = true;
            if dir.get().is_none() {
                let _ = dir.set(view.dir(place)?);
            }
            let Some(dir) = dir.get_mut() else { return Ok(Vec::new()) };
            let names = std::iter::from_fn(|| next_named(dir));
            let is_new = |named: &Named| !named.as_ref().is_ok_and(|(name, _)| answered.contains(name));
            Ok(names.filter(is_new).take(PAGE_NAMES).collect())
        })?;
        *pages += 1;
        if !is_read {
            answered.extend(page.iter().flatten().map(|(name, _)| name.clone()));
        }
        Ok(page)
    }
}

/// Returns the next name of a directory that a guest may see.
pub(super) fn next_named(dir: &mut Dir) -> Option<Named> {
    loop {
        let entry = match dir.read()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let Ok(name) = entry.file_name().to_str() else { return Some(Err(Errno::ILSEQ)) };
        if !matches!(name, "." | "..") && !is_reserved(name) {
            return Some(Ok((name.to_owned(), type_of(dir, name, entry.file_type()))));
        }
    }
}

/// Some file systems do not tell it with the name.
fn type_of(dir: &Dir, name: &str, told: FileType) -> FileType {
    if told != FileType::Unknown {
        return told;
    }
    let stat = dir.fd().and_then(|fd| statat(fd, name, AtFlags::SYMLINK_NOFOLLOW));
    stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}
