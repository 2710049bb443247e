//! What people are told and what they said: whoever was told of something, it was so; only those who were asked decide, once
//! and in time; and the end tells exactly what is not as it should be.

use std::collections::BTreeMap;

use cofferdam::domain::{CaveatKind, Decision, Digest, Event, Fact, Role, SkipReason, StepId, Suspension};
use cofferdam::orchestrator::{Notice, Run, RunStatus, Stage, StepStatus};

use super::super::person::{FORGER, OTHER_KIND};
use super::super::world::Done;
use super::{Saw, Told, Whole};

pub(super) fn hold(whole: &Whole<'_>, saw: &mut Saw) {
    let Whole { simulated, told, seed } = whole;
    for notice in simulated.world.notices() {
        was_so(&notice, told, seed, saw);
    }
    let done = simulated.world.done();
    for told in *told {
        nobody_else_decides(told, seed, saw);
        changed(told, &done, seed, saw);
        caveats(told, seed, saw);
    }
}

/// What somebody was told of was waiting.
fn was_so(notice: &Notice, told: &[Told], seed: &str, saw: &mut Saw) {
    let told = told.iter().find(|told| told.run.id == notice.run).unwrap_or_else(|| panic!("{seed}: {notice:?}"));
    let until = usize::try_from(notice.seq).expect("a log is not so long");
    let run = Run::of(&told.events[..until]).expect("the log follows its own rules");
    assert_eq!(run.status, RunStatus::Suspended(notice.why), "{seed}: {notice:?}");
    for id in &notice.steps {
        let step = run.step(id).unwrap_or_else(|| panic!("{seed}: {notice:?}"));
        let is_waiting = match notice.why {
            Suspension::Approval => matches!(step.status, StepStatus::AwaitingApproval { .. }),
            Suspension::Reconcile => step.status == StepStatus::Unknown,
            Suspension::Stuck => matches!(step.planned.role, Role::Undo { .. }) && step.status.is_failed(),
            Suspension::Question | Suspension::Timer => false,
        };
        // Or a run that carries it out waits.
        let is_within = step.run.is_some() && step.status.is_running();
        assert!(is_waiting || is_within, "{seed}: {notice:?}: {:?}", step.status);
    }
    saw.note(match notice.why {
        Suspension::Approval => "whoever is told of an approval, it waits",
        Suspension::Reconcile => "whoever is told of an unknown step, it waits",
        Suspension::Stuck => "whoever is told of what is stuck, it waits",
        Suspension::Question | Suspension::Timer => panic!("{seed}: nobody is to be told of {notice:?}"),
    });
}

/// What nobody was asked is not decided; what was asked is decided once, in time.
fn nobody_else_decides(told: &Told, seed: &str, saw: &mut Saw) {
    let mut asked: BTreeMap<StepId, (Digest, cofferdam::domain::Timestamp)> = BTreeMap::new();
    for event in &told.events {
        match &event.fact {
            Fact::ApprovalRequested { step, binding, expires, .. } => {
                asked.insert(step.clone(), (*binding, *expires));
            }
            Fact::ApprovalDecided { step, binding, by, .. } => {
                assert_ne!(by, FORGER, "{seed}: a forged decision about {step} counts");
                let was_asked = asked.remove(step);
                let is_in_time = was_asked.is_some_and(|(asked, expires)| asked == *binding && event.at < expires);
                assert!(is_in_time, "{seed}: {step} was decided at {:?}, and asked was {was_asked:?}", event.at);
                saw.note("what was asked is decided once, in time");
            }
            Fact::ApprovalExpired { step, .. } => {
                let (_, expires) = asked.remove(step).unwrap_or_else(|| panic!("{seed}: {step} expires unasked"));
                assert!(event.at >= expires, "{seed}: {step} expires at {:?} and not {expires:?}", event.at);
                saw.note("what nobody decided expires, and not before");
            }
            _ => {}
        }
    }
}

/// What a person changed is what was done.
fn changed(told: &Told, done: &[Done], seed: &str, saw: &mut Saw) {
    let modified = told.events.iter().filter_map(|event| match &event.fact {
        Fact::ApprovalDecided { step, decision: Decision::Modify { key, .. }, .. } => Some((step, key)),
        _ => None,
    });
    for (step, key) in modified {
        for one in done.iter().filter(|one| one.run == told.run.id && one.step == *step) {
            assert_eq!((&one.key, one.output["kind"].as_str()), (key, Some(OTHER_KIND)), "{seed}: {one:?}");
            saw.note("what a person changed is what is done");
        }
    }
}

/// The end tells exactly what is not as it should be.
fn caveats(told: &Told, seed: &str, saw: &mut Saw) {
    let Some(Event { fact: Fact::RunEnded { caveats, .. }, .. }) = told.events.last() else { return };
    let of = |id: &StepId| -> Vec<CaveatKind> {
        caveats.iter().filter(|caveat| caveat.step == *id).map(|caveat| caveat.what).collect()
    };
    for step in told.run.in_order() {
        let found = of(step.id());
        let is_own = matches!(step.planned.role, Role::Undo { .. } | Role::Reconcile { .. });
        let failed = |kind| match told.run.stand_in(step.id()).map(|other| other.status.stage()) {
            Some(Stage::Succeeded) => CaveatKind::Degraded,
            _ => kind,
        };
        let (is_run, is_undone) = (step.run.is_some(), told.run.undo.is_some());
        let expected = match (step.status.stage(), &step.status) {
            // What takes back a run that has ended speaks for it, as that can tell nothing any more.
            _ if is_own && told.run.takes_back().is_some() => match step.status.stage() {
                Stage::Succeeded if found == [CaveatKind::NotUndone] => found.clone(),
                Stage::Succeeded => vec![],
                Stage::Failed | Stage::Rejected => vec![CaveatKind::UndoFailed],
                Stage::Unknown => vec![CaveatKind::Unknown],
                _ => vec![CaveatKind::Unfinished],
            },
            _ if is_own => vec![],
            // Of a run within the run only part may have been done, or taken back.
            (Stage::Undone | Stage::Failed, _) if is_run && is_undone && found == [CaveatKind::NotUndone] => {
                found.clone()
            }
            (Stage::Succeeded, _) if is_run && is_undone && !step.within.has_done => match step.has_caveats {
                true => vec![CaveatKind::Degraded],
                false => vec![],
            },
            (Stage::Undone, _) => vec![CaveatKind::Undone],
            (Stage::UndoFailed, _) => vec![CaveatKind::UndoFailed],
            (Stage::Unknown, _) => vec![CaveatKind::Unknown],
            (Stage::Failed, _) => vec![failed(CaveatKind::Failed)],
            (Stage::Rejected, _) => vec![failed(CaveatKind::Rejected)],
            (Stage::Skipped, StepStatus::Skipped { why: SkipReason::Needs { .. } }) => vec![CaveatKind::Skipped],
            (Stage::Skipped, _) => vec![],
            (Stage::Succeeded, _) => match told.run.undo.is_some() && step.is_write() && step.attempts > 0 {
                true => vec![CaveatKind::NotUndone],
                false if step.has_caveats => vec![CaveatKind::Degraded],
                false => vec![],
            },
            // It was stopped, or the run ended before it did: another word may stand for it, and one must.
            _ => found[..found.len().min(1)].to_vec(),
        };
        assert_eq!(found, expected, "{seed}: {} is {:?}", step.id(), step.status);
        let is_open = !step.status.is_terminal() && step.status.stage() != Stage::Unknown;
        assert!(
            is_own || !is_open || !found.is_empty(),
            "{seed}: {} is {:?}, and the end is silent",
            step.id(),
            step.status
        );
        for what in found {
            saw.note(name(what));
        }
    }
}

fn name(what: CaveatKind) -> &'static str {
    match what {
        CaveatKind::Failed => "the end tells what failed",
        CaveatKind::Rejected => "the end tells what was rejected",
        CaveatKind::Skipped => "the end tells what was skipped",
        CaveatKind::Unfinished => "the end tells what was not finished",
        CaveatKind::Unknown => "the end tells what nobody knows",
        CaveatKind::Degraded => "the end tells what stands for another",
        CaveatKind::Truncated => "the end tells what was cut",
        CaveatKind::Undone => "the end tells what was taken back",
        CaveatKind::UndoFailed => "the end tells what could not be taken back",
        CaveatKind::NotUndone => "the end tells what was not taken back",
    }
}
