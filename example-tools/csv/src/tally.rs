//! Groups and their running measures: memory grows with the groups, not with the rows.

use std::collections::BTreeMap;

use cofferdam_tool_sdk::ToolError;
use csv::StringRecord;
use rust_decimal::Decimal;

use crate::csv::{Measure, Metric};
use crate::scan::Scan;

/// Groups at most: a column with more values is an id, and a table of it no summary.
const GROUPS_MAX: usize = 10_000;

/// Digits after the point of a mean.
const MEAN_DIGITS: u32 = 6;

/// Rows being grouped.
pub(crate) struct Tally {
    group_by: Vec<String>,
    group_at: Vec<usize>,
    metrics: Vec<(Metric, Option<usize>)>,
    groups: BTreeMap<Vec<String>, Vec<Running>>,
}

#[derive(Clone, Default)]
struct Running {
    count: u64,
    sum: Decimal,
    min: Option<Decimal>,
    max: Option<Decimal>,
}

impl Tally {
    /// Prepares a tally; each column must be one of the file.
    pub(crate) fn new(group_by: Vec<String>, metrics: Vec<Metric>, scan: &Scan) -> Result<Self, ToolError> {
        let group_at = group_by.iter().map(|column| scan.position(column)).collect::<Result<_, _>>()?;
        let metrics = metrics.into_iter().map(|metric| place(metric, scan)).collect::<Result<_, _>>()?;
        Ok(Self { group_by, group_at, metrics, groups: BTreeMap::new() })
    }

    /// Adds a row to its group.
    pub(crate) fn add(&mut self, row: &StringRecord) -> Result<(), ToolError> {
        let key: Vec<String> = self.group_at.iter().map(|at| row[*at].to_owned()).collect();
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            let message = format!("more than {GROUPS_MAX} groups: group by a column with fewer values");
            return Err(ToolError::new("csv.too_many_groups", message));
        }
        let group = self.groups.entry(key).or_insert_with(|| vec![Running::default(); self.metrics.len()]);
        for ((metric, at), running) in self.metrics.iter().zip(group) {
            match at {
                None => running.count += 1,
                Some(at) => running.add(metric, row, *at)?,
            }
        }
        Ok(())
    }

    /// Returns the column names and one row for each group.
    pub(crate) fn finish(self) -> Result<(Vec<String>, Vec<Vec<String>>), ToolError> {
        let columns = self.group_by.into_iter().chain(self.metrics.iter().map(|(metric, _)| title(metric))).collect();
        let measures: Vec<Measure> = self.metrics.iter().map(|(metric, _)| metric.measure).collect();
        let row = |(key, group): (Vec<String>, Vec<Running>)| {
            let values = measures.iter().zip(&group).map(|(measure, running)| running.value(*measure));
            key.into_iter().chain(values).collect()
        };
        Ok((columns, self.groups.into_iter().map(row).collect()))
    }
}

impl Running {
    fn add(&mut self, metric: &Metric, row: &StringRecord, at: usize) -> Result<(), ToolError> {
        let cell = row[at].trim();
        if cell.is_empty() {
            return Ok(());
        }
        self.count += 1;
        if metric.measure == Measure::Count {
            return Ok(());
        }
        let number: Decimal = cell.parse().map_err(|_| bad_number(metric, row, cell))?;
        self.sum =
            self.sum.checked_add(number).ok_or_else(|| ToolError::new("csv.overflow", "the sum has over 28 digits"))?;
        self.min = Some(self.min.map_or(number, |min| min.min(number)));
        self.max = Some(self.max.map_or(number, |max| max.max(number)));
        Ok(())
    }

    /// An empty text is the measure of nothing.
    fn value(&self, measure: Measure) -> String {
        let text = |value: Option<Decimal>| value.map(|value| value.to_string()).unwrap_or_default();
        match measure {
            Measure::Count => self.count.to_string(),
            Measure::Sum => self.sum.to_string(),
            Measure::Mean => {
                text(self.sum.checked_div(self.count.into()).map(|mean| mean.round_dp(MEAN_DIGITS).normalize()))
            }
            Measure::Min => text(self.min),
            Measure::Max => text(self.max),
        }
    }
}

fn place(metric: Metric, scan: &Scan) -> Result<(Metric, Option<usize>), ToolError> {
    let at = metric.column.as_deref().map(|column| scan.position(column)).transpose()?;
    if at.is_none() && metric.measure != Measure::Count {
        return Err(ToolError::input(format!("`{}` needs a column", title(&metric))));
    }
    Ok((metric, at))
}

fn title(metric: &Metric) -> String {
    let measure = match metric.measure {
        Measure::Count => "count",
        Measure::Sum => "sum",
        Measure::Mean => "mean",
        Measure::Min => "min",
        Measure::Max => "max",
    };
    metric.column.as_ref().map_or_else(|| measure.to_owned(), |column| format!("{measure}({column})"))
}

fn bad_number(metric: &Metric, row: &StringRecord, cell: &str) -> ToolError {
    let line = row.position().map_or(0, csv::Position::line);
    let column = metric.column.as_deref().unwrap_or_default();
    ToolError::new("csv.bad_number", format!("line {line}: `{cell}` in column `{column}` is no decimal number"))
}
