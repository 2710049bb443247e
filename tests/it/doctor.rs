//! What the doctor says of a directory that is well, and of each thing that is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::cli::Shop;

/// The finding called `name`, in whatever group.
fn finding(document: &Value, name: &str) -> Value {
    let groups = document["groups"].as_object().expect("groups");
    let mut found = groups.values().flat_map(|group| group.as_array().into_iter().flatten());
    found.find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("no `{name}`: {document}")).clone()
}

/// Expects that `name` is found to be in `state`, with a hint, and that the exit code tells whether anything failed.
#[track_caller]
fn check(shop: &Shop, name: &str, state: &str) -> Value {
    let code = if state == "fail" { 1 } else { 0 };
    let document = shop.run(&["doctor", "--json"]).ends(code).json();
    let found = finding(&document, name);
    assert_eq!(found["state"], state, "{found}");
    assert_eq!(found["hint"].is_string(), state != "ok", "{found}");
    found
}

#[test]
fn what_is_well_is_told_and_ends_well() {
    let shop = Shop::new();
    shop.run(&["lock"]).ends(0);
    let told = shop.run(&["doctor"]).ends(0).out;
    for words in [
        "  ok    cofferdam: 0.",
        "  ok    wasmtime: ",
        "  ok    SQLite: 3.",
        "  ok    lock: ",
        "  ok    tool math: is what the lock pins",
        "  ok    fuel: 20,000,000,000\n",
        "  ok    locks: files can be written and locked",
        "memory_bytes_ceiling: 1.0 GiB",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!shop.path(".cofferdam").exists(), "looking makes nothing");
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1"}"#]).ends(0);
    let log = check(&shop, "log", "ok");
    assert!(log["says"].as_str().is_some_and(|says| says.starts_with("1 runs and sessions, 2 events")), "{log}");
    let document = shop.run(&["doctor", "--json"]).ends(0).json();
    assert_ne!(document["state"], "fail");
    for name in ["rustc", "cargo", "wasm32-wasip2", "open files", "free space", "approvals", "policy"] {
        finding(&document, name);
    }
}

#[test]
fn what_is_missing_is_a_warning_and_what_is_wrong_a_failure() {
    let shop = Shop::new();
    check(&shop, "lock", "warn");
    shop.run(&["lock"]).ends(0);
    check(&shop, "lock", "ok");

    shop.write(
        "policy.toml",
        "version = 0\n[[rule]]\nname = 'slow'\nwhy = 'A test.'\nallow = ['*']\n[rule.limits]\nfuel = 7\n",
    );
    assert_eq!(check(&shop, "fuel", "ok")["says"], "20,000,000,000; 7 by rule `slow`");
    shop.write("policy.toml", "version = 0\nallow = true\n");
    assert!(check(&shop, "policy", "fail")["says"].as_str().is_some_and(|says| says.contains("line 2")));
    fs::remove_file(shop.path("policy.toml")).expect("it was there");
    check(&shop, "policy", "warn");

    let lock = fs::read_to_string(shop.path("cofferdam.lock")).expect("it reads");
    shop.write("cofferdam.lock", &lock.replace("Adds numbers exactly.", "Subtracts."));
    let drifted = check(&shop, "tool math", "fail");
    assert!(drifted["says"].as_str().is_some_and(|says| says.contains("math.sum: summary: ")), "{drifted}");
    shop.write("cofferdam.lock", "version = 9\n");
    check(&shop, "lock", "fail");
    fs::remove_file(shop.path("cofferdam.lock")).expect("it was there");

    shop.write("cofferdam.toml", "version = 0\nstate = 'flow.toml'\n[tools]\nmine = { crate = 'mine' }\n");
    check(&shop, "directory", "fail");
    shop.write("cofferdam.toml", "version = 0\n[tools]\nmine = { crate = 'mine' }\n");
    check(&shop, "tool mine", "warn");
    shop.write("cofferdam.toml", "version = 0\n[tools]\nmine = 'absent.wasm'\n");
    check(&shop, "tools", "fail");
    shop.write("cofferdam.toml", "version = 1\n");
    check(&shop, "cofferdam.toml", "fail");
    fs::remove_file(shop.path("cofferdam.toml")).expect("it was there");
    check(&shop, "cofferdam.toml", "warn");
}

#[test]
fn a_cache_that_others_may_use_is_told() {
    let shop = Shop::new();
    shop.write("cofferdam.toml", "version = 0\n[sandbox]\ncache_dir = 'code'\n");
    assert!(check(&shop, "cache", "ok")["says"].as_str().is_some_and(|says| says.contains("made when it is needed")));
    fs::create_dir(shop.path("code")).expect("a directory is made");
    for (mode, state) in [(0o700, "ok"), (0o750, "warn"), (0o707, "warn")] {
        fs::set_permissions(shop.path("code"), fs::Permissions::from_mode(mode)).expect("its mode is set");
        check(&shop, "cache", state);
    }
}

#[test]
fn models_are_told_as_they_would_be_asked_and_what_keeps_one_from_it() {
    let shop = Shop::new();
    let models = "version = 0\n[models.own]\nprotocol = 'ollama'\nPRICE\n[models.mini]\nmodel = 'gpt-4.1-mini'\n\
                  [[tiers]]\nname = 'cheap'\nmodels = ['own', 'mini']\neffects = 'read'\n\
                  [[tiers]]\nname = 'strong'\nmodels = ['mini']\neffects = 'once'\n[budget]\nusd_micros_max = 5\n";
    shop.write("cofferdam.toml", &models.replace("PRICE", "price = 0"));
    let told = shop.run(&["doctor"]).ends(0).out;
    for words in [
        "  ok    model: `own`, without a key: `own` by ollama at http://localhost:11434; its price is from cofferdam.toml\n",
        "  ok    model: `mini`, without a key: `gpt-4.1-mini` by openai-chat at https://api.openai.com:443; its price is from genai-prices",
        "  ok    tier cheap: own, then mini; up to `read`\n",
        "  ok    tier strong: mini; up to `once`\n",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let hint = |told: Value| told["hint"].as_str().unwrap_or_default().to_owned();
    shop.write("cofferdam.toml", &models.replace("PRICE", ""));
    let told = finding_of_own(&shop);
    assert!(told["state"] == "warn" && hint(told.clone()).contains("write its `price`"), "{told}");
    shop.write("cofferdam.toml", &models.replace("PRICE", "price = 0").replace("'own', ", ""));
    let told = finding_of_own(&shop);
    assert!(told["state"] == "warn" && hint(told.clone()).contains("no tier names it"), "{told}");
    shop.write("cofferdam.toml", &models.replace("PRICE", "price = 'openai/no-such-model'"));
    let told = shop.run(&["doctor"]).ends(1).out;
    assert!(told.contains("nobody knows what `openai/no-such-model` costs"), "{told}");
}

/// What is said of the model `own`.
fn finding_of_own(shop: &Shop) -> Value {
    let document = shop.run(&["doctor", "--json"]).ends(0).json();
    let groups = document["groups"].as_object().expect("groups");
    let mut found = groups.values().flat_map(|group| group.as_array().into_iter().flatten());
    let is_own = |finding: &&Value| finding["says"].as_str().is_some_and(|says| says.starts_with("`own`"));
    found.find(is_own).expect("the model is there").clone()
}

#[test]
fn no_secret_is_told() {
    let shop = Shop::new();
    let secret = "sk-5ecret-7c1f";
    let settings = |base_url: &str| {
        format!("version = 0\n[model]\nname = \"small\"\nbase_url = \"{base_url}\"\napi_key = \"env:SHOP_KEY\"\n")
    };
    shop.write("cofferdam.toml", &settings("http://localhost/v1"));
    assert!(
        check(&shop, "model", "fail")["says"].as_str().is_some_and(|says| says.contains("the key of model `small`"))
    );
    for (base_url, code, words) in [
        (
            "http://localhost/v1",
            0,
            "`small`, with a key: `small` by openai-chat at http://localhost:80; nobody knows its price",
        ),
        (&format!("http://u:{secret}@localhost/v1"), 1, "use base URL of model `small`: it holds more than"),
    ] {
        shop.write("cofferdam.toml", &settings(base_url));
        for args in [&["doctor"][..], &["doctor", "--json"], &["doctor", "--verbose"]] {
            let output = shop.command(args).env("SHOP_KEY", secret).output().expect("the program starts");
            assert_eq!(output.status.code(), Some(code));
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8_lossy(&told);
            assert!(told.contains(words) && !told.contains(secret), "{told}");
        }
    }
    // A key where only its place may stand.
    shop.write(
        "cofferdam.toml",
        &format!("version = 0\n[model]\nname = \"small\"\nbase_url = \"http://x\"\napi_key = \"{secret}\"\n"),
    );
    let told = shop.run(&["doctor"]).ends(1);
    assert!(!told.out.contains(secret) && !told.err.contains(secret), "{}", told.out);
}
