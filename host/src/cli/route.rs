//! `route explain`: which models a run asked, why, and what that took; or where a goal would be sent.

use serde_json::json;

use crate::domain::{Effect, Failure};
use crate::host::{Foreseen, Goal, RouteView, Routed};

use super::Session;
use super::args::{ModelArgs, RouteArgs, RouteCommand, RouteExplainArgs};
use super::exit::Code;
use super::runs;
use super::story;
use super::text;

/// Characters of a name or a reason in a line.
const NAME_CHARS_MAX: usize = 200;

/// Performs the command.
pub(super) async fn command(session: &Session, args: RouteArgs) -> Result<Code, Failure> {
    let RouteCommand::Explain(args) = args.command;
    match args {
        RouteExplainArgs { goal: Some(goal), critical, model, .. } => foreseen(session, goal, critical, model).await,
        RouteExplainArgs { run, .. } => of_run(session, &run.unwrap_or_default()).await,
    }
}

async fn of_run(session: &Session, run: &str) -> Result<Code, Failure> {
    let host = session.host_of_log()?;
    let run = runs::resolve(&host, run).await?;
    let views = host.routes(&run).await?;
    if session.output.is_json {
        session.output.document(&json!(views))?;
    } else if views.is_empty() {
        session.output.result(&format!("run {run} asked no model\n"))?;
    } else {
        session.output.result(&views.iter().map(request).collect::<String>())?;
    }
    Ok(Code::SUCCEEDED)
}

/// Tells one request.
fn request(view: &RouteView) -> String {
    let (asked, name) = (&view.asked, |text: &str| text::line(text, NAME_CHARS_MAX));
    let mut words = format!("turn {}  `{}` of tier `{}`\n", view.turn, name(&asked.model), name(&asked.tier));
    match &view.routed {
        None => words.push_str("  why it went there is erased\n"),
        Some(routed) => words.push_str(&why(routed)),
    }
    if !view.is_same() {
        let again = view.again.as_ref().map_or("nobody", |choice| choice.model.as_str());
        words.push_str(&format!("  from the same numbers `{}` is chosen today\n", name(again)));
    }
    words.push_str(&format!(
        "  bound      {} tokens of reply; price from {}; held {} µ$ and {} tokens\n",
        text::count(asked.reply_tokens_max.into()),
        name(asked.price.as_deref().unwrap_or("nowhere")),
        text::count(view.reserved.usd_micros),
        text::count(view.reserved.tokens),
    ));
    let outcome = view.outcome.as_deref().unwrap_or("nothing yet").replace('_', " ");
    match &view.replied {
        None => words.push_str(&format!("  outcome    {outcome}\n")),
        Some(replied) => words.push_str(&format!(
            "  outcome    {outcome}, in {} ms, {}, {}\n",
            text::count(replied.wall_ms),
            story::counted(replied.tokens.as_ref()),
            story::price(replied.usd_picos),
        )),
    }
    words
}

/// Tells what was counted, and what of it decided.
fn why(routed: &Routed) -> String {
    let (features, choice) = (&routed.features, &routed.choice);
    let reasons = match choice.why.is_empty() {
        true => "the cheapest is up to it".to_owned(),
        false => choice.why.iter().map(|why| text::line(why, NAME_CHARS_MAX)).collect::<Vec<_>>().join("; "),
    };
    let mut words = format!("  because    {reasons}\n");
    words.push_str(&format!(
        "  counted    {} tools near to the goal, the worst of them `{}`, the best {} ‰ ahead; schemas {} deep, {} required; {} steps failed; {} ‰ of the money left\n",
        features.candidates,
        features.effect,
        features.margin_permille,
        features.schema_depth,
        features.required_args,
        features.failed_steps,
        features.budget_permille,
    ));
    words
}

async fn foreseen(session: &Session, goal: String, is_critical: bool, model: ModelArgs) -> Result<Code, Failure> {
    let host = session.host(model)?;
    let goal = Goal::text(goal);
    let foreseen = host.foresee(if is_critical { goal.critical() } else { goal })?;
    host.close().await?;
    let Some(Foreseen { pack, routed, quote }) = foreseen else {
        session.output.result("no model plans this goal\n")?;
        return Ok(Code::SUCCEEDED);
    };
    let tools: Vec<String> = pack.tools.iter().map(|tool| tool.name.to_string()).collect();
    if session.output.is_json {
        let quoted = quote.map(|quote| {
            json!({
                "prompt_tokens_max": quote.prompt_tokens_max,
                "reply_tokens_max": quote.reply_tokens_max,
                "price": quote.price,
                "server": quote.server,
            })
        });
        session.output.document(&json!({ "routed": routed, "pack": pack, "tools": tools, "quote": quoted }))?;
        return Ok(Code::SUCCEEDED);
    }
    let choice = &routed.choice;
    let mut words = format!("turn 1  `{}` of tier `{}`\n{}", choice.model, choice.tier, why(&routed));
    words.push_str(&format!("  tools      {}\n", text::line(&tools.join(", "), NAME_CHARS_MAX)));
    if let Some(quote) = quote {
        let price = quote.price.map_or("nobody knows the price".to_owned(), |price| {
            let most = price.picos_max(quote.prompt_tokens_max, quote.reply_tokens_max.into());
            format!("at most {} USD by {}", crate::domain::usd(most), price.source)
        });
        let tokens = text::count(quote.prompt_tokens_max);
        words.push_str(&format!("  request    at most {tokens} tokens to {}; {price}\n", quote.server));
    }
    let tiers = routed
        .routes
        .tiers
        .iter()
        .map(|tier| format!("`{}` up to `{}`", tier.name, Effect::to_string(&tier.effect_max)));
    words.push_str(&format!("  tiers      {}\n", tiers.collect::<Vec<_>>().join(", ")));
    session.output.result(&words)?;
    Ok(Code::SUCCEEDED)
}
