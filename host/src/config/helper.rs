//! Which program compiles components where nobody chose one.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::sandbox::Helper;

use super::Environment;

/// The name of the program that is always a helper.
const PROGRAM: &str = "cofferdam";

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
    beside.into_iter().chain(searched).map(|directory| directory.join(PROGRAM)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_beside_this_one_goes_before_the_search_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("beside", 0o755), ("first", 0o644), ("second", 0o755)] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join(PROGRAM), "").unwrap();
            std::fs::set_permissions(at(name).join(PROGRAM), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([Path::new("."), &at("first"), &at("second")]).unwrap();
        let found = |program: &Path| find(Some(program), Some(&path));
        assert_eq!(found(&at("beside/mine")), Some(at("beside/cofferdam")));
        assert_eq!(found(&at("elsewhere/mine")), Some(at("second/cofferdam")), "what cannot be run is passed over");
        assert_eq!(find(None, None), None);
    }
}
