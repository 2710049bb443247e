//! `csv`: reads files it was granted, as a stream, so that a million rows fit into little memory. Shows progress, minds
//! the deadline, and answers mistakes with what would have been right. Paths are opened as given, like `/data/orders.csv`.

mod filter;
mod scan;
mod tally;

use cofferdam_tool_sdk::prelude::*;

/// Selects from and sums up CSV files with a header row.
#[tools]
pub mod csv {
    use crate::filter::Filter;
    use crate::scan::Scan;
    use crate::tally::Tally;

    /// Rows that `query` returns when no limit is given: a page that a person or model can read.
    const LIMIT_DEFAULT: u32 = 100;

    /// Rows that `query` returns at most: more is better aggregated, and memory stays bounded.
    const LIMIT_MAX: u32 = 10_000;

    /// How a cell compares with a value: as numbers when the value is one, else as text.
    #[derive(Clone, Copy, Debug, ToolType)]
    pub enum Comparison {
        Equal,
        NotEqual,
        Less,
        AtMost,
        Greater,
        AtLeast,
        /// The cell contains the text, letter case aside.
        Contains,
    }

    /// A condition that a row must meet.
    #[derive(Clone, Debug, ToolType)]
    pub struct Condition {
        /// A column of the header row.
        pub column: String,
        pub comparison: Comparison,
        pub value: String,
    }

    /// How to sum up a column. Sums are exact decimals; empty cells are left out.
    #[derive(Clone, Copy, Debug, PartialEq, ToolType)]
    pub enum Measure {
        /// Counts rows, or cells that are not empty when a column is given.
        Count,
        Sum,
        Mean,
        Min,
        Max,
    }

    /// One column of an aggregate.
    #[derive(Clone, Debug, ToolType)]
    pub struct Metric {
        pub measure: Measure,
        /// The column to measure; only `count` does without.
        pub column: Option<String>,
    }

    /// Columns and rows of text.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Table {
        pub columns: Vec<String>,
        pub rows: Vec<Vec<String>>,
        /// How many rows of the file met the filter.
        pub matched: u64,
        /// Whether the limit left matching rows out.
        pub is_cut: bool,
    }

    /// Selects columns of the rows that meet every condition.
    #[tool(effect = "read", asks("files.read", "progress"))]
    pub fn query(
        /// The file, like `/data/orders.csv`.
        path: String,
        /// Columns to return, in this order; all when absent.
        columns: Option<Vec<String>>,
        /// Conditions that must all hold; every row when absent.
        filter: Option<Vec<Condition>>,
        /// Rows to return at most: 100 when absent, never above 10000.
        limit: Option<u32>,
    ) -> Result<Table, ToolError> {
        let mut scan = Scan::open(&path)?;
        let columns = columns.unwrap_or_else(|| scan.columns().to_vec());
        let picked = columns.iter().map(|column| scan.position(column)).collect::<Result<Vec<_>, _>>()?;
        let filter = Filter::new(&filter.unwrap_or_default(), &scan)?;
        let limit = limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX) as usize;
        let mut table = Table { columns, rows: Vec::new(), matched: 0, is_cut: false };
        while let Some(row) = scan.next_row()? {
            if !filter.accepts(row) {
                continue;
            }
            table.matched += 1;
            if table.rows.len() < limit {
                table.rows.push(picked.iter().map(|at| row[*at].to_owned()).collect());
            }
        }
        table.is_cut = table.matched > table.rows.len() as u64;
        Ok(table)
    }

    /// Groups rows by columns and measures each group. Groups come in the order of their text.
    #[tool(effect = "read", asks("files.read", "progress"))]
    pub fn aggregate(
        /// The file, like `/data/orders.csv`.
        path: String,
        /// Columns whose values make a group; one group of all rows when empty.
        group_by: Vec<String>,
        /// What to measure in each group.
        metrics: Vec<Metric>,
        /// Conditions that must all hold; every row when absent.
        filter: Option<Vec<Condition>>,
    ) -> Result<Table, ToolError> {
        let mut scan = Scan::open(&path)?;
        let filter = Filter::new(&filter.unwrap_or_default(), &scan)?;
        let mut tally = Tally::new(group_by, metrics, &scan)?;
        let mut matched = 0;
        while let Some(row) = scan.next_row()? {
            if filter.accepts(row) {
                matched += 1;
                tally.add(row)?;
            }
        }
        let (columns, rows) = tally.finish()?;
        Ok(Table { columns, rows, matched, is_cut: false })
    }
}

#[cfg(test)]
mod tests;
