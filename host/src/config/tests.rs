//! What a settings file may say, and what is said of one that is wrong.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use crate::domain::{Digest, Kind};
use crate::planner::PackOptions;
use crate::sandbox::NetworkOptions;

use super::{Environment, Overrides, SecretSource, Settings, ToolSource, find};

fn parse(text: &str) -> Result<Settings, crate::domain::Failure> {
    Settings::parse(text, Path::new("/srv/shop"), "cofferdam.toml")
}

#[track_caller]
fn refused(text: &str, expected: Expect) {
    let failure = parse(text).expect_err("the file is wrong");
    assert_eq!(failure.kind, Kind::DataConfig);
    expected.assert_eq(&failure.message);
}

fn environment(directory: &Path, variables: &[(&str, &str)]) -> Environment {
    Environment::new(directory, variables.iter().map(|(k, v)| ((*k).into(), (*v).into())))
}

#[test]
fn a_whole_file_is_read() {
    let digest = Digest::of(b"csv");
    let text = format!(
        r#"
        version = 0
        policy = "rules/policy.toml"
        [tools]
        math = "tools/math.wasm"
        csv = {{ file = "/opt/csv.wasm", digest = "{digest}" }}
        mine = {{ crate = "mine" }}
        [sandbox]
        guests_running_max = 2
        [budget]
        calls_max = 7
        [model]
        name = "small"
        base_url = "http://localhost:1234/v1"
        api_key = "file:key"
        [principal]
        user = "ann"
        "#
    );
    let settings = parse(&text).unwrap();
    assert_eq!(settings.policy, Some("/srv/shop/rules/policy.toml".into()));
    assert_eq!(settings.state, Path::new("/srv/shop/.cofferdam"));
    let tools: Vec<_> = settings.tools.into_iter().collect();
    assert_eq!(
        tools,
        [
            ("csv".to_owned(), ToolSource::File { file: "/opt/csv.wasm".into(), digest: Some(digest) }),
            ("math".to_owned(), ToolSource::File { file: "/srv/shop/tools/math.wasm".into(), digest: None }),
            ("mine".to_owned(), ToolSource::Crate { krate: "/srv/shop/mine".into() }),
        ]
    );
    assert_eq!((settings.sandbox.guests_running_max, settings.sandbox.calls_in_flight_max), (2, 64));
    assert_eq!((settings.budget.calls_max, settings.budget.planner_turns_max), (7, 8));
    assert_eq!(settings.model.unwrap().models[0].api_key, Some(SecretSource::File("/srv/shop/key".into())));
    assert_eq!((settings.principal.user.as_str(), settings.principal.tenant.as_str()), ("ann", "local"));
}

#[test]
fn a_mistake_is_told_with_its_line() {
    refused("", expect!["read cofferdam.toml:1:1: missing field `version`"]);
    refused("version = 1", expect!["read cofferdam.toml:1:11: version 1 is unknown: this program knows version 0"]);
    refused(
        "version = 0\n[tools]\nmath = 3",
        expect![
            "read cofferdam.toml:3:8: invalid type: integer `3`, expected the path of a component, `{ file = .., digest = .. }` or `{ crate = .. }`"
        ],
    );
    refused(
        "version = 0\n[tools]\nmath = { file = 'a', crate = 'b' }",
        expect!["read cofferdam.toml:3:8: a tool has either `file`, with or without `digest`, or `crate` alone"],
    );
    refused(
        "version = 0\n[tools]\nmath = { fille = 'a' }",
        expect!["read cofferdam.toml:3:10: unknown field `fille`, expected one of `file`, `digest`, `crate`"],
    );
    refused(
        "version = 0\n[tools]\n'../x' = 'a'",
        expect![
            "read cofferdam.toml:3:1: `../x` cannot be part of a tool's name: lowercase letters, digits and `-` or `_`, first a letter, at most 64 bytes"
        ],
    );
    refused(
        "version = 0\n[tools]\nx = { file = 'a', digest = 'md5:0' }",
        expect!["read cofferdam.toml:3:28: digest `md5:0` does not start with `sha256:`"],
    );
    refused(
        "version = 0\n\n[budget]\ncalls = 3",
        expect![
            "read cofferdam.toml:4:1: unknown field `calls`, expected one of `planner_turns_max`, `calls_max`, `calls_per_tool_max`, `parallel_max`, `depth_max`, `same_failures_max`, `wall_ms_max`, `fuel_max`, `bytes_max`, `usd_micros_max`, `tokens_max`, `repairs_max`"
        ],
    );
    refused("version = 0\n[sandbox\n", expect!["read cofferdam.toml:2:9: unclosed table, expected `]`"]);
}

#[test]
fn name_servers_and_certificates_are_the_networks() {
    let network = |text: &str| parse(text).map(|settings| settings.sandbox.network);
    assert_eq!(network("version = 0"), Ok(NetworkOptions::default()));
    let named =
        network("version = 0\n[network]\nnameservers = ['127.0.0.1:5353', '[::1]:53']\nca_file = 'ca.pem'").unwrap();
    assert_eq!(named.nameservers, ["127.0.0.1:5353".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert!(named.ca_file.is_some_and(|file| file.is_absolute() && file.ends_with("ca.pem")));
    assert!(network("version = 0\n[network]\nnameservers = ['127.0.0.1']").unwrap_err().message.contains(":3:16"));
}

#[test]
fn a_key_in_the_file_is_refused_and_not_repeated() {
    for written in ["'sk-secret'", "sk-secret", "'env:'", "'env:sk-secret'"] {
        let text = format!("version = 0\n[model]\nname = 'm'\nbase_url = 'u'\napi_key = {written}");
        let failure = parse(&text).expect_err(written);
        assert!(failure.message.contains("cofferdam.toml:5:"), "{}", failure.message);
        assert!(!format!("{failure:?}").contains("sk-secret"), "{failure:?}");
    }
}

#[test]
fn secrets_have_places_and_no_text() {
    let text = "version = 0\n[secrets]\ngithub = 'env:GITHUB_TOKEN'\nmail = { command = ['pass', 'show', 'mail'] }";
    let secrets: Vec<_> = parse(text).unwrap().secrets.into_iter().collect();
    let words = ["pass", "show", "mail"].map(str::to_owned).to_vec();
    let command = ("mail".to_owned(), SecretSource::Command(words));
    assert_eq!(secrets, [("github".to_owned(), SecretSource::Env("GITHUB_TOKEN".into())), command]);
    for written in [
        "github = 'sk-secret'",
        "github = { comand = 'sk-secret' }",
        "github = { command = ['pass'], text = 'sk-secret' }",
        "github = ['sk-secret']",
        "'sk-Secret' = 'env:X'",
        "github = sk-secret",
        "github = 7355608",
    ] {
        let failure = parse(&format!("version = 0\n[secrets]\n{written}")).expect_err(written);
        assert!(failure.message.contains("cofferdam.toml:3:"), "{}", failure.message);
        let told = format!("{failure:?}").to_lowercase();
        assert!(!told.contains("sk-secret") && !told.contains("7355608"), "{told}");
    }
}

#[test]
fn the_flag_goes_before_the_environment_and_that_before_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (here, home) = (folder.path().join("here"), folder.path().join("home"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(home.join("cofferdam")).unwrap();
    let home_text = home.to_string_lossy().into_owned();
    let variables = [("XDG_CONFIG_HOME", home_text.as_str())];
    let none = Overrides::default();
    assert_eq!(find(&none, &environment(&here, &variables)), None);
    let of_home = home.join("cofferdam/cofferdam.toml");
    std::fs::write(&of_home, "version = 0").unwrap();
    assert_eq!(find(&none, &environment(&here, &variables)), Some(of_home));
    std::fs::write(here.join("cofferdam.toml"), "version = 0").unwrap();
    assert_eq!(find(&none, &environment(&here, &variables)), Some(here.join("cofferdam.toml")));
    let named = environment(&here, &[("COFFERDAM_CONFIG", "/etc/c.toml")]);
    assert_eq!(find(&none, &named), Some("/etc/c.toml".into()));
    let flag = Overrides { config: Some(PathBuf::from("mine.toml")), ..none };
    assert_eq!(find(&flag, &named), Some(here.join("mine.toml")));
}

#[test]
fn compiled_components_are_kept_where_the_file_says_and_their_key_where_it_has_no_say() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |text: &str, variables: &[(&str, &str)]| {
        std::fs::write(folder.path().join("cofferdam.toml"), text).unwrap();
        let settings = Settings::load(&Overrides::default(), &environment(folder.path(), variables)).unwrap();
        let path = |path: Option<PathBuf>| path.map_or(String::new(), |path| path.display().to_string());
        (path(settings.sandbox.cache_dir), path(settings.sandbox.cache_key_dir))
    };
    let (home, cache, state) =
        (("HOME", "/home/ann"), ("XDG_CACHE_HOME", "/var/cache/ann"), ("XDG_STATE_HOME", "/var/state/ann"));
    let check = |text: &str, variables: &[(&str, &str)], directory: &str, key: &str| {
        assert_eq!(kept(text, variables), (directory.into(), key.into()), "{text} {variables:?}");
    };
    let (silent, at_home) = ("version = 0", "/home/ann/.local/state/cofferdam/cache");
    check(silent, &[home], "/home/ann/.cache/cofferdam", at_home);
    check(silent, &[home, cache], "/var/cache/ann/cofferdam", at_home);
    check(silent, &[home, ("XDG_CACHE_HOME", "here")], "/home/ann/.cache/cofferdam", at_home);
    check(silent, &[], "", "");
    let (written, code) = ("version = 0\n[sandbox]\ncache_dir = 'code'", folder.path().join("code"));
    let code = code.to_str().unwrap();
    check(written, &[home, cache], code, at_home);
    check(written, &[state], code, "/var/state/ann/cofferdam/cache");
    check(written, &[], "", "");
    assert!(parse("version = 0\n[sandbox]\ncache_key_dir = 'code'").is_err(), "the file has no say");
}

#[test]
fn what_a_planner_sees_is_bounded_by_the_file() {
    let text = "version = 0\n[planner]\ntools_max = 5\npack_tokens_max = 8000\nwhole_bytes_max = 0";
    let expected = PackOptions { tools_max: 5, pack_tokens_max: 8_000, whole_bytes_max: 0 };
    assert_eq!(parse(text).unwrap().pack, expected);
    assert_eq!(parse("version = 0").unwrap().pack, PackOptions::default());
    for wrong in ["tools_max = 0", "pack_tokens_max = -1", "tools = 5"] {
        let failure = parse(&format!("version = 0\n[planner]\n{wrong}")).unwrap_err();
        assert!(failure.kind == Kind::DataConfig && failure.message.contains("cofferdam.toml:3:"), "{failure:?}");
    }
}
