//! Builds every example tool and every crate in `src-guests/` once, and writes down where their components are.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cofferdam_tool_build::{Component, Options, TARGET_INSTALL_SECONDS_MAX, build_components, ensure_target};

/// What the components are made of, seen from the workspace's root.
const SOURCES: &[&str] =
    &["wit", "tool-sdk/Cargo.toml", "tool-sdk/src", "tool-sdk/macros", "example-tools", "tests/guests/src-guests"];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("find the workspace")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let mut crate_dirs = crates_in(&root.join("example-tools"))?;
    crate_dirs.extend(crates_in(&root.join("tests/guests/src-guests"))?);

    // Build scripts speak on stderr: cargo shows it when they fail, and always with `-vv`.
    let say = &mut |line: &str| eprintln!("{line}");
    ensure_target(Duration::from_secs(TARGET_INSTALL_SECONDS_MAX), say)?;
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").context("read OUT_DIR")?);
    let options = Options { target_dir: Some(target_dir(&out_dir)?.join("guests")), ..Options::default() };
    let components = build_components(&crate_dirs, &options, say)?;
    std::fs::write(out_dir.join("components.rs"), table(&components)?).context("write the table of components")
}

/// Returns the folders with a `Cargo.toml`, by name.
fn crates_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = folder.read_dir().with_context(|| format!("read {}", folder.display()))?;
    let mut crates: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    crates.retain(|path| path.join("Cargo.toml").exists());
    crates.sort();
    Ok(crates)
}

/// `OUT_DIR` is `<target>[/<triple>]/<profile>/build/<package>/out`: cargo marks the folder that is meant.
fn target_dir(out_dir: &Path) -> Result<&Path> {
    let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    out_dir.ancestors().filter(is_target).last().context("find the target folder above OUT_DIR")
}

/// A component goes by the name of its crate's folder.
fn table(components: &[Component]) -> Result<String> {
    let mut text = "const COMPONENTS: &[(&str, &str)] = &[\n".to_owned();
    for component in components {
        let name = component.crate_dir.file_name().context("name a crate folder")?.to_string_lossy();
        writeln!(text, "    ({name:?}, {:?}),", component.path)?;
    }
    Ok(text + "];\n")
}
