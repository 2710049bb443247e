//! The import table of `docs/architecture.md`, held: each module uses only those it may.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the host may import. No exceptions list.
fn table() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let rows: [(&str, &[&str]); 14] = [
        ("domain", &[]),
        ("clock", &["domain"]),
        ("registry", &["domain"]),
        ("store", &["domain", "clock"]),
        ("telemetry", &["domain", "clock"]),
        ("planner", &["domain", "clock"]),
        ("policy", &["domain", "registry"]),
        ("sandbox", &["domain", "clock", "policy", "registry"]),
        ("orchestrator", &["domain", "clock", "registry", "planner", "policy", "sandbox", "store"]),
        ("config", &["domain", "registry", "planner", "policy", "sandbox", "store", "orchestrator"]),
        (
            "host",
            &[
                "domain",
                "clock",
                "registry",
                "store",
                "telemetry",
                "planner",
                "policy",
                "sandbox",
                "orchestrator",
                "config",
            ],
        ),
        ("server", &["domain", "config", "host"]),
        ("cli", &["domain", "config", "host"]),
        ("main", &["config", "cli", "host", "server"]),
    ];
    rows.into_iter().map(|(module, may)| (module, may.iter().copied().collect())).collect()
}

#[test]
fn each_module_imports_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let may = table.get(module.as_str()).unwrap_or_else(|| panic!("module `{module}` is not in the table"));
        for used in imports(&fs::read_to_string(&file).expect("a source file reads")) {
            if used != module && !may.contains(used.as_str()) {
                wrong.push(format!("{} uses `{used}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the table:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_stands_in_the_architecture_page() {
    let page = fs::read_to_string(root().join("../docs/architecture.md")).expect("the page reads");
    for (module, may) in table() {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{module}` |")))
            .unwrap_or_else(|| panic!("no row for `{module}`"));
        let listed: BTreeSet<_> = row.split('`').skip(1).step_by(2).skip(1).collect();
        assert_eq!(listed, may, "row of `{module}`");
    }
}

#[test]
fn only_the_sandbox_knows_wasmtime_and_only_the_model_planner_its_vendors() {
    for file in sources() {
        let text = fs::read_to_string(&file).expect("a source file reads");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let module = module_of(&file);
        assert!(module == "sandbox" || !code.contains("wasmtime"), "{} names wasmtime", file.display());
        let is_model = file.ends_with("planner/model.rs") || file.to_string_lossy().contains("planner/model/");
        assert!(is_model || !code.contains("genai::"), "{} names genai", file.display());
        let is_edge = matches!(module.as_str(), "cli" | "main" | "server");
        assert!(is_edge || !code.contains("anyhow"), "{} uses anyhow", file.display());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a source folder lists") {
            let path = entry.expect("an entry reads").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "the sources were found");
    files
}

/// The top-level module that a file belongs to.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).expect("it is below src");
    let first = inside.components().next().expect("it has a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that a text names as `crate::module` or, in the binary, `cofferdam::module`.
fn imports(text: &str) -> BTreeSet<String> {
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "cofferdam::"] {
        for (at, _) in code.match_indices(prefix) {
            let is_path = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            let name: String =
                code[at + prefix.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // A function of the crate itself is no module.
            let is_call = code[at + prefix.len() + name.len()..].starts_with('(');
            if is_path
                && !is_call
                && !name.is_empty()
                && name.chars().next().is_some_and(char::is_lowercase)
                && name != "tool"
            {
                found.insert(name);
            }
        }
    }
    found
}
