//! Workflows that a seed makes up, of shapes that always check.

use cofferdam::domain::{Budget, Json};
use serde_json::json;

use super::fuse::Rng;
use super::process::{Cancelling, Case};

/// How alike two simulations of one seed must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alike {
    /// Where a person cancels, or the budget is met, the moment decides.
    Nothing,
    /// Which of several failures comes first may depend on time.
    Word,
    /// What starts beside a step that fails may depend on time.
    End,
    /// The end and every step.
    Whole,
}

/// A case that a seed makes up.
pub fn made_up(seed: u64) -> (Case, Alike) {
    let rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x51);
    let steps = 2 + rng.below(7);
    let fatal = (!rng.once_in(3)).then(|| rng.below(steps));
    let mut maker = Maker {
        rng: &rng,
        prefix: "s".into(),
        steps: Vec::new(),
        waitable: Vec::new(),
        counts: Vec::new(),
        alike: Alike::Whole,
        depth: 0,
    };
    for n in 0..steps {
        maker.step(fatal == Some(n));
    }
    let answer = maker.counts.first().map(|id| json!({"$from": id, "path": "/words", "default": 0}));
    let mut alike = maker.alike;
    let mut workflow = json!({"workflow": "made-up", "goal": "Do what the seed says.", "steps": maker.steps});
    if let Some(answer) = answer {
        workflow["answer"] = json!({"words": answer});
    }
    let mut budget = Budget { parallel_max: [1, 2, 8][index(rng.below(3))], ..Budget::default() };
    if rng.once_in(8) {
        budget.calls_max = 1 + u32::try_from(rng.below(6)).unwrap_or(0);
        alike = Alike::Nothing;
    }
    let asks = rng.once_in(3);
    let rejects = asks && rng.once_in(2);
    if rejects {
        alike = alike.min(Alike::Word);
    }
    let cancelling = rng.once_in(8).then(|| Cancelling { after_ms: rng.below(2_000), undo: rng.once_in(2) });
    if cancelling.is_some() {
        alike = Alike::Nothing;
    }
    (Case { seed, workflow, budget, asks, rejects, cancelling }, alike)
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

struct Maker<'a> {
    rng: &'a Rng,
    prefix: String,
    steps: Vec<Json>,
    /// Steps that another one may wait for.
    waitable: Vec<String>,
    /// Those of them that count words, and never fail.
    counts: Vec<String>,
    alike: Alike,
    depth: u32,
}

impl Maker<'_> {
    /// Adds one step, with all that belongs to it.
    fn step(&mut self, is_fatal: bool) {
        let id = format!("{}{}", self.prefix, self.steps.len());
        let kind = if is_fatal { 2 + self.rng.below(3) } else { self.rng.below(9) };
        let mut step = match kind {
            0 => json!({"tool": "text.stats", "args": {"text": "one two three"}}),
            1 => self.run_within(&id),
            2 => self.call("fetch.get", &id, is_fatal),
            3 => self.call("bookings.book", &id, is_fatal),
            4 => self.call("journeys.book", &id, is_fatal),
            5 => self.call("notes.append", &id, false),
            6 => self.call("fetch.send", &id, false),
            _ => self.for_each(&id),
        };
        step["id"] = json!(id);
        self.wait(&mut step);
        if self.rng.once_in(5) && kind != 0 && kind != 1 {
            step["approval"] = json!(true);
        }
        if is_fatal {
            self.on_failure(&mut step, &id);
        }
        if kind == 0 {
            self.counts.push(id.clone());
        }
        self.steps.push(step);
        self.waitable.push(id);
    }

    /// What the step waits for, and under which condition it is done.
    fn wait(&self, step: &mut Json) {
        let needs: Vec<&String> = self.waitable.iter().filter(|_| self.rng.once_in(4)).collect();
        if !needs.is_empty() {
            let how = if self.rng.once_in(3) { "after" } else { "needs" };
            step[how] = json!(needs);
        }
        if let Some(count) = self.counts.last().filter(|_| self.rng.once_in(4)) {
            let than = if self.rng.once_in(2) { 1 } else { 9 };
            step["when"] = json!(format!("steps.{count}.words > {than}"));
        }
    }

    fn on_failure(&mut self, step: &mut Json, id: &str) {
        match self.rng.below(4) {
            0 => {
                step["on_failure"] = json!("fail");
                self.alike = self.alike.min(Alike::End);
            }
            1 => step["on_failure"] = json!("skip"),
            2 => {
                step["on_failure"] = json!("undo");
                self.alike = self.alike.min(Alike::End);
            }
            _ => {
                let other = format!("{id}other");
                step["on_failure"] = json!(format!("fallback:{other}"));
                let mut stand_in = self.call(step["tool"].as_str().unwrap_or_default(), &other, false);
                stand_in["id"] = json!(other);
                self.steps.push(stand_in);
            }
        }
    }

    fn script(&self, name: &str, tool: &str, is_fatal: bool) -> String {
        let mut script = format!("{name}-w{}", if tool == "notes.append" { 1 } else { 1 + self.rng.below(3) });
        match self.rng.below(3) {
            _ if is_fatal => script += "-x1",
            0 => script += &format!("-f{}", self.rng.below(3)),
            1 => script += "-l1",
            _ => {}
        }
        if tool == "journeys.book" && self.rng.once_in(4) {
            script += "-d1";
        }
        if tool.ends_with(".book") && self.rng.once_in(6) {
            script += "-k1";
        }
        script
    }

    fn call(&self, tool: &str, name: &str, is_fatal: bool) -> Json {
        let script = self.script(name, tool, is_fatal);
        json!({"tool": tool, "args": args(tool, json!(script), &script)})
    }

    fn for_each(&self, id: &str) -> Json {
        let tool = ["bookings.book", "journeys.book", "notes.append"][index(self.rng.below(3))];
        let items: Vec<_> = (0..self.rng.below(4)).map(|n| self.script(&format!("{id}i{n}"), tool, false)).collect();
        let mut each = json!({"in": items, "items_max": 4});
        if self.rng.once_in(2) {
            each["parallel_max"] = json!(1 + self.rng.below(2));
        }
        json!({"tool": tool, "args": args(tool, json!({"$item": ""}), "item"), "for_each": each})
    }

    fn run_within(&mut self, id: &str) -> Json {
        if self.depth >= 2 {
            return self.call("bookings.book", id, false);
        }
        let mut within = Maker {
            rng: self.rng,
            prefix: format!("{id}r"),
            steps: Vec::new(),
            waitable: Vec::new(),
            counts: Vec::new(),
            alike: self.alike,
            depth: self.depth + 1,
        };
        for _ in 0..=self.rng.below(3) {
            within.step(false);
        }
        json!({"run": {"workflow": {"workflow": "within", "goal": "Do a part.", "steps": within.steps}}})
    }
}

fn args(tool: &str, script: Json, text: &str) -> Json {
    match tool {
        "fetch.get" => json!({"url": format!("https://f.test/{text}")}),
        "fetch.send" => json!({"method": "POST", "url": format!("https://f.test/{text}")}),
        "notes.append" => json!({"path": "/notes/a", "line": script}),
        _ => json!({"kind": "car", "what": script}),
    }
}
