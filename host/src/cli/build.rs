//! Tool crates become components before a host is made; what was built is kept with the state.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_tool_build::{Component, Options, TARGET_INSTALL_SECONDS_MAX, build_components, ensure_target};
use serde_json::json;

use crate::config::{Settings, ToolSource};
use crate::domain::{Digest, Failure, Kind};

use super::Session;
use super::args::{BuildArgs, ModelArgs};
use super::exit::Code;
use super::output::Output;

/// What to do about tools that are crates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crates {
    /// Build them.
    Build,
    /// Take what was built; it is an error if nothing was.
    Built,
    /// Take what was built; leave out the rest.
    BuiltOrAbsent,
}

/// Returns the settings with every crate replaced by its component.
///
/// # Errors
/// `load.invalid` where a crate does not build; `data.not_found` where it was to be built already, and was not.
pub(super) fn with_components(mut settings: Settings, crates: Crates, output: &Output) -> Result<Settings, Failure> {
    let folders = crate_folders(&settings);
    if crates == Crates::Build && !folders.is_empty() {
        build(&settings, &folders, output)?;
    }
    for name in folders.into_keys() {
        let file = built_file(&settings, &name);
        if file.exists() {
            settings.tools.insert(name, ToolSource::Built { file });
        } else if crates == Crates::BuiltOrAbsent {
            settings.tools.remove(&name);
        } else {
            return Err(Failure::new(Kind::DataNotFound, format!("find what was built of `{name}`"))
                .hint("build it with `cofferdam build`, or leave out `--no-build`"));
        }
    }
    Ok(settings)
}

/// Builds the crates that are named, or all of the settings.
pub(super) fn command(session: &Session, args: BuildArgs) -> Result<Code, Failure> {
    let built = if args.crates.is_empty() {
        let settings = session.settings(ModelArgs::default())?;
        build(&settings, &crate_folders(&settings), &session.output)?
    } else {
        compile(&args.crates, &session.output)?
    };
    let mut rows = Vec::new();
    for component in &built {
        rows.push((&component.name, &component.path, Digest::of(&read(&component.path)?)));
    }
    if session.output.is_json {
        let document = |(name, file, digest): &(_, _, _)| json!({ "name": name, "file": file, "digest": digest });
        session.output.document(&json!({ "components": rows.iter().map(document).collect::<Vec<_>>() }))?;
    }
    for (_, file, digest) in rows.iter().filter(|_| !session.output.is_json) {
        session.output.result(&format!("{}  {digest}", file.display()))?;
    }
    if built.is_empty() {
        session
            .output
            .say("no crates to build: name a folder, or write `NAME = { crate = \"FOLDER\" }` under `[tools]`");
    }
    Ok(Code::SUCCEEDED)
}

fn crate_folders(settings: &Settings) -> BTreeMap<String, PathBuf> {
    let krate = |(name, source): (&String, &ToolSource)| match source {
        ToolSource::Crate { krate } => Some((name.clone(), krate.clone())),
        ToolSource::File { .. } | ToolSource::Built { .. } => None,
    };
    settings.tools.iter().filter_map(krate).collect()
}

/// Builds crates of the settings and keeps each component under the name that the settings give it.
fn build(settings: &Settings, folders: &BTreeMap<String, PathBuf>, output: &Output) -> Result<Vec<Component>, Failure> {
    let crates: Vec<_> = folders.values().cloned().collect();
    let mut built = compile(&crates, output)?;
    for (name, component) in folders.keys().zip(&mut built) {
        let kept = built_file(settings, name);
        keep(&component.path, &kept)?;
        component.path = kept;
    }
    Ok(built)
}

/// Runs the compiler, which may first need the target of components. Its words go to standard error; where nothing is
/// to be said there, they are the detail of the failure.
fn compile(crates: &[PathBuf], output: &Output) -> Result<Vec<Component>, Failure> {
    if crates.is_empty() {
        return Ok(Vec::new());
    }
    let mut say = |words: &str| output.say(words);
    ensure_target(Duration::from_secs(TARGET_INSTALL_SECONDS_MAX), &mut say)
        .and_then(|()| build_components(crates, &Options::default(), &mut say))
        .map_err(|error| Failure::new(Kind::LoadInvalid, told(&error)).detail(format!("{error:#}")))
}

/// The first line tells what could not be built; the compiler's own words follow it, and were shown as they came.
fn told(error: &anyhow::Error) -> String {
    let words = format!("{error:#}");
    words.lines().next().unwrap_or("build").trim_end_matches(':').to_owned()
}

fn built_file(settings: &Settings, name: &str) -> PathBuf {
    settings.state.join("built").join(format!("{name}.wasm"))
}

/// Copies a component as a whole or not at all: another process may be about to load it.
fn keep(from: &Path, to: &Path) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::new(Kind::HostStorage, format!("keep {}: {e}", to.display()));
    let folder = to.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    fs::copy(from, file.path()).map_err(cannot)?;
    file.persist(to).map(drop).map_err(|e| cannot(e.error))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|e| Failure::new(Kind::HostStorage, format!("read {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Global;

    fn settings(root: &Path) -> Settings {
        Settings::parse("version = 0\n[tools]\nmine = { crate = 'mine' }\nmath = 'math.wasm'", root, "c").unwrap()
    }

    #[test]
    fn what_was_built_is_taken_and_what_was_not_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(&Global::default());
        let failure = with_components(settings(folder.path()), Crates::Built, &output).unwrap_err();
        assert_eq!(failure.kind, Kind::DataNotFound);
        let without = with_components(settings(folder.path()), Crates::BuiltOrAbsent, &output).unwrap();
        assert_eq!(without.tools.keys().collect::<Vec<_>>(), ["math"]);

        let made = folder.path().join("made.wasm");
        fs::write(&made, b"component").unwrap();
        let kept = built_file(&without, "mine");
        keep(&made, &kept).unwrap();
        let with = with_components(settings(folder.path()), Crates::Built, &output).unwrap();
        assert_eq!(with.tools["mine"], ToolSource::Built { file: kept });
    }
}
