//! Who is who among a run and the runs within it, for whoever sees them all at one time: a run within the run is told with
//! the step that it carries out.

use std::collections::HashMap;

use crate::domain::{Event, Fact, RunId, StepId, ToolName};
use crate::host::StepReport;

use super::story::Cast;

/// A run that is watched, and the runs within it, as their events name them.
pub(super) struct Family {
    root: RunId,
    members: HashMap<RunId, Member>,
}

#[derive(Default)]
struct Member {
    /// The steps that lead to the run, from the outermost one.
    within: Vec<StepId>,
    cast: Cast,
}

impl Family {
    pub(super) fn new(root: RunId) -> Self {
        Self { root, members: HashMap::new() }
    }

    /// Learns the steps that the watched run has already.
    pub(super) fn know(&mut self, steps: &[StepReport]) {
        let root = self.root.clone();
        self.member(&root).cast.know(steps);
        for step in steps {
            if let Some(run) = &step.run {
                self.born(run, &root, &step.step);
            }
        }
    }

    /// Learns what an event names.
    pub(super) fn learn(&mut self, event: &Event) {
        match &event.fact {
            Fact::RunCreated { parent: Some(parent), .. } if event.run != self.root => {
                self.born(&event.run, &parent.run, &parent.step);
            }
            Fact::StepStarted { step, run: Some(run), .. } => self.born(run, &event.run, step),
            _ => {}
        }
        self.member(&event.run).cast.learn(event);
    }

    fn born(&mut self, run: &RunId, around: &RunId, step: &StepId) {
        let mut within = self.within(around).to_vec();
        within.push(step.clone());
        self.member(run).within = within;
    }

    fn member(&mut self, run: &RunId) -> &mut Member {
        self.members.entry(run.clone()).or_default()
    }

    /// Returns the steps that lead to a run; none for the one that is watched.
    pub(super) fn within(&self, run: &RunId) -> &[StepId] {
        self.members.get(run).map_or(&[], |member| &member.within)
    }

    /// Returns the tool of a step.
    pub(super) fn tool(&self, run: &RunId, step: &StepId) -> Option<&ToolName> {
        self.members.get(run)?.cast.tool(step)
    }

    /// Returns what an event means to a person who watches, with the steps that lead to its run.
    pub(super) fn line(&self, event: &Event) -> Option<String> {
        let line = self.members.get(&event.run)?.cast.line(event)?;
        Some(format!("{}{line}", self.way(&event.run)))
    }

    /// Returns the way to a run in front of a line about it: empty for the one that is watched. A run within it of which
    /// nobody has told yet goes by its id.
    pub(super) fn way(&self, run: &RunId) -> String {
        match self.within(run) {
            [] if *run != self.root => format!("{run} › "),
            steps => steps.iter().map(|step| format!("{step} › ")).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cost, Effect, GENESIS, SCHEMA_VERSION, Timestamp};

    fn run(n: char) -> RunId {
        format!("r-01arz3ndektsv4rrffq69g5fa{n}").parse().unwrap()
    }

    fn id(name: &str) -> StepId {
        StepId::new(1, name).unwrap()
    }

    fn started(of: char, step: &str, within: Option<char>) -> Event {
        let fact = Fact::StepStarted {
            step: id(step),
            attempt: 1,
            component: GENESIS,
            effect: Effect::Read,
            rules: Vec::new(),
            reserved: Cost::default(),
            run: within.map(run),
        };
        let at = Timestamp(0);
        Event { v: SCHEMA_VERSION, run: run(of), seq: 1, epoch: 1, at, prev: GENESIS, fact, stored: None }
    }

    #[test]
    fn a_step_of_a_run_within_is_told_with_the_steps_that_lead_there() {
        let mut family = Family::new(run('a'));
        let mut line = |event: Event| {
            family.learn(&event);
            family.line(&event).unwrap()
        };
        assert!(line(started('a', "trip", Some('b'))).starts_with("t1.trip: started as run r-"));
        assert!(line(started('b', "stay", Some('c'))).starts_with("t1.trip › t1.stay: started as run r-"));
        assert!(line(started('c', "hotel", None)).starts_with("t1.trip › t1.stay › t1.hotel: started"));
        assert!(line(started('d', "other", None)).starts_with(&format!("{} › t1.other: started", run('d'))));
        assert_eq!(family.within(&run('c')), [id("trip"), id("stay")]);
        assert_eq!(family.within(&run('a')), [] as [StepId; 0]);
    }
}
