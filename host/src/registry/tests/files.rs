//! Components in files: pinned digests, and what is not a file.

use std::path::PathBuf;

use crate::domain::{Digest, Kind};

use super::super::{Candidate, Trust, verify};
use super::*;

fn candidate(path: PathBuf) -> Candidate {
    Candidate { name: "sample".into(), path }
}

#[test]
fn a_pinned_digest_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.wasm");
    let bytes = component("package a:b; world w { export run: func(); }");
    std::fs::write(&path, &bytes).unwrap();
    let right = Trust { digest: Some(Digest::of(&bytes)) };
    let component = verify(candidate(path.clone()), &right, &Options::default()).unwrap();
    assert_eq!((component.bytes(), component.digest()), (&bytes[..], &Digest::of(&bytes)));
    let wrong = Trust { digest: Some(Digest::of(b"other")) };
    let failure = verify(candidate(path), &wrong, &Options::default()).unwrap_err();
    assert_eq!(failure.kind, Kind::LoadDenied);
    assert!(
        failure.message.contains(&Digest::of(&bytes).to_string())
            && failure.message.contains(&Digest::of(b"other").to_string())
    );
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for (path, found) in [(fifo, "a FIFO"), (folder.path().to_owned(), "a directory"), ("/dev/zero".into(), "a device")]
    {
        let failure = verify(candidate(path), &Trust::default(), &Options::default()).unwrap_err();
        assert_eq!(failure.kind, Kind::LoadInvalid);
        assert!(failure.message.contains(found), "{failure}");
    }
    let absent = verify(candidate(folder.path().join("absent")), &Trust::default(), &Options::default()).unwrap_err();
    assert_eq!(absent.kind, Kind::DataNotFound);
}

#[test]
fn a_file_above_the_bound_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let failure = verify(candidate(path), &Trust::default(), &Options::default()).unwrap_err();
    assert_eq!(failure.kind, Kind::LoadLimit);
    let bytes = component("package a:b; world w { export run: func(); }");
    let small = Options { file_bytes_max: 10, ..Options::default() };
    assert_eq!(read(&bytes, None, &small).unwrap_err().kind, Kind::LoadLimit);
}
