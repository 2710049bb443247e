//! Recorded answers of real providers, from a folder of cassettes, answered byte for byte as they were recorded.
//!
//! A request gets the first answer that was recorded for its method and path and has not been given yet: files in the
//! order of their names, and each file from its top. What nobody asks for is no fault, for a folder holds more than one
//! test needs. A request for which there is nothing (left) is one.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_norway::Value;

use super::answer::Answer;
use recording::Recording;

mod httpmock;
mod recording;
mod vcr;

/// The recordings of a folder, and which of them were given.
pub(super) struct Cassettes {
    recordings: Vec<Recording>,
    is_used: Vec<bool>,
    /// Whether a path starts again where all its answers were given.
    is_repeated: bool,
}

impl Cassettes {
    /// Reads a file, or all YAML files of a folder and of those in it.
    ///
    /// # Errors
    /// A file that is no cassette, by its name; or no cassette at all.
    pub(super) fn read(path: &Path, is_repeated: bool) -> Result<Self, String> {
        let mut recordings = Vec::new();
        for file in files(path)? {
            let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            recordings.extend(parse(&text).map_err(|e| format!("{}: {e}", file.display()))?);
        }
        if recordings.is_empty() {
            return Err(format!("{}: there is no recording", path.display()));
        }
        Ok(Self { is_used: vec![false; recordings.len()], recordings, is_repeated })
    }

    /// Returns the next answer for `method` and `path`.
    pub(super) fn answer(&mut self, method: &str, path: &str) -> Option<Answer> {
        let fitting: Vec<usize> =
            (0..self.recordings.len()).filter(|n| self.recordings[*n].fits(method, path)).collect();
        if self.is_repeated && fitting.iter().all(|n| self.is_used[*n]) {
            fitting.iter().for_each(|n| self.is_used[*n] = false);
        }
        let next = fitting.into_iter().find(|n| !self.is_used[*n])?;
        self.is_used[next] = true;
        Some(self.recordings[next].answer())
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reads all documents of one file.
fn parse(text: &str) -> Result<Vec<Recording>, String> {
    // The reader keeps tags of our own, and forgets those of YAML itself.
    let text = text.replace(": !!binary", &format!(": {}", recording::BINARY_TAG));
    let mut recordings = Vec::new();
    for document in serde_norway::Deserializer::from_str(&text) {
        match Value::deserialize(document).map_err(|e| e.to_string())? {
            Value::Null => {}
            document if document.get("when").is_some() => recordings.push(httpmock::recording(&document)?),
            document => recordings.extend(vcr::recordings(&document)?),
        }
    }
    Ok(recordings)
}

/// Returns the bodies that a text of cassettes holds.
#[cfg(test)]
pub(super) fn bodies(text: &str) -> Result<Vec<Vec<u8>>, String> {
    Ok(parse(text)?.into_iter().map(|recording| recording.body.bytes).collect())
}
