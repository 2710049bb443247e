//! From crate folders to components: one cargo run per workspace, artefacts taken from cargo's own report.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use crate::environment;
use crate::target::TARGET;

/// How a component starts: the magic number, then the layer that tells it from a core module.
const COMPONENT_PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Small and quick to compile, with function names kept so that a trap tells where it was.
const PROFILE: &[&str] = &[
    "profile.release.opt-level=\"s\"",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.debug=false",
    "profile.release.strip=\"debuginfo\"",
];

/// Where a component's manifest lies.
const MANIFEST_SECTION: &str = "cofferdam:manifest";

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where build artefacts go; by default `guests` inside the workspace's own target folder.
    pub target_dir: Option<PathBuf>,
    /// Whether cargo may use the network.
    pub is_offline: bool,
}

/// A built component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What the manifest calls it, else the name of its package.
    pub name: String,
    /// The folder of its crate, as it was given.
    pub crate_dir: PathBuf,
    /// The `.wasm` file.
    pub path: PathBuf,
}

/// Builds the tool crates in these folders and returns their components in the same order.
///
/// `say` hears what is built and every line of the compiler.
///
/// # Errors
/// When a folder holds no package, the package makes no component, or cargo fails; the error carries the compiler's
/// last words.
pub fn build_components(
    crate_dirs: &[PathBuf],
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Component>> {
    let mut workspaces: Vec<Workspace> = Vec::new();
    let mut order = Vec::new();
    for crate_dir in crate_dirs {
        let manifest_path = manifest_path(crate_dir)?;
        if !workspaces.iter().any(|workspace| workspace.package(&manifest_path).is_some()) {
            workspaces.push(Workspace::read(&manifest_path)?);
        }
        order.push((crate_dir, manifest_path));
    }
    let mut artefacts = Vec::new();
    for workspace in &workspaces {
        artefacts.extend(workspace.build(&order, options, say)?);
    }
    order.into_iter().map(|(crate_dir, manifest_path)| component(crate_dir, &manifest_path, &artefacts)).collect()
}

/// The part of `cargo metadata` that a build needs.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// One line of cargo's JSON report.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artefact),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Artefact {
    manifest_path: PathBuf,
    target: Target,
    filenames: Vec<PathBuf>,
    #[serde(skip)]
    package: String,
}

impl Workspace {
    fn read(manifest_path: &Path) -> Result<Self> {
        let mut command = environment::cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest_path);
        let output = command.output().context("run cargo: is Rust installed?")?;
        if !output.status.success() {
            bail!("read {}: {}", manifest_path.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("read cargo's description of the workspace")
    }

    fn package(&self, manifest_path: &Path) -> Option<&Package> {
        self.packages.iter().find(|package| package.manifest_path == manifest_path)
    }

    fn build(
        &self,
        wanted: &[(&PathBuf, PathBuf)],
        options: &Options,
        say: &mut dyn FnMut(&str),
    ) -> Result<Vec<Artefact>> {
        let packages: Vec<&Package> = wanted.iter().filter_map(|(_, path)| self.package(path)).collect();
        packages.iter().try_for_each(|package| package.check())?;
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        say(&format!("building {} for {TARGET}", names.join(", ")));
        let (artefacts, is_success, words) = run(self.command(&packages, options), say)?;
        ensure!(is_success, "build {}:\n{words}", names.join(", "));
        Ok(artefacts.into_iter().map(|artefact| self.named(artefact)).collect())
    }

    fn command(&self, packages: &[&Package], options: &Options) -> Command {
        let target_dir = options.target_dir.clone().unwrap_or_else(|| self.target_directory.join("guests"));
        let mut command = environment::cargo();
        command.current_dir(&self.workspace_root).args(["build", "--release", "--target", TARGET, "--target-dir"]);
        command.arg(target_dir).arg("--message-format=json-render-diagnostics");
        command.args(packages.iter().flat_map(|package| ["-p", &package.id]));
        command.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
        if options.is_offline {
            command.arg("--offline");
        }
        command
    }

    fn named(&self, artefact: Artefact) -> Artefact {
        let package = self.package(&artefact.manifest_path).map(|package| package.name.clone()).unwrap_or_default();
        Artefact { package, ..artefact }
    }
}

impl Package {
    fn check(&self) -> Result<()> {
        let makes_component = self.targets.iter().any(|target| target.crate_types.iter().any(makes_component));
        ensure!(
            makes_component,
            "package `{}` makes no component: give it `[lib] crate-type = [\"cdylib\"]` or a `src/main.rs`",
            self.name
        );
        Ok(())
    }
}

fn makes_component(crate_type: &String) -> bool {
    crate_type == "cdylib" || crate_type == "bin"
}

fn manifest_path(crate_dir: &Path) -> Result<PathBuf> {
    let path = crate_dir.join("Cargo.toml");
    path.canonicalize().with_context(|| format!("find a crate in {}", crate_dir.display()))
}

/// Runs cargo; returns the artefacts that it names, whether it ended well, and all that it said.
fn run(mut command: Command, say: &mut dyn FnMut(&str)) -> Result<(Vec<Artefact>, bool, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("run cargo: is Rust installed?")?;
    let report = collect_report(&mut child)?;
    let stderr = child.stderr.take().ok_or_else(|| anyhow!("hear cargo's messages"))?;
    let words = relay(stderr, say);
    let status = child.wait().context("wait for cargo")?;
    let artefacts = report.join().map_err(|_| anyhow!("read cargo's report"))?;
    Ok((artefacts, status.success(), words?))
}

/// Reads the report on its own thread: cargo would stop on either pipe when nobody empties it.
fn collect_report(child: &mut Child) -> Result<thread::JoinHandle<Vec<Artefact>>> {
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("hear cargo's report"))?;
    Ok(thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).filter_map(|line| artefact(&line)).collect()
    }))
}

fn artefact(line: &str) -> Option<Artefact> {
    match serde_json::from_str(line) {
        Ok(Message::CompilerArtifact(artefact)) => Some(artefact),
        Ok(Message::Other) | Err(_) => None,
    }
}

fn relay(stderr: ChildStderr, say: &mut dyn FnMut(&str)) -> Result<String> {
    let mut words = String::new();
    for line in BufReader::new(stderr).lines() {
        let line = line.context("read cargo's messages")?;
        say(&line);
        words.push_str(&line);
        words.push('\n');
    }
    Ok(words)
}

fn component(crate_dir: &Path, manifest_path: &Path, artefacts: &[Artefact]) -> Result<Component> {
    let is_component = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "wasm");
    let (artefact, path) = artefacts
        .iter()
        .filter(|artefact| artefact.manifest_path == manifest_path)
        .filter(|artefact| artefact.target.crate_types.iter().any(makes_component))
        .find_map(|artefact| Some((artefact, artefact.filenames.iter().find(is_component)?)))
        .with_context(|| format!("find the component of {}", crate_dir.display()))?;
    check_preamble(path)?;
    let name = name_in_manifest(path)?.unwrap_or_else(|| artefact.package.clone());
    Ok(Component { name, crate_dir: crate_dir.to_owned(), path: path.clone() })
}

fn check_preamble(path: &Path) -> Result<()> {
    let mut preamble = [0; COMPONENT_PREAMBLE.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut preamble));
    read.with_context(|| format!("read {}", path.display()))?;
    ensure!(preamble == COMPONENT_PREAMBLE, "{} is not a component: a newer Rust may be needed", path.display());
    Ok(())
}

fn name_in_manifest(path: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Named {
        component: String,
    }
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        if let wasmparser::Payload::CustomSection(section) = payload?
            && section.name() == MANIFEST_SECTION
        {
            let named: Named = serde_json::from_slice(section.data()).context("read the component's manifest")?;
            return Ok(Some(named.component));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_in(folder: &Path, lib: &str, source: &str) -> PathBuf {
        let text = format!("[package]\nname = \"bare\"\nedition = \"2024\"\n[lib]\n{lib}\n[workspace]\n");
        std::fs::create_dir_all(folder.join("src")).unwrap();
        std::fs::write(folder.join("Cargo.toml"), text).unwrap();
        std::fs::write(folder.join("src/lib.rs"), source).unwrap();
        folder.to_owned()
    }

    #[test]
    fn a_crate_without_the_sdk_builds_too() {
        let folder = tempfile::tempdir().unwrap();
        let crate_dir =
            crate_in(folder.path(), "crate-type = [\"cdylib\"]", "#[unsafe(no_mangle)] extern \"C\" fn f() {}");
        let options = Options { target_dir: Some(folder.path().join("elsewhere")), is_offline: true };
        let mut said = Vec::new();
        let built = build_components(&[crate_dir], &options, &mut |line| said.push(line.to_owned())).unwrap();
        assert_eq!(built[0].name, "bare");
        assert!(built[0].path.starts_with(folder.path().join("elsewhere/wasm32-wasip2/release")));
        assert_eq!(said[0], "building bare for wasm32-wasip2");
    }

    #[test]
    fn a_compiler_error_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let crate_dir = crate_in(folder.path(), "crate-type = [\"cdylib\"]", "fn f() -> u8 { \"no\" }");
        let error = build_components(&[crate_dir], &Options::default(), &mut |_| ()).unwrap_err().to_string();
        assert!(error.starts_with("build bare:") && error.contains("mismatched types"), "{error}");
        assert!(error.contains("src/lib.rs:1"), "{error}");
    }

    #[test]
    fn what_is_no_tool_is_told_before_it_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let error = build_components(&[folder.path().to_owned()], &Options::default(), &mut |_| ()).unwrap_err();
        assert!(error.to_string().starts_with("find a crate in "), "{error}");
        let crate_dir = crate_in(folder.path(), "", "");
        let error = build_components(&[crate_dir], &Options::default(), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("crate-type"), "{error}");
    }

    #[test]
    fn a_core_module_is_not_taken_for_a_component() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\0asm\x01\0\0\0").unwrap();
        assert!(check_preamble(file.path()).unwrap_err().to_string().contains("not a component"));
    }
}
