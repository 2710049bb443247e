//! `notes`: writes files it was granted. What differs from any program is only this: without a grant there is no file
//! to open. Paths are opened as given, like `/notes/today.md`.

use cofferdam_tool_sdk::prelude::*;

/// Keeps text notes in a granted folder.
#[tools]
mod notes {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, Read, Write};

    /// Bytes of a note that `read` returns at most: notes are for people.
    const NOTE_BYTES_MAX: u64 = 1024 * 1024;

    /// Bytes of a note that `write` replaces at most: it hands back what it replaced, for `restore`.
    const REPLACED_BYTES_MAX: u64 = 256 * 1024;

    /// Bytes of all notes that `read_all` returns at most: half of what a result may hold, as JSON escapes take room.
    const ALL_BYTES_MAX: usize = 512 * 1024;

    /// Entries of a folder that are looked at.
    const ENTRIES_MAX: usize = 10_000;

    /// A file or folder.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Entry {
        pub name: String,
        /// Size in bytes; 0 for folders.
        pub bytes: u64,
        pub is_folder: bool,
    }

    /// The notes of a folder.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Collection {
        /// How many notes were read.
        pub notes: u32,
        /// One after the other, an empty line between two.
        pub text: String,
        /// Whether the limit left notes out.
        pub is_cut: bool,
    }

    /// A note that was written.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Written {
        /// Its size.
        pub bytes: u64,
        /// What was there before; nothing where the note is new.
        pub replaced: Option<String>,
    }

    /// Writes a note, in place of what was there, and remembers that.
    #[tool(
        effect = "idempotent",
        asks("files.write"),
        undo = restore(path = input.path, written = input.text, text = out.replaced)
    )]
    pub fn write(
        /// The file, like `/notes/today.md`. Its folder must exist.
        path: String,
        /// The whole text.
        text: String,
    ) -> Result<Written, ToolError> {
        let replaced = before(&path, REPLACED_BYTES_MAX)?;
        fs::write(&path, &text).map_err(about("write", &path))?;
        Ok(Written { bytes: text.len() as u64, replaced })
    }

    /// Puts back what `write` replaced. A note that somebody changed since is left as it is.
    #[tool(effect = "idempotent", asks("files.write"), internal)]
    pub fn restore(
        path: String,
        /// What `write` wrote.
        written: String,
        /// What was there before.
        text: Option<String>,
    ) -> Result<(), ToolError> {
        let now = before(&path, NOTE_BYTES_MAX)?;
        if now == text {
            return Ok(());
        }
        if now != Some(written) {
            return Err(ToolError::new("notes.changed", format!("{path} was changed after it was written")));
        }
        match text {
            Some(text) => fs::write(&path, text).map_err(about("write", &path)),
            None => fs::remove_file(&path).map_err(about("remove", &path)),
        }
    }

    /// Adds a line at the end of a note, which is made if need be.
    #[tool(effect = "once", asks("files.write", "log"))]
    pub fn append(
        /// The file, like `/notes/today.md`.
        path: String,
        /// The line, without a line break.
        line: String,
    ) -> Result<(), ToolError> {
        if line.contains(['\n', '\r']) {
            return Err(ToolError::input("`line` holds a line break: append each line by itself"));
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(about("append to", &path))?;
        // One write: a line is there as a whole or not at all.
        file.write_all(format!("{line}\n").as_bytes()).map_err(about("append to", &path))?;
        log::info(format!("appended {} bytes to {path}", line.len() + 1));
        Ok(())
    }

    /// Reads a note.
    #[tool(effect = "read", asks("files.read"))]
    pub fn read(
        /// The file, like `/notes/today.md`.
        path: String,
    ) -> Result<String, ToolError> {
        let file = File::open(&path).map_err(about("read", &path))?;
        text_of(file, &path, NOTE_BYTES_MAX)
    }

    /// Reads the notes of a folder by name, folders within left out.
    #[tool(effect = "read", asks("files.read"))]
    pub fn read_all(
        /// The folder, like `/notes`.
        folder: String,
        /// How many notes to read at most.
        limit: u32,
    ) -> Result<Collection, ToolError> {
        let mut names: Vec<String> =
            list(folder.clone())?.into_iter().filter(|e| !e.is_folder).map(|e| e.name).collect();
        let is_cut = names.len() > limit as usize;
        names.truncate(limit as usize);
        let mut text = String::new();
        for name in &names {
            let note = read(format!("{folder}/{name}"))?;
            let gap = if text.is_empty() { "" } else { "\n\n" };
            text = text + gap + note.trim();
            if text.len() > ALL_BYTES_MAX {
                return Err(ToolError::new(
                    "notes.too_large",
                    format!("{folder} has over {ALL_BYTES_MAX} bytes: lower `limit`"),
                ));
            }
        }
        Ok(Collection { notes: names.len() as u32, text, is_cut })
    }

    /// Lists a folder by name.
    #[tool(effect = "read", asks("files.read"))]
    pub fn list(
        /// The folder, like `/notes`.
        folder: String,
    ) -> Result<Vec<Entry>, ToolError> {
        let entries = fs::read_dir(&folder).map_err(about("list", &folder))?.take(ENTRIES_MAX);
        let mut entries = entries.map(entry).collect::<io::Result<Vec<_>>>().map_err(about("list", &folder))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Returns the text of a note; `None` where there is none.
    fn before(path: &str, bytes_max: u64) -> Result<Option<String>, ToolError> {
        match File::open(path) {
            Ok(file) => text_of(file, path, bytes_max).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(about("read", path)(error)),
        }
    }

    fn text_of(file: File, path: &str, bytes_max: u64) -> Result<String, ToolError> {
        let mut text = String::new();
        file.take(bytes_max + 1).read_to_string(&mut text).map_err(about("read", path))?;
        if text.len() as u64 > bytes_max {
            return Err(ToolError::new("notes.too_large", format!("{path} has over {bytes_max} bytes")));
        }
        Ok(text)
    }

    fn entry(entry: io::Result<fs::DirEntry>) -> io::Result<Entry> {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let bytes = if metadata.is_dir() { 0 } else { metadata.len() };
        Ok(Entry { name: entry.file_name().to_string_lossy().into_owned(), bytes, is_folder: metadata.is_dir() })
    }

    fn about(what: &str, path: &str) -> impl FnOnce(io::Error) -> ToolError {
        let what = format!("{what} {path}");
        move |error| ToolError::from(error).about(what)
    }
}

#[cfg(test)]
mod tests {
    use super::notes::*;
    use cofferdam_tool_sdk::testing;

    #[test]
    fn a_note_is_written_extended_read_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("today.md").to_string_lossy().into_owned();
        let written = write(path.clone(), "# Today\n".to_owned()).unwrap();
        assert_eq!(written, Written { bytes: 8, replaced: None });
        append(path.clone(), "one line".to_owned()).unwrap();
        assert_eq!(testing::logs()[0].1, format!("appended 9 bytes to {path}"));
        assert_eq!(read(path).unwrap(), "# Today\none line\n");
        let listed = list(folder.path().to_string_lossy().into_owned()).unwrap();
        assert_eq!(listed, [Entry { name: "today.md".to_owned(), bytes: 17, is_folder: false }]);
    }

    #[test]
    fn what_was_written_is_taken_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("today.md").to_string_lossy().into_owned();
        let text = str::to_owned;
        let first = write(path.clone(), text("one")).unwrap();
        let second = write(path.clone(), text("two")).unwrap();
        assert_eq!(second.replaced.as_deref(), Some("one"));
        for _ in 0..2 {
            restore(path.clone(), text("two"), second.replaced.clone()).unwrap();
            assert_eq!(read(path.clone()).unwrap(), "one");
        }
        assert_eq!(restore(path.clone(), text("two"), None).unwrap_err().code, "notes.changed");
        for _ in 0..2 {
            restore(path.clone(), text("one"), first.replaced.clone()).unwrap();
        }
        assert_eq!(read(path).unwrap_err().code, "io.not_found");
    }

    #[test]
    fn a_folder_is_read_by_name_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a-folder")).unwrap();
        for (name, text) in [("b.txt", "Second.\n"), ("a.txt", "\nFirst.\n"), ("c.txt", "Third.")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let path = folder.path().to_string_lossy().into_owned();
        let all = Collection { notes: 3, text: "First.\n\nSecond.\n\nThird.".to_owned(), is_cut: false };
        assert_eq!(read_all(path.clone(), 3).unwrap(), all);
        let cut = Collection { notes: 1, text: "First.".to_owned(), is_cut: true };
        assert_eq!(read_all(path.clone(), 1).unwrap(), cut);
        std::fs::write(folder.path().join("d.txt"), vec![b'a'; 512 * 1024 + 1]).unwrap();
        assert_eq!(read_all(path, 9).unwrap_err().code, "notes.too_large");
    }

    #[test]
    fn mistakes_have_codes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.md").to_string_lossy().into_owned();
        std::fs::write(&path, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(read(path.clone()).unwrap_err().code, "notes.too_large");
        assert_eq!(write(path.clone(), String::new()).unwrap_err().code, "notes.too_large");
        assert_eq!(append(path, "two\nlines".to_owned()).unwrap_err().code, "input.invalid");
        assert_eq!(list("/no/such/folder".to_owned()).unwrap_err().code, "io.not_found");
    }
}
