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

    /// Entries that `list` returns at most.
    const ENTRIES_MAX: usize = 10_000;

    /// A file or folder.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Entry {
        pub name: String,
        /// Size in bytes; 0 for folders.
        pub bytes: u64,
        pub is_folder: bool,
    }

    /// Writes a note, in place of what was there. Returns its size in bytes.
    #[tool(effect = "idempotent", asks("files.write"))]
    pub fn write(
        /// The file, like `/notes/today.md`. Its folder must exist.
        path: String,
        /// The whole text.
        text: String,
    ) -> Result<u64, ToolError> {
        fs::write(&path, &text).map_err(about("write", &path))?;
        Ok(text.len() as u64)
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
        let mut text = String::new();
        file.take(NOTE_BYTES_MAX + 1).read_to_string(&mut text).map_err(about("read", &path))?;
        if text.len() as u64 > NOTE_BYTES_MAX {
            return Err(ToolError::new("notes.too_large", format!("{path} has over {NOTE_BYTES_MAX} bytes")));
        }
        Ok(text)
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
        assert_eq!(write(path.clone(), "# Today\n".to_owned()).unwrap(), 8);
        append(path.clone(), "one line".to_owned()).unwrap();
        assert_eq!(testing::logs()[0].1, format!("appended 9 bytes to {path}"));
        assert_eq!(read(path).unwrap(), "# Today\none line\n");
        let listed = list(folder.path().to_string_lossy().into_owned()).unwrap();
        assert_eq!(listed, [Entry { name: "today.md".to_owned(), bytes: 17, is_folder: false }]);
    }

    #[test]
    fn mistakes_have_codes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.md").to_string_lossy().into_owned();
        std::fs::write(&path, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(read(path.clone()).unwrap_err().code, "notes.too_large");
        assert_eq!(append(path, "two\nlines".to_owned()).unwrap_err().code, "input.invalid");
        assert_eq!(list("/no/such/folder".to_owned()).unwrap_err().code, "io.not_found");
    }
}
