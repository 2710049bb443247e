//! Requests to a planner, as lines for a person who watches.

use crate::domain::{AskedModel, Fact, Timestamp, Tokens, usd};

use crate::cli::text;

/// Characters of a model's name.
const MODEL_CHARS_MAX: usize = 60;

/// Returns what a fact about a request means; `None` for any other.
pub(super) fn line(fact: &Fact, at: Timestamp) -> Option<String> {
    Some(match fact {
        Fact::PlanRequested { turn, asked: None, .. } => format!("turn {turn}: asking the planner"),
        Fact::PlanRequested { turn, asked: Some(AskedModel { model, tier, .. }), .. } => {
            format!("turn {turn}: asking `{}` of tier `{}`", short(model), short(tier))
        }
        Fact::PlanReplied { turn, tokens, usd_picos, wall_ms, .. } => {
            let took = text::count(*wall_ms);
            format!("turn {turn}: replied in {took} ms, {}, {}", counted(tokens.as_ref()), price(*usd_picos))
        }
        Fact::PlanFailed { turn, kind, retry: Some(due), .. } => {
            let then = match due.ms_since(at) {
                0 => "at once".to_owned(),
                ms => format!("in {} ms", text::count(ms)),
            };
            format!("turn {turn}: no reply: {kind}; asked again {then}")
        }
        Fact::PlanFailed { turn, kind, .. } => format!("turn {turn}: the planner failed: {kind}"),
        Fact::PlanRejected { turn, is_escalated, .. } => {
            let then = if *is_escalated { "; a stronger model is asked" } else { "" };
            format!("turn {turn}: the reply is no plan that can run{then}")
        }
        _ => return None,
    })
}

/// Returns how many tokens a reply took.
pub(in crate::cli) fn counted(tokens: Option<&Tokens>) -> String {
    let told = |tokens: &Tokens| {
        let cached =
            if tokens.cached > 0 { format!(" ({} cached)", text::count(tokens.cached)) } else { String::new() };
        format!("{}{cached} + {} tokens", text::count(tokens.prompt), text::count(tokens.reply))
    };
    tokens.map_or_else(|| "of which nobody counted the tokens".into(), told)
}

/// Returns a price as a person reads it.
pub(in crate::cli) fn price(usd_picos: Option<u64>) -> String {
    usd_picos.map_or_else(|| "price not known".into(), |picos| format!("{} USD", usd(picos.into())))
}

fn short(name: &str) -> String {
    text::line(name, MODEL_CHARS_MAX)
}
