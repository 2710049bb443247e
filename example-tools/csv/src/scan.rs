//! A CSV file as a stream of rows, in bounded memory, that tells how far it is and stops before the host would.

use std::fs::File;

use cofferdam_tool_sdk::{ToolError, context, progress};
use csv::{Reader, ReaderBuilder, StringRecord};

/// Bytes read at once: few host calls for large files, little memory for all.
const BUFFER_BYTES: usize = 256 * 1024;

/// Rows between two looks at clock and progress: some milliseconds of work.
const ROWS_PER_LOOK: u64 = 20_000;

/// Milliseconds kept back to answer in order in place of being stopped.
const RESERVE_MS: u64 = 50;

/// A file being read, one row in memory at a time.
pub(crate) struct Scan {
    reader: Reader<File>,
    columns: Vec<String>,
    row: StringRecord,
    rows: u64,
    bytes: u64,
}

impl Scan {
    /// Opens a file and reads its header row.
    pub(crate) fn open(path: &str) -> Result<Self, ToolError> {
        let about = |error: std::io::Error| ToolError::from(error).about(format_args!("open {path}"));
        let file = File::open(path).map_err(about)?;
        let bytes = file.metadata().map_err(about)?.len();
        let mut reader = ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(file);
        let columns = reader.headers().map_err(invalid)?.iter().map(|name| name.trim().to_owned()).collect();
        Ok(Self { reader, columns, row: StringRecord::new(), rows: 0, bytes })
    }

    /// Returns the names in the header row.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns where a column stands in each row.
    pub(crate) fn position(&self, column: &str) -> Result<usize, ToolError> {
        self.columns.iter().position(|name| name == column).ok_or_else(|| {
            let known = self.columns.join(", ");
            ToolError::new("csv.unknown_column", format!("there is no column `{column}`: choose from {known}"))
        })
    }

    /// Reads the next row; every row has as many cells as the header.
    pub(crate) fn next_row(&mut self) -> Result<Option<&StringRecord>, ToolError> {
        if self.rows.is_multiple_of(ROWS_PER_LOOK) && self.rows > 0 {
            self.look()?;
        }
        self.rows += 1;
        let is_row = self.reader.read_record(&mut self.row).map_err(invalid)?;
        Ok(is_row.then_some(&self.row))
    }

    fn look(&self) -> Result<(), ToolError> {
        let done = self.reader.position().byte() as f64 / self.bytes.max(1) as f64;
        progress::report(done.min(1.0), format!("{} rows read", self.rows));
        if context::remaining_ms() > RESERVE_MS {
            return Ok(());
        }
        let message = format!("time ran out after {} rows: raise the deadline or split the file", self.rows);
        Err(ToolError::transient("csv.out_of_time", message))
    }
}

fn invalid(error: csv::Error) -> ToolError {
    let line = error.position().map(|position| format!("line {}: ", position.line())).unwrap_or_default();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            ToolError::new("csv.invalid", format!("{line}the row has {len} cells, the header {expected_len}"))
        }
        csv::ErrorKind::Utf8 { .. } => ToolError::new("csv.invalid", format!("{line}the text is not UTF-8")),
        _ => ToolError::new("csv.invalid", format!("{line}this is no CSV")),
    }
}
