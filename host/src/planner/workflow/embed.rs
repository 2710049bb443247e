//! Workflow files within workflow files: `run = { workflow = "other.toml" }` becomes what that file says.
//!
//! A path is taken from the directory of the file that names it, and leads to no file outside the directory of the first
//! one, by `..` or by a link: whoever reviews a directory has seen all that a run of its files may do.

use std::path::{Path, PathBuf};

use crate::domain::{Failure, Json, Kind, printable};
use crate::planner::workflow::place::place;
use crate::planner::workflow::read::{Format, TextFlaw, read, text};

/// Workflow files that one file may bring in, each as often as it is named: more is a program.
const INNER_FILES_MAX: usize = 20;

/// Workflow files within each other: a run allows three by default.
const INNER_DEPTH_MAX: usize = 8;

/// A text that says a part of a workflow.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// JSON pointer to what it says; empty for the first file.
    pub at: String,
    /// The file as people know it.
    pub name: String,
    pub text: String,
    pub format: Format,
}

impl Source {
    /// Makes the failure of something wrong at a place in this text.
    pub(super) fn failure(&self, at: Option<(usize, usize)>, what: &str) -> Failure {
        let position = at.map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
        Failure::new(Kind::DataConfig, format!("read workflow {}{position}: {what}", self.name))
    }

    /// Makes the failure of something wrong at a JSON pointer into what this text says.
    pub(super) fn failure_at(&self, pointer: &str, what: &str) -> Failure {
        self.failure(place(&self.text, self.format, pointer), what)
    }

    /// Makes the failure of a text that cannot be read.
    pub(super) fn unreadable(&self, flaw: &TextFlaw) -> Failure {
        self.failure(flaw.at, &flaw.what)
    }
}

/// Brings in what other files say.
pub(super) struct Embedding {
    /// The directory of the first file, without links.
    root: PathBuf,
    /// Every text, the first file's first.
    pub sources: Vec<Source>,
    /// The files around the one that is looked at, without links.
    around: Vec<PathBuf>,
}

/// The file that is looked at, and the pointer to the part of it.
struct Within<'a> {
    /// Its number among the sources.
    source: usize,
    folder: &'a Path,
    /// Pointer within that file.
    at: String,
}

impl Embedding {
    /// Starts at the first file.
    ///
    /// # Errors
    /// `data.config` where its directory cannot be found.
    pub(super) fn new(path: &Path, source: Source) -> Result<Self, Failure> {
        let failed = |error| source.failure(None, &format!("cannot be found: {error}"));
        let real = path.canonicalize().map_err(failed)?;
        let root = real.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { root, around: vec![real], sources: vec![source] })
    }

    /// Replaces every path of a workflow in `content`, which the first file says.
    ///
    /// # Errors
    /// `data.config` with file, line and column.
    pub(super) fn embed(&mut self, path: &Path, content: &mut Json) -> Result<(), Failure> {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.steps(&Within { source: 0, folder, at: String::new() }, content)
    }

    /// Depth is that of the files, which is bounded.
    fn steps(&mut self, within: &Within<'_>, content: &mut Json) -> Result<(), Failure> {
        let steps = content.get_mut("steps").and_then(Json::as_array_mut);
        for (n, step) in steps.into_iter().flatten().enumerate() {
            let Some(workflow) = step.get_mut("run").and_then(|run| run.get_mut("workflow")) else { continue };
            let at = format!("{}/steps/{n}/run/workflow", within.at);
            match workflow {
                Json::String(name) => *workflow = self.file(within, &at, &name.clone())?,
                inline => self.steps(&Within { at, ..*within }, inline)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, within: &Within<'_>, at: &str, name: &str) -> Result<Json, Failure> {
        let around = self.sources.get(within.source).cloned();
        let around = around.ok_or_else(|| Failure::new(Kind::HostBug, "find the text of a workflow"))?;
        let refused = |what: String| around.failure_at(at, &what);
        let (path, real) = self.found(within.folder, name).map_err(refused)?;
        let source = Source {
            at: format!("{}{at}", around.at),
            name: printable(&path.display().to_string()),
            text: text(&path)?,
            format: Format::of(&path).map_err(|failure| refused(failure.message))?,
        };
        let (file, mut content) = read(&source.text, source.format).map_err(|flaw| source.unreadable(&flaw))?;
        file.check().map_err(|(at, what)| source.failure_at(&at, &what))?;
        self.sources.push(source);
        self.around.push(real);
        let folder = path.parent().unwrap_or(Path::new(""));
        let inner = Within { source: self.sources.len() - 1, folder, at: String::new() };
        self.steps(&inner, &mut content)?;
        self.around.pop();
        Ok(content)
    }

    /// The path of a file that may be brought in, as it is named and without links.
    fn found(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf), String> {
        let shown = printable(name);
        if Path::new(name).is_absolute() {
            return Err(format!("`{shown}` is absolute: a workflow is named from the directory of this file"));
        }
        let path = folder.join(name);
        let real = path.canonicalize().map_err(|error| format!("workflow `{shown}`: {error}"))?;
        if !real.starts_with(&self.root) {
            return Err(format!("workflow `{shown}` lies outside the directory of the first file"));
        }
        if self.around.contains(&real) {
            return Err(format!("workflow `{shown}` runs within itself"));
        }
        if self.around.len() > INNER_DEPTH_MAX {
            return Err(format!("workflow `{shown}` lies more than {INNER_DEPTH_MAX} files deep"));
        }
        if self.sources.len() > INNER_FILES_MAX {
            return Err(format!("workflow `{shown}` is one too many: at most {INNER_FILES_MAX} files within one"));
        }
        Ok((path, real))
    }
}
