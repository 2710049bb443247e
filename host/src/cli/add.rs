//! `add`: writes a component with its digest into `cofferdam.toml`, and keeps all else that stands there.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;
use toml_edit::{DocumentMut, InlineTable, Item, Table, value};

use crate::config::{self, Overrides, Settings};
use crate::domain::{Ask, Contract, Failure, Kind, ToolName};
use crate::host::{self, Lock, Origin, PinState};

use super::Session;
use super::args::AddArgs;
use super::exit::Code;
use super::lock::{self, CHANGE_CHARS_MAX};
use super::{text, whole};

/// What a new settings file holds.
const NEW_FILE: &str = "version = 0\n";

/// Adds a component.
pub(super) fn add(session: &Session, args: &AddArgs) -> Result<Code, Failure> {
    let contract =
        host::inspect(&args.file, args.name.as_deref(), &Settings::new(session.environment.directory()).registry)?;
    let name = args.name.clone().unwrap_or_else(|| contract.component.clone());
    check_name(&name)?;
    let settings = settings_file(session);
    let file = written_path(&settings, &args.file)?;
    let before = match fs::read_to_string(&settings) {
        Err(error) if error.kind() == ErrorKind::NotFound => NEW_FILE.into(),
        read => read.map_err(|e| cannot("read", &settings, &e))?,
    };
    let after = with_entry(&before, &name, &file, &contract, args.replace)?;
    let pinned = pinned(session, &settings, &contract, args.replace)?;
    whole::write(&settings, &after)?;
    if let Some((path, lock)) = pinned {
        lock::write(&path, &lock)?;
    }
    report(session, &settings, &name, &file, &contract)
}

/// Returns the lock with a pin of the component; `None` where there is no lock. What was pinned under its name before is
/// given up only where its entry is replaced on purpose.
fn pinned(
    session: &Session,
    settings: &Path,
    contract: &Contract,
    is_replacing: bool,
) -> Result<Option<(PathBuf, Lock)>, Failure> {
    let path = config::lock_of(settings);
    let Some(mut lock) = host::read_lock(&path)? else { return Ok(None) };
    if let PinState::Drifted { changes } = lock.state(contract, Origin::File) {
        if !is_replacing {
            let message = format!("add `{}`: the lock pins another component of this name", contract.component);
            return Err(
                Failure::new(Kind::LoadPinned, message).hint("compare the two; `--replace` pins this one instead")
            );
        }
        changes.iter().for_each(|change| session.output.say(&text::line(&change.to_string(), CHANGE_CHARS_MAX)));
    }
    lock.pin(contract, Origin::File);
    Ok(Some((path, lock)))
}

/// Returns the settings file that is in use, or the one to start here.
fn settings_file(session: &Session) -> PathBuf {
    let overrides = Overrides { config: session.args.config.clone(), ..Overrides::default() };
    let found = config::find(&overrides, &session.environment);
    found.unwrap_or_else(|| session.environment.directory().join(config::FILE_NAME))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let wrong =
        |e| Failure::new(Kind::DataInput, format!("name the component: {e}")).hint("choose a name with `--name`");
    ToolName::new(name, "any").map(drop).map_err(wrong)
}

fn report(session: &Session, settings: &Path, name: &str, file: &str, contract: &Contract) -> Result<Code, Failure> {
    let policy = rule(name, contract);
    if session.output.is_json {
        let (digest, settings) = (contract.digest, settings.display().to_string());
        session.output.document(
            &json!({ "name": name, "file": file, "digest": digest, "settings": settings, "policy": policy }),
        )?;
        return Ok(Code::SUCCEEDED);
    }
    session.output.say(&format!("added `{name}` to {}", settings.display()));
    session.output.say("nothing is allowed until a rule allows it; this one in policy.toml would:\n");
    session.output.result(&policy)?;
    Ok(Code::SUCCEEDED)
}

/// Returns the file as the entry names it: from the settings' own directory where it lies below it.
fn written_path(settings: &Path, file: &Path) -> Result<String, Failure> {
    let file = file.canonicalize().map_err(|e| cannot("find", file, &e))?;
    let root = settings.parent().and_then(|root| root.canonicalize().ok());
    let below = root.and_then(|root| file.strip_prefix(root).map(Path::to_path_buf).ok());
    let written: PathBuf = below.unwrap_or(file);
    written.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(Kind::DataInput, format!("write the path {}: it is not text", written.display()))
            .hint("rename the file")
    })
}

/// Returns the text of the settings with an entry for the component.
fn with_entry(
    before: &str,
    name: &str,
    file: &str,
    contract: &Contract,
    is_replacing: bool,
) -> Result<String, Failure> {
    // The parser's own words quote the line, which may hold a secret.
    let mut document: DocumentMut = before.parse().map_err(|e: toml_edit::TomlError| {
        Failure::new(Kind::DataConfig, format!("read the settings: {}", e.message()))
    })?;
    let tools = document.entry("tools").or_insert_with(|| Item::Table(Table::new()));
    let tools = tools
        .as_table_like_mut()
        .ok_or_else(|| Failure::new(Kind::DataConfig, "read the settings: `tools` is no table"))?;
    if tools.contains_key(name) && !is_replacing {
        return Err(Failure::new(Kind::DataConflict, format!("add `{name}`: there is one already"))
            .hint("give it another name with `--name`, or `--replace` the one there"));
    }
    let mut entry = InlineTable::new();
    entry.insert("file", file.into());
    entry.insert("digest", contract.digest.to_string().into());
    tools.insert(name, value(entry));
    Ok(document.to_string())
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::DataConfig, format!("{what} {}: {error}", path.display()))
}

/// Returns the rule that would allow the component what it asks for.
fn rule(name: &str, contract: &Contract) -> String {
    let asks: BTreeSet<Ask> = contract.tools.iter().flat_map(|tool| tool.asks.iter().copied()).collect();
    let capabilities: Vec<_> =
        asks.iter().filter_map(|ask| ask.capability()).map(|name| format!("\"{name}\"")).collect();
    let mut rule = format!("[[rule]]\nname = \"{name}\"\nwhy = \"TELL WHY\"\nallow = [\"{name}.*\"]\n");
    if !capabilities.is_empty() {
        rule.push_str(&format!("capabilities = [{}]\n", capabilities.join(", ")));
    }
    let scopes: Vec<_> = asks.iter().filter_map(|ask| ask.scope()).map(|scope| format!("{scope} = {{}}")).collect();
    if !scopes.is_empty() {
        rule.push_str(&format!("state = {{ {} }}\n", scopes.join(", ")));
    }
    let access = match (asks.contains(&Ask::FilesRead), asks.contains(&Ask::FilesWrite)) {
        (_, true) => Some("read_write"),
        (true, false) => Some("read"),
        (false, false) => None,
    };
    if let Some(access) = access {
        rule.push_str("# It asks for files. Choose the directory, and take the mark away:\n");
        rule.push_str(&format!("# files = [{{ mount = \"/{name}\", path = \"DIRECTORY\", access = \"{access}\" }}]\n"));
    }
    if asks.contains(&Ask::Http) {
        rule.push_str(
            "# It asks for the network. Choose where it may go, and take the mark away (without `methods` it reads):\n",
        );
        rule.push_str("# http = [{ url = \"https://HOST/PATH/*\", methods = [\"GET\"] }]\n");
    }
    rule
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::domain::{Digest, Export, Returns, ToolContract};

    fn contract(asks: &[Ask]) -> Contract {
        let tool = ToolContract {
            name: "notes.write".parse().unwrap(),
            export: Export { interface: None, function: "write".into() },
            summary: String::new(),
            params: vec![],
            returns: Returns::Nothing,
            input_schema: json!({}),
            output_schema: json!({}),
            asks: asks.iter().copied().collect(),
            effect_declared: None,
            undo: None,
            reconcile: None,
            is_internal: false,
        };
        Contract {
            component: "notes".into(),
            digest: Digest::of(b"notes"),
            version: "0.1.0".into(),
            summary: String::new(),
            imports: vec![],
            has_manifest: true,
            tools: vec![tool],
            left_out: vec![],
        }
    }

    #[test]
    fn an_entry_is_added_and_comments_stay() {
        let before = "# Our shop.\nversion = 0 # the first\n\n[tools]\n# sums\nmath = \"math.wasm\"\n\n[budget]\ncalls_max = 3\n";
        let after = with_entry(before, "notes", "tools/notes.wasm", &contract(&[]), false).unwrap();
        expect![[r##"
            # Our shop.
            version = 0 # the first

            [tools]
            # sums
            math = "math.wasm"
            notes = { file = "tools/notes.wasm", digest = "sha256:ab5aa97074c454a0632057e704220d9a6678fbf773a0a5806fc09b8173b07309" }

            [budget]
            calls_max = 3
        "##]].assert_eq(&after);
        let settings = Settings::parse(&after, Path::new("/srv"), "cofferdam.toml").unwrap();
        assert!(settings.tools.contains_key("notes") && settings.tools.contains_key("math"));
    }

    #[test]
    fn an_entry_is_not_replaced_by_accident() {
        let before = "version = 0\n[tools]\nnotes = \"mine.wasm\"\n";
        let failure = with_entry(before, "notes", "n.wasm", &contract(&[]), false).unwrap_err();
        assert_eq!(failure.kind, Kind::DataConflict);
        let after = with_entry(before, "notes", "n.wasm", &contract(&[]), true).unwrap();
        assert!(after.contains("n.wasm") && !after.contains("mine.wasm"), "{after}");
    }

    #[test]
    fn a_new_file_reads_back() {
        let text = with_entry(NEW_FILE, "notes", "n.wasm", &contract(&[]), false).unwrap();
        assert_eq!(Settings::parse(&text, Path::new("/srv"), "cofferdam.toml").unwrap().tools.len(), 1);
    }

    #[test]
    fn the_rule_gives_no_directory_by_itself() {
        expect![[r#"
            [[rule]]
            name = "notes"
            why = "TELL WHY"
            allow = ["notes.*"]
            capabilities = ["log"]
            # It asks for files. Choose the directory, and take the mark away:
            # files = [{ mount = "/notes", path = "DIRECTORY", access = "read_write" }]
        "#]]
        .assert_eq(&rule("notes", &contract(&[Ask::FilesWrite, Ask::FilesRead, Ask::Log])));
        expect![[r#"
            [[rule]]
            name = "fetch"
            why = "TELL WHY"
            allow = ["fetch.*"]
            # It asks for the network. Choose where it may go, and take the mark away (without `methods` it reads):
            # http = [{ url = "https://HOST/PATH/*", methods = ["GET"] }]
        "#]]
        .assert_eq(&rule("fetch", &contract(&[Ask::Http])));
    }
}
