//! Conditions on rows, prepared once and asked for every row.

use std::cmp::Ordering;

use cofferdam_tool_sdk::ToolError;
use csv::StringRecord;
use rust_decimal::Decimal;

use crate::csv::{Comparison, Condition};
use crate::scan::Scan;

/// Conditions that must all hold.
pub(crate) struct Filter {
    conditions: Vec<Prepared>,
}

struct Prepared {
    at: usize,
    comparison: Comparison,
    text: String,
    number: Option<Decimal>,
}

impl Filter {
    /// Prepares conditions; each must name a column of the file.
    pub(crate) fn new(conditions: &[Condition], scan: &Scan) -> Result<Self, ToolError> {
        let prepare = |condition: &Condition| {
            Ok(Prepared {
                at: scan.position(&condition.column)?,
                comparison: condition.comparison,
                text: condition.value.clone(),
                number: condition.value.trim().parse().ok(),
            })
        };
        Ok(Self { conditions: conditions.iter().map(prepare).collect::<Result<_, ToolError>>()? })
    }

    /// Whether a row meets every condition.
    pub(crate) fn accepts(&self, row: &StringRecord) -> bool {
        self.conditions.iter().all(|condition| condition.holds(&row[condition.at]))
    }
}

impl Prepared {
    fn holds(&self, cell: &str) -> bool {
        let order = self.order(cell);
        match self.comparison {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order.is_some_and(Ordering::is_lt),
            Comparison::AtMost => order.is_some_and(Ordering::is_le),
            Comparison::Greater => order.is_some_and(Ordering::is_gt),
            Comparison::AtLeast => order.is_some_and(Ordering::is_ge),
            Comparison::Contains => cell.to_lowercase().contains(&self.text.to_lowercase()),
        }
    }

    /// A cell that is no number (an empty one too) is neither above nor below one.
    fn order(&self, cell: &str) -> Option<Ordering> {
        match self.number {
            None => Some(cell.cmp(&self.text)),
            Some(number) => cell.trim().parse::<Decimal>().ok().map(|cell| cell.cmp(&number)),
        }
    }
}
