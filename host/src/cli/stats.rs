//! `stats`: what many runs add up to, reckoned from the log.

use serde_json::json;

use crate::domain::{Failure, Tokens};
use crate::host::{GoalRow, KindRow, RequestRow, Rows, Spread, Stats, ToolRow};

use super::Session;
use super::args::StatsArgs;
use super::exit::Code;
use super::text;

/// Characters of a key in a table: several models of a goal may make a long one.
const KEY_CHARS_MAX: usize = 60;

/// Kinds of failures that a row of a tool names.
const KINDS_NAMED_MAX: usize = 3;

/// Runs that are named as not counted.
const RUNS_NAMED_MAX: usize = 5;

/// Tells the sums.
pub(super) async fn command(session: &Session, args: &StatsArgs) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let stats = host.stats(args.by.into(), args.since, args.until).await?;
    if session.output.is_json {
        session.output.document(&json!(stats))?;
    } else {
        session.output.result(&words(&stats))?;
    }
    left_out(&stats).into_iter().for_each(|line| session.output.say(&line));
    Ok(Code::SUCCEEDED)
}

fn words(stats: &Stats) -> String {
    match &stats.rows {
        Rows::Goals(rows) => goals(rows),
        Rows::Tools(rows) => tools(rows),
        Rows::Kinds(rows) => kinds(rows),
    }
}

/// What counts nowhere is told, whatever else is.
fn left_out(stats: &Stats) -> Vec<String> {
    let named = |runs: &[_], why: &str| {
        let some: Vec<String> = runs.iter().take(RUNS_NAMED_MAX).map(ToString::to_string).collect();
        let more = if runs.len() > some.len() { ", …" } else { "" };
        let count = runs.len();
        (count > 0).then(|| format!("not counted, as {why}: {count} ({}{more})", some.join(", ")))
    };
    let unreadable = named(&stats.unreadable, "it cannot be read");
    let orphaned = named(&stats.orphaned, "the run around it is gone or cannot be read");
    let cut = stats.is_cut.then(|| "older runs were not looked at".to_owned());
    [unreadable, orphaned, cut].into_iter().flatten().collect()
}

fn goals(rows: &[GoalRow]) -> String {
    if rows.is_empty() {
        return "no goals\n".into();
    }
    let header = ["", "goals", "succeeded", "p50", "p95", "tokens", "USD", "USD per success"];
    let mut words = text::table(&header, rows.iter().map(goal).collect(), &[1, 2, 3, 4, 5, 6, 7]);
    for row in rows {
        words.push_str(&within(row));
    }
    words
}

fn goal(row: &GoalRow) -> Vec<String> {
    let rate = row.success_permille.map_or("–".into(), |rate| format!("{}.{} %", rate / 10, rate % 10));
    let more = if row.requests_unpriced > 0 { "≥ " } else { "" };
    vec![
        key(&row.key),
        text::count(row.goals),
        rate,
        ms(row.wall_ms, |spread| spread.p50),
        ms(row.wall_ms, |spread| spread.p95),
        text::count(row.tokens.total()),
        format!("{more}{}", row.usd),
        row.usd_per_success.as_ref().map_or("none".into(), |usd| format!("{more}{usd}")),
    ]
}

/// What stands behind the sums of goals: their ends, models, and what failed.
fn within(row: &GoalRow) -> String {
    let ends: Vec<String> = row.ends.iter().map(|(end, count)| format!("{count} {}", end.replace('_', " "))).collect();
    let mut words = format!("\n{}: {}", key(&row.key), ends.join(", "));
    words.push_str(&format!("; models {} USD, tools {} USD\n", row.usd_models, row.usd_tools));
    if row.requests_unpriced > 0 {
        words.push_str(&format!("requests of which nobody knows the cost: {}\n", text::count(row.requests_unpriced)));
    }
    if !row.requests.is_empty() {
        words.push_str(&requests(&row.requests));
    }
    if !row.failures.is_empty() {
        words.push_str(&kinds(&row.failures));
    }
    words
}

fn requests(rows: &[RequestRow]) -> String {
    let header = ["model", "requests", "failed", "rejected", "p50", "p95", "first", "tokens", "USD"];
    let row = |row: &RequestRow| {
        let first = ms(row.first_token_ms, |spread| spread.p50);
        let (p50, p95) = (ms(row.wall_ms, |spread| spread.p50), ms(row.wall_ms, |spread| spread.p95));
        let counts = [row.requests, row.failed, row.rejected].map(text::count);
        [vec![key(&row.model)], counts.to_vec(), vec![p50, p95, first, told(&row.tokens), row.usd.clone()]].concat()
    };
    text::table(&header, rows.iter().map(row).collect(), &[1, 2, 3, 4, 5, 6, 8])
}

/// Request and reply, and what of them was cheaper or dearer.
fn told(tokens: &Tokens) -> String {
    let Tokens { prompt, cached, cache_write_5m, cache_write_1h, reply, reasoning } = *tokens;
    let part = |n: u64, name: &str| (n > 0).then(|| format!("{} {name}", text::count(n)));
    let parts = [
        Some(format!("{} in", text::count(prompt))),
        part(cached, "cached"),
        part(cache_write_5m.saturating_add(cache_write_1h), "cache-written"),
        Some(format!("{} out", text::count(reply))),
        part(reasoning, "reasoning"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn tools(rows: &[ToolRow]) -> String {
    if rows.is_empty() {
        return "no calls\n".into();
    }
    let row = |row: &ToolRow| {
        let (p50, p95) = (ms(row.wall_ms, |spread| spread.p50), ms(row.wall_ms, |spread| spread.p95));
        let mut kinds: Vec<_> = row.failures.iter().collect();
        kinds.sort_by(|a, b| b.1.cmp(a.1));
        let kinds = kinds.into_iter().take(KINDS_NAMED_MAX).map(|(kind, count)| format!("{count} {kind}"));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        vec![key(&row.tool), text::count(row.calls), text::count(row.failed), p50, p95, row.usd.clone(), kinds]
    };
    let header = ["tool", "calls", "failed", "p50", "p95", "USD", "failures"];
    text::table(&header, rows.iter().map(row).collect(), &[1, 2, 3, 4, 5])
}

fn kinds(rows: &[KindRow]) -> String {
    if rows.is_empty() {
        return "no failures\n".into();
    }
    let row = |row: &KindRow| {
        [vec![row.kind.to_owned()], [row.goals, row.calls, row.requests].map(text::count).to_vec()].concat()
    };
    text::table(&["failure", "goals", "calls", "requests"], rows.iter().map(row).collect(), &[1, 2, 3])
}

fn key(key: &str) -> String {
    if key.is_empty() { "all".into() } else { text::line(key, KEY_CHARS_MAX) }
}

fn ms(spread: Option<Spread>, of: impl Fn(&Spread) -> u64) -> String {
    spread.as_ref().map_or("–".into(), |spread| format!("{} ms", text::count(of(spread))))
}
