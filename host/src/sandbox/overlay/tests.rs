//! Overlays against plain directories: the same operations bring the same, a commit makes the mount equal to the plain
//! directory, and a call that does not commit leaves it as it was.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use wasmtime_wasi::p2::bindings::filesystem::types::NewTimestamp;

use super::*;
use crate::clock::SimClock;
use crate::domain::Timestamp;

mod recorded;

const WRITE: How = How { follow: true, create: true, exclusive: false, truncate: true, directory: false, write: true };
const CHANGE: How = How { create: false, truncate: false, ..WRITE };
const READ: How = How { write: false, ..CHANGE };

/// A mount with a few files, and a guest who works in it.
struct Guest {
    overlay: Overlay,
    root: DirId,
    clock: Arc<SimClock>,
}

impl Guest {
    fn new(dir: &Path, limits: &Limits) -> Self {
        Self::watched(dir, limits, Looks::default())
    }

    /// One whose looks are recorded, or answered.
    fn watched(dir: &Path, limits: &Limits, looks: Looks) -> Self {
        let name = format!("{:032x}-0", RandomState::new().hash_one(dir));
        let clock = Arc::new(SimClock::at(Timestamp(0)));
        let quota = Quota::new(limits, Deadline { clock: clock.clone(), at_ms: 1_000 });
        let overlay = Overlay::new(("/m", dir), &name, Arc::new(quota), looks);
        let mut overlay = overlay.expect("the mount opens");
        let root = overlay.open_root();
        Self { overlay, root, clock }
    }

    fn file<T>(
        &mut self,
        path: &str,
        how: How,
        work: impl FnOnce(&mut Overlay, FileId) -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        match self.overlay.open(self.root, path, how)? {
            Opened::File(id) => {
                let result = work(&mut self.overlay, id);
                self.overlay.release(id);
                result
            }
            Opened::Dir(id) => {
                self.overlay.close_dir(id);
                Err(ErrorCode::IsDirectory)
            }
        }
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), ErrorCode> {
        self.file(path, WRITE, |overlay, id| overlay.write(id, text.as_bytes(), Some(0)).map(drop))
    }

    fn append(&mut self, path: &str, text: &str) -> Result<(), ErrorCode> {
        self.file(path, How { truncate: false, ..WRITE }, |overlay, id| {
            overlay.write(id, text.as_bytes(), None).map(drop)
        })
    }

    fn read(&mut self, path: &str) -> Result<String, ErrorCode> {
        self.file(path, READ, |overlay, id| overlay.read(id, 1 << 16, 0))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&mut self, path: &str) -> Result<Vec<String>, ErrorCode> {
        let Opened::Dir(dir) = self.overlay.open(self.root, path, How { directory: true, ..READ })? else {
            return Err(ErrorCode::NotDirectory);
        };
        let mut names: Vec<String> = self
            .overlay
            .list(dir)?
            .page(1_000)?
            .into_iter()
            .map(|entry| entry.map(|entry| entry.name))
            .collect::<Result<_, _>>()?;
        self.overlay.close_dir(dir);
        names.sort();
        Ok(names)
    }

    /// All that the guest sees: files with their text, directories with a slash.
    fn tree(&mut self, path: &str) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        for name in self.list(path).expect("a directory lists") {
            let inner = if path == "." { name } else { format!("{path}/{name}") };
            match self.read(&inner) {
                Ok(text) => drop(tree.insert(inner, text)),
                Err(_) => {
                    tree.extend(self.tree(&inner));
                    tree.insert(inner + "/", String::new());
                }
            }
        }
        tree
    }

    fn commit(&mut self) {
        self.overlay.check_commit().expect("it can be committed");
        let planned = self.overlay.planned();
        let applied = self.overlay.apply();
        assert!(applied.refused.is_none(), "{applied:?}");
        assert_eq!(applied.done, planned);
    }
}

fn mount() -> TempDir {
    let dir = tempfile::tempdir().expect("there is room");
    fs::create_dir_all(dir.path().join("d/e")).unwrap();
    for (path, text) in [("a", "one"), ("b", "two"), ("d/c", "three"), ("d/e/f", "four")] {
        fs::write(dir.path().join(path), text).unwrap();
    }
    dir
}

/// All that stands in a directory, our own included.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, tree: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_symlink() {
                tree.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                tree.insert(name + "/", String::new());
                walk(root, &path, tree);
            } else {
                tree.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

#[test]
fn a_call_sees_its_changes_and_the_mount_does_not() {
    let dir = mount();
    let before = tree(dir.path());
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("a", "changed").unwrap();
    guest.append("d/c", "!").unwrap();
    guest.write("new", "x").unwrap();
    guest.overlay.unlink(guest.root, "b").unwrap();
    guest.overlay.rename(guest.root, "d/e", guest.root, "moved").unwrap();
    assert_eq!(guest.list(".").unwrap(), ["a", "d", "moved", "new"]);
    assert_eq!(
        [guest.read("a"), guest.read("d/c"), guest.read("moved/f")].map(Result::unwrap),
        ["changed", "three!", "four"]
    );
    assert_eq!(guest.read("b").unwrap_err(), ErrorCode::NoEntry);
    assert_eq!(guest.list("d").unwrap(), ["c"]);
    let seen: BTreeMap<_, _> = tree(dir.path()).into_iter().filter(|(path, _)| !path.starts_with(AREAS_NAME)).collect();
    assert_eq!(seen, before);
    let after = guest.tree(".");
    guest.commit();
    drop(guest);
    assert_eq!(tree(dir.path()), after);
}

/// What the staging areas are called, as a test would find them.
#[test]
fn no_place_is_longer_than_a_path_from_whatever_directory_it_is_reached() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    let name = "n".repeat(255);
    let mut at = guest.root;
    for _ in 0..path::PATH_BYTES_MAX / 256 {
        guest.overlay.make_dir(at, &name).unwrap();
        let Ok(Opened::Dir(inner)) = guest.overlay.open(at, &name, READ) else { panic!("it is a directory") };
        at = inner;
    }
    assert_eq!(guest.overlay.make_dir(at, "d"), Err(ErrorCode::NameTooLong));
    let moved = guest.overlay.rename(guest.root, &name, guest.root, &format!("d/{name}"));
    assert_eq!(moved, Err(ErrorCode::NameTooLong), "renaming leads no deeper");
}

#[test]
fn what_keeps_a_directory_from_going_is_found_before_anything_is_done() {
    let dir = mount();
    fs::create_dir_all(dir.path().join("d/e").join(AREAS_NAME)).unwrap();
    let before = tree(dir.path());
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("a", "changed").unwrap();
    guest.overlay.rename(guest.root, "d/e", guest.root, "moved").unwrap();
    let refused = guest.overlay.check_commit().unwrap_err();
    assert_eq!((refused.what.as_str(), refused.is_conflict), ("remove /m/d/e", true));
    drop(guest);
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn what_may_only_be_read_is_refused_when_it_is_changed_and_not_when_it_is_kept() {
    let dir = mount();
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o444)).unwrap();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    let times = (NewTimestamp::NoChange, NewTimestamp::Now);
    let touched = guest.file("a", READ, |overlay, id| overlay.set_times(id, times.0, times.1));
    let renamed = guest.overlay.rename(guest.root, "a", guest.root, "z");
    if rustix::process::geteuid().is_root() {
        // Who may write everything may write this.
        assert_eq!((touched, renamed), (Ok(()), Ok(())));
        return;
    }
    assert_eq!((touched, renamed), (Err(ErrorCode::Access), Err(ErrorCode::Access)));
    assert!(!guest.overlay.has_changed());
}

#[test]
fn nothing_is_copied_when_the_time_is_over() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.clock.advance_ms(999);
    guest.append("a", "!").unwrap();
    let used = guest.overlay.quota.used();
    guest.clock.advance_ms(1);
    assert_eq!(guest.append("b", "!"), Err(ErrorCode::Interrupted));
    assert_eq!(guest.overlay.rename(guest.root, "d", guest.root, "moved"), Err(ErrorCode::Interrupted));
    assert_eq!(guest.overlay.quota.used(), used);
}

const AREAS_NAME: &str = ".cofferdam-staging";

#[test]
fn a_call_that_does_not_commit_leaves_no_trace() {
    let dir = mount();
    let before = tree(dir.path());
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("a", "changed").unwrap();
    guest.overlay.make_dir(guest.root, "n").unwrap();
    drop(guest);
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn leftovers_of_dead_processes_are_removed_and_those_in_use_are_not() {
    let dir = mount();
    let before = tree(dir.path());
    let mut alive = Guest::new(dir.path(), &Limits::default());
    alive.write("a", "kept").unwrap();
    // As a process leaves it that dies: nobody holds the lock.
    let dead = dir.path().join(AREAS_NAME).join(format!("{:032x}-0-0", 7));
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), "half").unwrap();
    // As nobody leaves it but somebody else.
    let strange = dir.path().join(AREAS_NAME).join(format!("{:032x}-0-1", 7));
    let photos = dir.path().join(AREAS_NAME).join("photos");
    for (folder, file) in [(&strange, "0.jpg"), (&photos, "0")] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join(file), "mine").unwrap();
    }
    let mut next = Guest::new(dir.path(), &Limits::default());
    assert!(dead.exists(), "who only reads removes nothing");
    next.write("b", "two").unwrap();
    drop(next);
    assert!(!dead.exists() && strange.join("0.jpg").exists() && photos.join("0").exists());
    fs::remove_dir_all(strange).unwrap();
    fs::remove_dir_all(photos).unwrap();
    alive.commit();
    drop(alive);
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "kept");
    fs::write(dir.path().join("a"), "one").unwrap();
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn areas_come_and_go_on_many_threads_and_no_write_is_lost() {
    let dir = mount();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let dir = dir.path().to_owned();
            std::thread::spawn(move || {
                for n in 0..100 {
                    let mut guest = Guest::new(&dir, &Limits::default());
                    guest.write(&format!("{thread}-{n}"), "x").unwrap();
                    guest.commit();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(tree(dir.path()).len(), 6 + 400);
}

#[test]
fn our_own_directory_is_not_there() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("a", "changed").unwrap();
    assert_eq!(guest.list(".").unwrap(), ["a", "b", "d"]);
    for name in [AREAS_NAME, ".COFFERDAM-staging", "./.cofferdam-staging/.", "d/../.cofferdam-staging"] {
        assert_eq!(guest.list(name).unwrap_err(), ErrorCode::NoEntry, "{name}");
        assert_eq!(guest.overlay.make_dir(guest.root, name).unwrap_err(), ErrorCode::NotPermitted, "{name}");
    }
    assert_eq!(guest.overlay.rename(guest.root, AREAS_NAME, guest.root, "x").unwrap_err(), ErrorCode::NotPermitted);
}

#[test]
fn links_are_read_through_inside_and_written_through_nowhere() {
    let dir = mount();
    symlink("d/c", dir.path().join("in")).unwrap();
    symlink("d", dir.path().join("folder")).unwrap();
    symlink("../outside", dir.path().join("out")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    symlink("/etc", dir.path().join("absolute")).unwrap();
    let before = tree(dir.path());
    let mut guest = Guest::new(dir.path(), &Limits::default());
    assert_eq!(
        [guest.read("in"), guest.read("folder/c"), guest.read("folder/../a")].map(Result::unwrap),
        ["three", "three", "one"]
    );
    for (path, code) in
        [("out", ErrorCode::NotPermitted), ("absolute/passwd", ErrorCode::NotPermitted), ("loop", ErrorCode::Loop)]
    {
        assert_eq!(guest.read(path).unwrap_err(), code, "{path}");
    }
    for path in ["in", "folder/c", "folder/new", "out", "loop", "absolute/x"] {
        assert_eq!(guest.write(path, "x").unwrap_err(), ErrorCode::NotPermitted, "{path}");
    }
    for (old, new) in
        [("in", "x"), ("folder", "x"), ("folder/", "x"), ("out", "x"), ("a", "folder/x"), ("folder/c", "x")]
    {
        assert_eq!(
            guest.overlay.rename(guest.root, old, guest.root, new).unwrap_err(),
            ErrorCode::NotPermitted,
            "{old}"
        );
    }
    guest.write("d/c", "changed").unwrap();
    assert_eq!(guest.read("in").unwrap(), "changed", "a link leads to what the call sees");
    assert_eq!(guest.overlay.read_link(guest.root, "in").unwrap(), "d/c");
    // The link itself is a name in the mount.
    guest.overlay.unlink(guest.root, "out").unwrap();
    drop(guest);
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn who_has_a_file_open_sees_what_others_write() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    let Opened::File(reader) = guest.overlay.open(guest.root, "a", READ).unwrap() else { panic!("it is a file") };
    guest.append("a", " more").unwrap();
    assert_eq!(guest.overlay.read(reader, 100, 0).unwrap(), b"one more");
    guest.overlay.unlink(guest.root, "a").unwrap();
    assert_eq!(guest.overlay.read(reader, 100, 0).unwrap(), b"one more");
    guest.overlay.release(reader);
    assert_eq!(guest.overlay.quota.used(), (0, 1));
}

#[test]
fn the_quota_counts_lengths_and_entries_and_gives_them_back() {
    let dir = mount();
    let limits = Limits { file_bytes_max: 10, file_entries_max: 3, ..Limits::default() };
    let mut guest = Guest::new(dir.path(), &limits);
    guest.write("x", "0123456789").unwrap();
    assert_eq!(guest.append("x", "!").unwrap_err(), ErrorCode::Quota);
    assert_eq!(guest.append("a", "!").unwrap_err(), ErrorCode::Quota, "the copy counts");
    assert_eq!(guest.read("x").unwrap(), "0123456789");
    guest.overlay.unlink(guest.root, "x").unwrap();
    assert_eq!(guest.overlay.quota.used(), (0, 0));
    let sparse = guest.file("x", WRITE, |overlay, id| overlay.write(id, b"!", Some(1 << 40)));
    assert_eq!(sparse.unwrap_err(), ErrorCode::Quota);
    assert_eq!(guest.file("x", CHANGE, |overlay, id| overlay.resize(id, 1 << 40)).unwrap_err(), ErrorCode::Quota);
    assert_eq!(guest.file("x", CHANGE, |overlay, id| overlay.resize(id, 10)), Ok(()));
    assert_eq!(guest.file("x", CHANGE, |overlay, id| overlay.resize(id, 4)), Ok(()));
    assert_eq!(guest.overlay.quota.used(), (4, 1));
    guest.overlay.make_dir(guest.root, "y").unwrap();
    guest.overlay.unlink(guest.root, "b").unwrap();
    assert_eq!(guest.overlay.make_dir(guest.root, "z").unwrap_err(), ErrorCode::Quota);
    assert_eq!(guest.write("z", "").unwrap_err(), ErrorCode::Quota);
    assert_eq!(guest.overlay.unlink(guest.root, "a").unwrap_err(), ErrorCode::Quota);
    guest.overlay.remove_dir(guest.root, "y").unwrap();
    assert_eq!(guest.overlay.make_dir(guest.root, "z"), Ok(()));
    assert_eq!(guest.overlay.quota.used(), (4, 3));
}

#[test]
fn nothing_is_copied_that_there_is_no_room_for() {
    let dir = mount();
    for limits in
        [Limits { file_entries_max: 0, ..Limits::default() }, Limits { file_bytes_max: 2, ..Limits::default() }]
    {
        let mut guest = Guest::new(dir.path(), &limits);
        assert_eq!(guest.append("a", "!").unwrap_err(), ErrorCode::Quota);
        assert!(guest.overlay.area.is_none() && guest.overlay.quota.used() == (0, 0));
    }
    let mut guest = Guest::new(dir.path(), &Limits { file_entries_max: 1, file_bytes_max: 4, ..Limits::default() });
    guest.append("a", "!").unwrap();
}

#[test]
fn a_replaced_file_keeps_its_permissions() {
    let dir = mount();
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("a", "changed").unwrap();
    guest.commit();
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_becomes_another_kind_of_thing_is_replaced() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    for path in ["d/e/f", "d/c", "a"] {
        guest.overlay.unlink(guest.root, path).unwrap();
    }
    guest.overlay.remove_dir(guest.root, "d/e").unwrap();
    guest.overlay.remove_dir(guest.root, "d").unwrap();
    guest.write("d", "a file now").unwrap();
    guest.overlay.make_dir(guest.root, "a").unwrap();
    guest.write("a/x", "in a directory now").unwrap();
    let after = guest.tree(".");
    guest.commit();
    drop(guest);
    assert_eq!(tree(dir.path()), after);
}

#[test]
fn what_somebody_put_in_the_way_is_found_before_anything_changes() {
    let dir = mount();
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("a", "changed").unwrap();
    guest.write("new", "x").unwrap();
    fs::create_dir(dir.path().join("new")).unwrap();
    let refused = guest.overlay.check_commit().unwrap_err();
    assert_eq!((refused.what.as_str(), refused.is_conflict), ("write /m/new", true));
    // Found too late, it stops the rest, and what was done is told.
    let applied = guest.overlay.apply();
    assert_eq!(applied.done, ["write /m/a"]);
    assert_eq!(applied.refused.map(|refused| refused.what).as_deref(), Some("write /m/new"));
}

#[test]
fn a_directory_that_becomes_a_link_is_not_followed() {
    let (dir, outside) = (mount(), mount());
    let before = tree(outside.path());
    let mut guest = Guest::new(dir.path(), &Limits::default());
    guest.write("d/c", "changed").unwrap();
    guest.overlay.unlink(guest.root, "d/e/f").unwrap();
    fs::rename(dir.path().join("d"), dir.path().join("was")).unwrap();
    symlink(outside.path().join("d"), dir.path().join("d")).unwrap();
    assert!(guest.overlay.check_commit().unwrap_err().is_conflict);
    assert!(guest.overlay.apply().refused.is_some());
    assert_eq!(guest.read("d/e/x").unwrap_err(), ErrorCode::NotPermitted);
    drop(guest);
    assert_eq!(tree(outside.path()), before);
}

/// A plain directory, by the standard library: what an overlay must be like.
struct Plain(PathBuf);

/// What an operation brought: text, or that it failed.
type Brought = Result<String, Option<ErrorCode>>;

/// One of the operations that both can do.
#[derive(Debug)]
enum Op {
    Write(String, String),
    Append(String, String),
    Resize(String, u64),
    Read(String),
    MakeDir(String),
    RemoveDir(String),
    Unlink(String),
    Rename(String, String),
    List(String),
    Size(String),
}

impl Op {
    fn random(random: &mut Random) -> Self {
        let path = random.path();
        match random.below(12) {
            0 | 1 => Self::Write(path, random.text()),
            2 => Self::Append(path, random.text()),
            3 => Self::Resize(path, random.below(12)),
            4 => Self::Read(path),
            5 | 6 => Self::MakeDir(path),
            7 => Self::RemoveDir(path),
            8 => Self::Unlink(path),
            9 | 10 => Self::Rename(path, random.path()),
            _ => {
                if random.below(2) == 0 {
                    Self::List(path)
                } else {
                    Self::Size(path)
                }
            }
        }
    }

    fn on_guest(&self, guest: &mut Guest) -> Brought {
        let root = guest.root;
        let nothing = |()| String::new();
        let result = match self {
            Self::Write(path, text) => guest.write(path, text).map(nothing),
            Self::Append(path, text) => guest.append(path, text).map(nothing),
            Self::Resize(path, size) => guest.file(path, CHANGE, |overlay, id| overlay.resize(id, *size)).map(nothing),
            Self::Read(path) => guest.read(path),
            Self::MakeDir(path) => guest.overlay.make_dir(root, path).map(nothing),
            Self::RemoveDir(path) => guest.overlay.remove_dir(root, path).map(nothing),
            Self::Unlink(path) => guest.overlay.unlink(root, path).map(nothing),
            Self::Rename(old, new) => guest.overlay.rename(root, old, root, new).map(nothing),
            Self::List(path) => guest.list(path).map(|names| names.join(" ")),
            Self::Size(path) => guest.overlay.stat_at(root, path, true).map(|(stat, _)| match stat.type_ {
                wasmtime_wasi::p2::bindings::filesystem::types::DescriptorType::Directory => "a directory".into(),
                _ => stat.size.to_string(),
            }),
        };
        result.map_err(Some)
    }

    fn on_plain(&self, plain: &Plain) -> Brought {
        let at = |path: &String| plain.0.join(path);
        let nothing = |()| String::new();
        let result = match self {
            Self::Write(path, text) => fs::write(at(path), text).map(nothing),
            Self::Append(path, text) => fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(at(path))
                .and_then(|file| file.write_all_at(text.as_bytes(), 0))
                .map(nothing),
            Self::Resize(path, size) => {
                fs::OpenOptions::new().write(true).open(at(path)).and_then(|f| f.set_len(*size)).map(nothing)
            }
            Self::Read(path) => fs::read(at(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            Self::MakeDir(path) => fs::create_dir(at(path)).map(nothing),
            Self::RemoveDir(path) => fs::remove_dir(at(path)).map(nothing),
            Self::Unlink(path) => fs::remove_file(at(path)).map(nothing),
            Self::Rename(old, new) => fs::rename(at(old), at(new)).map(nothing),
            Self::List(path) => fs::read_dir(at(path)).and_then(|entries| {
                let mut names = entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect::<std::io::Result<Vec<_>>>()?;
                names.sort();
                Ok(names.join(" "))
            }),
            Self::Size(path) => fs::metadata(at(path))
                .map(|found| if found.is_dir() { "a directory".into() } else { found.len().to_string() }),
        };
        result.map_err(|error| match error.kind() {
            // Where several things are wrong, systems differ in what they say.
            ErrorKind::NotFound => Some(ErrorCode::NoEntry),
            ErrorKind::DirectoryNotEmpty => Some(ErrorCode::NotEmpty),
            ErrorKind::AlreadyExists => Some(ErrorCode::Exist),
            _ => None,
        })
    }
}

/// Numbers that follow from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }

    /// A path of few names, so that operations meet.
    fn path(&mut self) -> String {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut name = || names[usize::try_from(self.below(6)).unwrap_or(0)];
        match [name(), name(), name()] {
            [a, b, c] if a < "c" => format!("{a}/{b}/{c}"),
            [a, b, _] if b < "e" => format!("{a}/{b}"),
            [a, ..] => a.to_owned(),
        }
    }

    fn text(&mut self) -> String {
        "x".repeat(usize::try_from(self.below(9)).unwrap_or(0)) + &self.below(10).to_string()
    }
}

/// One call: random operations on an overlay and on a plain directory with the same content.
fn sequence(seed: u64) {
    let (mut random, dir, plain) = (Random(seed), mount(), mount());
    let plain = Plain(plain.keep());
    let before = tree(dir.path());
    let mut guest = Guest::new(dir.path(), &Limits::default());
    for n in 0..60 {
        let op = Op::random(&mut random);
        let (seen, expected) = (op.on_guest(&mut guest), op.on_plain(&plain));
        let is_same = match (&seen, &expected) {
            (Ok(seen), Ok(expected)) => seen == expected,
            (Err(seen), Err(expected)) => {
                expected.is_none() || seen == expected || matches!(op, Op::Rename(..) | Op::MakeDir(_))
            }
            _ => false,
        };
        assert!(is_same, "seed {seed}, operation {n}, {op:?}: {seen:?} in the overlay, {expected:?} in a directory");
    }
    let visible = guest.tree(".");
    assert_eq!(visible, tree(&plain.0), "seed {seed}");
    let is_kept = random.below(3) > 0;
    if is_kept {
        guest.commit();
    }
    drop(guest);
    assert_eq!(tree(dir.path()), if is_kept { visible } else { before }, "seed {seed}");
    fs::remove_dir_all(plain.0).unwrap();
}

#[test]
fn an_overlay_is_like_a_directory() {
    let first = RandomState::new().hash_one(0);
    println!("seeds from {first}");
    for n in 0..150 {
        sequence(first.wrapping_add(n));
    }
}
