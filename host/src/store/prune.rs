//! Which runs may be removed.
//!
//! Pure. A run and the runs that carry out its steps are one family: it goes as a whole, when all of it has ended.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::{RunId, Timestamp};

/// What is known of a run without folding it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub run: RunId,
    /// The run around it.
    pub parent: Option<RunId>,
    pub last: Timestamp,
    /// Whether nothing more can come, if nobody owns it.
    pub has_ended: bool,
}

impl Fate {
    /// Judges a run by its first event, as stored, and the kinds of its first and its last one.
    pub(super) fn new(run: RunId, last: Timestamp, first: Option<(&str, &str)>, last_kind: Option<&str>) -> Self {
        let (first_kind, parent) = first.map_or((None, None), |(kind, body)| (Some(kind), parent(body)));
        // A run without events was never begun. A session ends when its owner leaves.
        let has_ended =
            matches!((first_kind, last_kind), (None, _) | (Some("session_started"), _) | (_, Some("run_ended")));
        Self { run, parent, last, has_ended }
    }
}

/// Returns the families of which every run ended before `before`, each with the run around all others first.
pub(super) fn removable(fates: Vec<Fate>, before: Timestamp) -> Vec<Vec<RunId>> {
    let parents: HashMap<_, _> =
        fates.iter().filter_map(|fate| Some((fate.run.clone(), fate.parent.clone()?))).collect();
    let mut families: BTreeMap<RunId, Vec<RunId>> = BTreeMap::new();
    let mut kept = HashSet::new();
    for fate in fates {
        let root = root(&fate.run, &parents);
        if !fate.has_ended || fate.last >= before {
            kept.insert(root.clone());
        }
        families.entry(root).or_default().push(fate.run);
    }
    families.retain(|root, _| !kept.contains(root));
    for (root, family) in &mut families {
        family.sort_unstable_by_key(|run| (run != root, run.clone()));
    }
    families.into_values().collect()
}

fn root(run: &RunId, parents: &HashMap<RunId, RunId>) -> RunId {
    let mut root = run;
    // No chain of runs is longer than there are runs: a log that was touched may hold a circle.
    for _ in 0..parents.len() {
        let Some(parent) = parents.get(root) else { break };
        root = parent;
    }
    root.clone()
}

/// Returns the run around the one that this event begins.
fn parent(body: &str) -> Option<RunId> {
    #[derive(serde::Deserialize)]
    struct Head {
        fact: Created,
    }
    #[derive(serde::Deserialize)]
    struct Created {
        parent: Option<Around>,
    }
    #[derive(serde::Deserialize)]
    struct Around {
        run: RunId,
    }
    serde_json::from_str::<Head>(body).ok()?.fact.parent.map(|around| around.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u64) -> RunId {
        RunId::from_ulid(&format!("{n:026}"))
    }

    fn fate(n: u64, parent: Option<u64>, last: u64, has_ended: bool) -> Fate {
        Fate { run: run(n), parent: parent.map(run), last: Timestamp(last), has_ended }
    }

    fn check(fates: &[Fate], expected: &[&[u64]]) {
        let expected: Vec<Vec<_>> = expected.iter().map(|family| family.iter().map(|n| run(*n)).collect()).collect();
        assert_eq!(removable(fates.to_vec(), Timestamp(100)), expected);
    }

    #[test]
    fn what_ended_in_time_goes_and_the_rest_stays() {
        check(&[fate(1, None, 99, true), fate(2, None, 100, true), fate(3, None, 1, false)], &[&[1]]);
    }

    #[test]
    fn a_family_goes_as_a_whole() {
        check(&[fate(1, Some(2), 9, true), fate(2, None, 9, true), fate(3, Some(1), 9, true)], &[&[2, 1, 3]]);
        check(&[fate(1, None, 9, true), fate(2, Some(1), 9, false)], &[]);
        check(&[fate(1, None, 9, false), fate(2, Some(1), 9, true)], &[]);
        check(&[fate(2, Some(1), 9, true)], &[&[2]]);
    }

    #[test]
    fn a_circle_of_parents_ends_too() {
        check(&[fate(1, Some(2), 9, true), fate(2, Some(1), 9, false)], &[&[1]]);
    }

    #[test]
    fn the_parent_is_read_from_the_first_event() {
        let body =
            format!(r#"{{"fact":{{"fact":"run_created","parent":{{"depth":1,"run":"{}","step":"t1.a"}}}}}}"#, run(7));
        let fate = |first, last| Fate::new(run(1), Timestamp(1), first, last);
        assert_eq!(fate(Some(("run_created", &body)), Some("run_ended")).parent, Some(run(7)));
        assert!(!fate(Some(("run_created", &body)), Some("run_suspended")).has_ended);
        assert!(fate(Some(("session_started", "{}")), Some("called")).has_ended);
        assert!(fate(None, None).has_ended);
    }
}
