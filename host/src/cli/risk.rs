//! What makes a step risky, as lines for a person.

use std::collections::BTreeSet;

use crate::domain::{FLAG_CHARS_MAX, Risk};

use super::text;

/// Characters of one line.
const LINE_CHARS_MAX: usize = 200;

/// Tells what the host knows, and then what the planner doubts itself.
pub(super) fn lines(risk: &Risk) -> Vec<String> {
    let Risk { planner, host } = risk;
    let list = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(", ");
    let tainted =
        host.is_tainted.then(|| "its planner had read what tools brought: that may speak through it".to_owned());
    let args = (!host.taint.is_empty()).then(|| {
        let of = |(at, steps): (&String, &BTreeSet<String>)| {
            format!("{} from {}", text::line(at, LINE_CHARS_MAX), list(&mut steps.iter().cloned()))
        };
        format!("takes what steps brought: {}", list(&mut host.taint.iter().map(of)))
    });
    let egress = (!host.egress.is_empty()).then(|| format!("may send to {}", list(&mut host.egress.iter().cloned())));
    let secrets =
        (!host.secrets.is_empty()).then(|| format!("with secrets {}", list(&mut host.secrets.iter().cloned())));
    let flags = (!planner.flags.is_empty()).then(|| {
        format!(
            "its planner doubts it: {}",
            list(&mut planner.flags.iter().map(|flag| text::line(flag, FLAG_CHARS_MAX)))
        )
    });
    [tainted, args, egress, secrets, flags]
        .into_iter()
        .flatten()
        .map(|line| text::line(&line, LINE_CHARS_MAX))
        .collect()
}
