//! A later program reads a log of today: through a step that does not exist yet.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::domain::{Fact, SCHEMA_VERSION};
use crate::store::upcast::{Step, Versions};

/// As if the next version called a planner by another name.
const MADE_UP: &[Step] = &[|mut body| {
    if body["fact"]["fact"] == "run_created" {
        let planner = format!("{}, long ago", body["fact"]["planner"].as_str().unwrap_or_default());
        body["fact"]["planner"] = planner.into();
    }
    body
}];

fn copied() -> tempfile::TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/v{SCHEMA_VERSION}/log"));
    let dir = tempfile::tempdir().unwrap();
    for name in ["log.db", "key"] {
        fs::copy(golden.join(name), dir.path().join(name)).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

#[tokio::test]
async fn a_golden_log_is_read_through_a_step_of_the_next_version() {
    let dir = copied();
    let today = open(dir.path());
    let entries = today.runs(99).await.unwrap();
    let mut before = Vec::new();
    for entry in &entries {
        let events = today.read(&entry.run, 0).await.unwrap();
        let hashes: Vec<_> = events.iter().map(|event| event.hash().unwrap()).collect();
        before.push((events.len(), hashes, today.verify(&entry.run).await.unwrap().head));
    }
    drop(today);
    let later = SqliteLog { versions: Versions { oldest: SCHEMA_VERSION, steps: MADE_UP }, ..open(dir.path()) };
    let mut told = 0;
    for (entry, before) in entries.iter().zip(before) {
        let events = later.read(&entry.run, 0).await.unwrap();
        let hashes: Vec<_> = events.iter().map(|event| event.hash().unwrap()).collect();
        assert_eq!((events.len(), hashes, later.verify(&entry.run).await.unwrap().head), before);
        assert!(events.iter().all(|event| event.v == SCHEMA_VERSION + 1));
        if let Fact::RunCreated { planner, .. } = &events[0].fact {
            assert!(planner.ends_with(", long ago"), "{planner}");
            told += 1;
        }
    }
    assert!(told >= 4, "runs, and not sessions alone: {told}");
}
