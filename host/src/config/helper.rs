//! Which program compiles components where nobody chose one.
//!
//! Promises: what it writes is run as machine code, so a program is found only where nobody but this user and root could
//! have put or changed it. Leaves to others: the directories above, which belong to the machine.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sandbox::Helper;

use super::Environment;

/// The name of the program that is always a helper.
const PROGRAM: &str = "cofferdam";

/// What neither the program's group nor others may do to it, or to its directory.
const OTHERS_WRITE: u32 = 0o022;

/// The user that may change everything anyway.
const ROOT: u32 = 0;

/// Returns the helper that is there: this program where it can be its own, else the `cofferdam` beside it, else the one
/// that the search path finds.
pub fn helper() -> Option<Helper> {
    if Helper::SelfExec.is_ready() {
        return Some(Helper::SelfExec);
    }
    let program = std::env::current_exe().ok();
    let path = Environment::of_process().ok().and_then(|environment| environment.get("PATH"));
    find(program.as_deref(), path.as_deref().map(OsStr::new)).map(Helper::Path)
}

fn find(program: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = program.and_then(Path::parent).map(Path::to_owned);
    let searched = path.map(std::env::split_paths).into_iter().flatten();
    // A relative entry would mean another program in every directory.
    let searched = searched.filter(|directory| directory.is_absolute());
    beside.into_iter().chain(searched).find_map(|directory| program_in(&directory))
}

/// Returns the program in `directory`, past links, where it can be trusted.
fn program_in(directory: &Path) -> Option<PathBuf> {
    let link = directory.join(PROGRAM);
    // Past links: one that is changed later leads nowhere else.
    let file = link.canonicalize().ok()?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0) {
        return None;
    }
    let parts = [Some(file.as_path()), file.parent(), Some(directory)].into_iter().flatten();
    for part in parts {
        if !part.metadata().is_ok_and(|metadata| is_ours(&metadata)) {
            let (program, part) = (link.display(), part.display());
            tracing::warn!(%program, why = %part, "a helper is passed over, as other users could have put it there");
            return None;
        }
    }
    Some(file)
}

/// Whether nobody but this user and root can change it.
fn is_ours(metadata: &Metadata) -> bool {
    let owners = [ROOT, rustix::process::geteuid().as_raw()];
    owners.contains(&metadata.uid()) && metadata.mode() & OTHERS_WRITE == 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder with one more in it, which holds a program.
    fn with_program() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().canonicalize().unwrap().join("bin");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join(PROGRAM), "").unwrap();
        set_mode(&directory, 0o755);
        set_mode(&directory.join(PROGRAM), 0o755);
        (folder, directory)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_program_that_others_could_have_put_there_is_passed_over() {
        let (_folder, directory) = with_program();
        let program = directory.join(PROGRAM);
        let is_found = || find(None, Some(directory.as_os_str())).is_some();
        assert!(is_found());
        for (path, bad) in [(&program, 0o775), (&program, 0o757), (&directory, 0o775), (&directory, 0o1777)] {
            set_mode(path, bad);
            assert!(!is_found(), "{}: {bad:o}", path.display());
            set_mode(path, 0o755);
            assert!(is_found(), "it was {bad:o}");
        }
        std::fs::remove_file(&program).unwrap();
        std::fs::create_dir(&program).unwrap();
        assert!(!is_found(), "a folder is no program");
    }

    #[test]
    fn a_link_is_followed_and_both_its_ends_are_looked_at() {
        let (folder, directory) = with_program();
        let links = folder.path().canonicalize().unwrap().join("links");
        std::fs::create_dir(&links).unwrap();
        set_mode(&links, 0o755);
        symlink(directory.join(PROGRAM), links.join(PROGRAM)).unwrap();
        let found = || find(None, Some(links.as_os_str()));
        assert_eq!(found(), Some(directory.join(PROGRAM)));
        for path in [&directory, &links] {
            set_mode(path, 0o777);
            assert_eq!(found(), None, "{}", path.display());
            set_mode(path, 0o755);
        }
    }

    #[test]
    fn a_program_of_another_user_is_passed_over() {
        let (_folder, directory) = with_program();
        let program = directory.join(PROGRAM);
        let stranger = Some(rustix::fs::Uid::from_raw(65_534));
        if rustix::fs::chown(&program, stranger, None).is_err() {
            // Only root can give files away; elsewhere the modes above are what can be tested.
            return;
        }
        assert_eq!(find(None, Some(directory.as_os_str())), None);
    }

    #[test]
    fn the_program_beside_this_one_goes_before_the_search_path() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let at = |name: &str| folder.join(name);
        for (name, mode) in [("beside", 0o755), ("first", 0o644), ("second", 0o755)] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join(PROGRAM), "").unwrap();
            set_mode(&at(name), 0o755);
            set_mode(&at(name).join(PROGRAM), mode);
        }
        let path = std::env::join_paths([Path::new("."), &at("first"), &at("second")]).unwrap();
        let found = |program: &Path| find(Some(program), Some(&path));
        assert_eq!(found(&at("beside/mine")), Some(at("beside/cofferdam")));
        assert_eq!(found(&at("elsewhere/mine")), Some(at("second/cofferdam")), "what cannot be run is passed over");
        assert_eq!(find(None, None), None);
    }
}
