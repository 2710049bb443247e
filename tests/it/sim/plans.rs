//! Workflows that a seed makes up, of shapes that always check.

use cofferdam::domain::{Budget, Json};
use serde_json::json;

use super::fuse::Rng;
use super::planner::Turn;
use super::process::{Cancelling, Case};

/// How long what the board says may be taken from the cache, in milliseconds.
pub const CACHE_TTL_MS: u64 = 300;

/// Fuel that one call may take, as the plan is checked.
const CALL_FUEL: u64 = 20_000_000_000;

/// What one sent request costs, in millionths of a US dollar: as the policy says.
const SEND_USD_MICROS: u64 = 10;

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
    let mut maker = Maker::new(&rng, rng.once_in(6));
    let (mut workflow, turns) = match rng.once_in(6) {
        true => (json!({"goal": "Do what the model says."}), maker.turns()),
        false => (maker.workflow(), Vec::new()),
    };
    let answer = maker.counts.first().map(|id| json!({"$from": id, "path": "/words", "default": 0}));
    if let Some(answer) = answer.filter(|_| turns.is_empty()) {
        workflow["answer"] = json!({"words": answer});
    }
    let mut alike = maker.alike;
    let mut budget = Budget { parallel_max: [1, 2, 8][index(rng.below(3))], ..Budget::default() };
    if rng.once_in(6) {
        maker.tight(&mut budget);
        alike = Alike::Nothing;
    }
    let asks = rng.once_in(3);
    let is_choosy = asks && rng.once_in(2);
    if is_choosy {
        alike = alike.min(Alike::Word);
    }
    let cancelling = rng.once_in(8).then(|| Cancelling { after_ms: rng.below(2_000), undo: rng.once_in(2) });
    let has_jumps = rng.once_in(12);
    if cancelling.is_some() || has_jumps || maker.is_shared {
        alike = Alike::Nothing;
    }
    let is_shared = maker.is_shared;
    (Case { seed, workflow, turns, budget, asks, is_choosy, cancelling, has_jumps, is_shared }, alike)
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
    /// Whether all requests go to one server, which is often down.
    is_shared: bool,
    /// Calls that the plan takes while nothing fails, those of runs within the run included.
    calls: u32,
    /// Those of them that cost money.
    sends: u32,
    runs: u32,
}

impl<'a> Maker<'a> {
    fn new(rng: &'a Rng, is_shared: bool) -> Self {
        Self {
            rng,
            prefix: "s".into(),
            steps: Vec::new(),
            waitable: Vec::new(),
            counts: Vec::new(),
            alike: Alike::Whole,
            depth: 0,
            is_shared,
            calls: 0,
            sends: 0,
            runs: 0,
        }
    }

    /// A plan that is all there is.
    fn workflow(&mut self) -> Json {
        let steps = 2 + self.rng.below(7);
        let fatal = (!self.rng.once_in(3)).then(|| self.rng.below(steps));
        for n in 0..steps {
            self.step(fatal == Some(n));
        }
        json!({"workflow": "made-up", "goal": "Do what the seed says.", "steps": self.steps})
    }

    /// What a planner says that goes on: plans, and now and then something else.
    fn turns(&mut self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for n in 0..=self.rng.below(3) {
            match self.rng.below(6) {
                0 => turns.push(Turn::Wrong),
                1 => turns.push(Turn::Babble),
                2 => turns.push(Turn::Question),
                _ => {}
            }
            self.prefix = format!("s{n}n");
            for _ in 0..=self.rng.below(3) {
                let is_fatal = self.rng.once_in(6);
                self.step(is_fatal);
            }
            turns.push(Turn::Steps(std::mem::take(&mut self.steps)));
            // What was planned before has another name from here.
            (self.waitable, self.counts) = (Vec::new(), Vec::new());
        }
        if self.rng.once_in(6) {
            turns.push(Turn::Refuses);
        }
        turns
    }

    /// Leaves as much as the plan takes, or a little more or less.
    fn tight(&self, budget: &mut Budget) {
        let near = |n: u32| (n + u32::try_from(self.rng.below(4)).unwrap_or(0)).saturating_sub(1).max(1);
        match self.rng.below(7) {
            0 => budget.calls_max = near(self.calls),
            2 => budget.calls_per_tool_max = near(self.calls.div_ceil(2)),
            3 => budget.fuel_max = u64::from(near(self.calls)) * CALL_FUEL,
            4 | 5 => budget.usd_micros_max = Some(u64::from(near(self.sends)) * SEND_USD_MICROS),
            _ => budget.planner_turns_max = near(self.runs + 1),
        }
    }

    /// Adds one step, with all that belongs to it.
    fn step(&mut self, is_fatal: bool) {
        let id = format!("{}{}", self.prefix, self.steps.len());
        let kind = match is_fatal {
            true => 2 + self.rng.below(3),
            // What the run around it has counted is known within.
            false if self.depth > 0 && self.rng.once_in(3) => 0,
            false => self.rng.below(10),
        };
        self.calls += u32::from(kind != 1);
        self.sends += u32::from(kind == 6);
        let mut step = match kind {
            0 => json!({"tool": "text.stats", "args": {"text": "one two three"}}),
            1 => self.run_within(&id),
            2 => self.call("fetch.get", &id, is_fatal),
            3 => self.call("bookings.book", &id, is_fatal),
            4 => self.call("journeys.book", &id, is_fatal),
            5 => self.call("notes.append", &id, false),
            6 => self.call("fetch.send", &id, false),
            7 => json!({
                "tool": "fetch.get", "args": {"url": "https://f.test/board-w1"}, "cache_ttl_ms": CACHE_TTL_MS,
            }),
            _ => self.for_each(&id),
        };
        step["id"] = json!(id);
        self.wait(&mut step);
        if self.rng.once_in(5) && kind != 0 && kind != 1 {
            step["approval"] = json!(true);
        }
        // One that stands by is not needed where all goes well.
        if is_fatal || (matches!(kind, 2..=6) && self.rng.once_in(8)) {
            self.on_failure(&mut step, &id);
        }
        if kind == 0 {
            self.counts.push(id.clone());
        }
        self.steps.push(step);
        self.waitable.push(id);
    }

    /// What the step waits for, and under which condition it is done.
    fn wait(&mut self, step: &mut Json) {
        let needs: Vec<String> = self.waitable.iter().filter(|_| self.rng.once_in(4)).cloned().collect();
        if !needs.is_empty() {
            let how = if self.rng.once_in(3) { "after" } else { "needs" };
            step[how] = json!(needs);
        }
        if let Some(count) = self.counts.last().filter(|_| self.rng.once_in(4)).cloned() {
            let than = if self.rng.once_in(2) { 1 } else { 9 };
            step["when"] = json!(format!("steps.{count}.words > {than}"));
            // Where nothing was counted, nobody can tell: one more failure that may come first.
            self.alike = self.alike.min(Alike::Word);
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
                self.calls += 1;
                stand_in["id"] = json!(other);
                self.steps.push(stand_in);
            }
        }
    }

    fn script(&self, name: &str, tool: &str, is_fatal: bool) -> String {
        let mut script = format!("{name}-w{}", if tool == "notes.append" { 1 } else { 1 + self.rng.below(3) });
        if self.is_shared {
            script += "-s1";
        }
        match self.rng.below(3) {
            _ if is_fatal => script += "-x1",
            0 | 1 if self.is_shared => script += &format!("-f{}", 2 + self.rng.below(4)),
            0 => script += &format!("-f{}", self.rng.below(3)),
            1 => script += "-l1",
            _ => {}
        }
        if tool == "journeys.book" && self.rng.once_in(3) {
            script += ["-d1", "-m1"][index(self.rng.below(2))];
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

    fn for_each(&mut self, id: &str) -> Json {
        let tool = ["bookings.book", "journeys.book", "notes.append"][index(self.rng.below(3))];
        self.calls += 3;
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
        let mut within = Maker::new(self.rng, self.is_shared);
        (within.prefix, within.alike, within.depth) = (format!("{id}r"), self.alike, self.depth + 1);
        for _ in 0..=self.rng.below(3) {
            within.step(false);
        }
        self.alike = within.alike;
        (self.calls, self.runs) = (self.calls + within.calls, self.runs + within.runs + 1);
        self.sends += within.sends;
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
