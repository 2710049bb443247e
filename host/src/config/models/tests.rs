//! What a settings file may say of models, and what environment and command line make of it.

use std::path::Path;

use expect_test::{Expect, expect};

use crate::config::{Chosen, Environment, ModelSettings, Models, Overrides, PriceSource, SecretSource, Settings};
use crate::domain::{Effect, Failure, Kind, PriceBand};
use crate::planner::model::Protocol;

fn parse(text: &str) -> Result<Option<Models>, Failure> {
    Settings::parse(&format!("version = 0\n{text}"), Path::new("/srv"), "cofferdam.toml").map(|settings| settings.model)
}

fn models(text: &str) -> Models {
    parse(text).unwrap().expect("there are models")
}

#[track_caller]
fn refused(text: &str, expected: Expect) {
    let failure = parse(text).expect_err("the file is wrong");
    assert_eq!(failure.kind, Kind::DataConfig);
    expected.assert_eq(&failure.message);
}

fn written(model: &ModelSettings) -> Option<PriceBand> {
    match &model.price {
        Some(PriceSource::Written(price)) => price.bands.first().copied(),
        _ => None,
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new("/", variables.iter().map(|(k, v)| ((*k).into(), (*v).into())))
}

const THREE: &str = r#"
[models.small]
protocol = "ollama"
model = "qwen3:8b"
price = 0
context_tokens_max = 32768
[models.mini]
model = "gpt-4.1-mini"
api_key = { command = ["pass", "show", "openai"] }
price = { input = "0.40", cached = "0.10", reply = "1.60" }
reply_tokens_max = 4096
[models.claude]
protocol = "anthropic"
model = "claude-sonnet-4-5"
api_key = "env:ANTHROPIC_API_KEY"
temperature = 0.5
schema = false
[[tiers]]
name = "cheap"
models = ["small", "mini"]
effects = "read"
[[tiers]]
name = "strong"
models = ["claude", "mini"]
effects = "once"
[routing]
candidates_max = 3
"#;

#[test]
fn models_tiers_and_thresholds_are_read() {
    let Models { models, routes } = models(THREE);
    let [claude, mini, small] = models.as_slice() else { panic!("{models:?}") };
    assert_eq!((small.protocol, small.model.as_str()), (Protocol::Ollama, "qwen3:8b"));
    assert_eq!((small.base_url.as_str(), small.temperature), ("http://localhost:11434/v1", Some(0.0)));
    assert_eq!(written(small).map(|band| band.input), Some(0));
    assert_eq!((small.context_tokens_max, mini.reply_tokens_max), (Some(32_768), Some(4_096)));
    assert_eq!(mini.protocol, Protocol::OpenaiChat);
    assert!(matches!(&mini.api_key, Some(SecretSource::Command(words)) if words.len() == 3));
    assert_eq!(written(mini).map(|band| (band.input, band.cached)), Some((400_000, 100_000)));
    assert_eq!((claude.temperature, claude.is_constrained, claude.price.clone()), (Some(0.5), false, None));
    let tiers: Vec<_> =
        routes.tiers.iter().map(|tier| (tier.name.as_str(), tier.models.len(), tier.effect_max)).collect();
    assert_eq!(tiers, [("cheap", 2, Effect::Read), ("strong", 2, Effect::Once)]);
    assert_eq!((routes.thresholds.candidates_max, routes.thresholds.required_args_max), (3, 6));
}

#[test]
fn one_model_needs_no_tier_and_may_propose_anything() {
    let one = models("[models.gemini]\nprotocol = 'gemini'\nmodel = 'gemini-3-pro'\n[routing]\nfailed_steps_max = 4");
    assert_eq!(
        (one.routes.tiers[0].models.as_slice(), one.routes.tiers[0].effect_max),
        (&["gemini".to_owned()][..], Effect::Once)
    );
    assert_eq!((one.models[0].temperature, one.routes.thresholds.failed_steps_max), (None, 4));
    let short = models("[model]\nname = 'gpt-5'\nbase_url = 'https://a/v1'");
    assert_eq!(
        (short.models[0].name.as_str(), short.models[0].model.as_str(), short.models[0].temperature),
        ("gpt-5", "gpt-5", None)
    );
    let provider = models("[model]\nname = 'claude-x'\nprotocol = 'anthropic'\ntemperature = 'default'\nprice = 0");
    assert_eq!(provider.models[0].base_url, "https://api.anthropic.com/v1");
    assert_eq!(parse("").unwrap(), None);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    refused(
        "[model]\nname = 'm'",
        expect!["read cofferdam.toml:2:1: missing field `base_url`, or `protocol` for its provider's own server"],
    );
    refused(
        "[models.a]\nprotocol = 'grpc'",
        expect![
            "read cofferdam.toml:3:12: a protocol is one of `openai-chat`, `openai-responses`, `anthropic`, `gemini`, `ollama`"
        ],
    );
    refused(
        "[models.a]\nname = 'b'",
        expect!["read cofferdam.toml:3:8: the model is named by its table: `model` is what its server calls it"],
    );
    refused(
        "[models.'a b']",
        expect!["read cofferdam.toml:2:9: a model's name has letters, digits, `.`, `-` and `_`, at most 64"],
    );
    refused(
        "[models.a]\ntemperature = 'hot'",
        expect!["read cofferdam.toml:3:15: `temperature` is a number from 0 to 2, or `\"default\"`"],
    );
    refused(
        "[models.a]\nprice = 'free'",
        expect![
            "read cofferdam.toml:3:9: `price` is 0, `{ input = \"0.15\", reply = \"0.60\" }` in US dollars for a million tokens, or `\"PROVIDER/MODEL\"` of the vendored data"
        ],
    );
    refused(
        "[models.a]\n[models.b]",
        expect![
            "read cofferdam.toml:3:9: there are several models and no `[[tiers]]`: these say which is asked, from cheap to dear"
        ],
    );
    refused(
        "[model]\nname = 'm'\nbase_url = 'u'\n[models.b]",
        expect![
            "read cofferdam.toml:5:9: `[model]` is the short form for one model: leave it out beside `[models]`, `[[tiers]]` and `[routing]`"
        ],
    );
    refused(
        "[routing]\ncandidates_max = 1",
        expect!["read cofferdam.toml:2:1: there are no models: write `[models.<name>]`"],
    );
    let tier = |text: &str| format!("[models.a]\n[[tiers]]\nname = 't'\n{text}");
    refused(
        &tier("models = []\neffects = 'once'"),
        expect!["read cofferdam.toml:5:10: a tier names the models that it asks"],
    );
    refused(
        &tier("models = ['a', 'b']\neffects = 'once'"),
        expect!["read cofferdam.toml:5:16: there is no such model: `[models]` has `a`"],
    );
    refused(&tier("models = ['a']"), expect!["read cofferdam.toml:3:1: missing field `effects`"]);
    let twice = tier("models = ['a']\neffects = 'once'\n[[tiers]]\nname = 't'\nmodels = ['a']\neffects = 'once'");
    refused(&twice, expect!["read cofferdam.toml:8:8: an earlier tier has this name too"]);
}

#[test]
fn a_key_in_the_file_is_refused_and_not_repeated() {
    for (line, written) in
        [("[models.a]", "'sk-secret'"), ("[models.a]", "{ comand = 'sk-secret' }"), ("[model]", "['sk-secret']")]
    {
        let failure = parse(&format!("{line}\nprotocol = 'anthropic'\napi_key = {written}")).map(|_| ());
        let text = format!("{line}\nname = 'm'\nprotocol = 'anthropic'\napi_key = {written}");
        let failure = if line == "[model]" { parse(&text).map(|_| ()) } else { failure }.expect_err(written);
        assert!(failure.message.contains("`api_key`"), "{}", failure.message);
        assert!(!format!("{failure:?}").contains("sk-secret"), "{failure:?}");
    }
}

fn chosen(text: &str, overrides: &Overrides, variables: &[(&str, &str)]) -> Result<Models, Failure> {
    Chosen::of(overrides, &environment(variables))?.models(parse(text)?)
}

#[test]
fn a_key_is_sent_only_to_the_server_it_was_written_for() {
    let text = "[model]\nname = 'm'\nbase_url = 'https://a/v1'\napi_key = 'env:A_KEY'";
    let of = |base_url: Option<&str>, variables: &[(&str, &str)]| {
        let overrides =
            Overrides { base_url: base_url.map(Into::into), model: Some("n".into()), ..Overrides::default() };
        chosen(text, &overrides, variables).unwrap().models.remove(0)
    };
    let key = |name: &str| Some(SecretSource::Env(name.into()));
    assert_eq!(of(None, &[]).api_key, key("A_KEY"));
    assert_eq!(of(Some("https://a/v1"), &[]).api_key, key("A_KEY"));
    assert_eq!(of(Some("https://b/v1"), &[]).api_key, None);
    assert_eq!(of(Some("https://b/v1"), &[("COFFERDAM_API_KEY", "k")]).api_key, key("COFFERDAM_API_KEY"));
    assert_eq!(of(None, &[]).name, "n");
    // The variable may hold the key of another provider: it goes where it is told to, or where there is none.
    let variable = ("COFFERDAM_API_KEY", "k");
    assert_eq!(of(None, &[variable]).api_key, key("A_KEY"));
    assert_eq!(of(Some("https://a/v1"), &[variable]).api_key, key("COFFERDAM_API_KEY"));
    let named = |model: &str, base_url: Option<&str>| {
        let overrides =
            Overrides { model: Some(model.into()), base_url: base_url.map(Into::into), ..Overrides::default() };
        chosen(THREE, &overrides, &[variable]).unwrap().models.remove(0).api_key
    };
    assert_eq!(named("claude", None), key("ANTHROPIC_API_KEY"));
    assert_eq!(named("claude", Some("https://api.anthropic.com/v1")), key("COFFERDAM_API_KEY"));
    assert_eq!(named("small", None), key("COFFERDAM_API_KEY"), "it has none of its own");
}

#[test]
fn a_chosen_model_may_propose_what_its_tiers_let_it() {
    let text = format!("{THREE}\n[models.extra]\nmodel = 'x'\n");
    let of = |model: &str| {
        let overrides = Overrides { model: Some(model.into()), ..Overrides::default() };
        let models = chosen(&text, &overrides, &[]).unwrap();
        assert_eq!((models.routes.tiers.len(), models.routes.thresholds.candidates_max), (1, 3), "{model}");
        models.routes.tiers[0].effect_max
    };
    let tiers = models(&text).routes.tiers;
    assert_eq!(of("small"), Effect::Read);
    assert_eq!(of("mini"), tiers[1].effect_max, "the highest that names it");
    assert_eq!(of("extra"), Effect::Once, "no tier names it");
}

#[test]
fn a_name_chooses_among_the_files_models_with_all_that_is_said_of_them() {
    let named = |model: &str| Overrides { model: Some(model.into()), ..Overrides::default() };
    let mini = chosen(THREE, &named("mini"), &[]).unwrap();
    assert_eq!((mini.models.len(), mini.models[0].model.as_str()), (1, "gpt-4.1-mini"));
    assert_eq!((mini.routes.tiers.len(), mini.models[0].reply_tokens_max), (1, Some(4_096)));
    let unknown = chosen(THREE, &named("other"), &[]).unwrap_err();
    assert!(unknown.hint.as_ref().is_some_and(|hint| hint.contains("`claude`, `mini`, `small`")), "{unknown:?}");
    let key = ("COFFERDAM_API_KEY", "k");
    let there = Overrides { protocol: Some("anthropic".into()), ..named("claude-haiku-4-5") };
    let other = chosen(THREE, &there, &[key]).unwrap().models.remove(0);
    assert_eq!((other.base_url.as_str(), other.price.clone()), ("https://api.anthropic.com/v1", None));
    assert!(matches!(other.api_key, Some(SecretSource::Env(name)) if name == "COFFERDAM_API_KEY"));
    // Another model of the same server: the price is not its own.
    let text = "[model]\nname = 'm'\nbase_url = 'https://a/v1'\nprice = 0";
    assert_eq!(chosen(text, &named("n"), &[]).unwrap().models[0].price, None);
    assert!(chosen(text, &named("m"), &[]).unwrap().models[0].price.is_some());
    let protocol = Overrides { protocol: Some("gemini".into()), ..named("n") };
    assert!(chosen(text, &protocol, &[]).unwrap().models[0].base_url.contains("googleapis"));
    assert!(chosen(text, &Overrides { protocol: Some("soap".into()), ..named("n") }, &[]).is_err());
}

#[test]
fn half_a_model_is_told_what_lacks() {
    let failure = chosen("", &Overrides::default(), &[("COFFERDAM_MODEL", "m")]).unwrap_err();
    assert!(failure.message.contains("base_url"), "{}", failure.message);
    let failure = chosen("", &Overrides::default(), &[("COFFERDAM_PROTOCOL", "anthropic")]).unwrap_err();
    assert!(failure.message.contains("`name`"), "{}", failure.message);
}
