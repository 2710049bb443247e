use std::fmt::Write;

use cofferdam_tool_sdk::{ToolError, testing};
use tempfile::{TempDir, tempdir};

use crate::csv::*;

const ORDERS: &str = "id,city,amount\n1,Berlin,0.10\n2,\"Lyon, FR\",1000\n3,Berlin,0.20\n4,\"Lyon, FR\",\n";

fn file(text: &str) -> (TempDir, String) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("orders.csv");
    std::fs::write(&path, text).unwrap();
    (folder, path.to_string_lossy().into_owned())
}

fn condition(column: &str, comparison: Comparison, value: &str) -> Option<Vec<Condition>> {
    Some(vec![Condition { column: column.to_owned(), comparison, value: value.to_owned() }])
}

fn ids(filter: Option<Vec<Condition>>) -> String {
    let (_folder, path) = file(ORDERS);
    let table = query(path, Some(vec!["id".to_owned()]), filter, None).unwrap();
    table.rows.concat().concat()
}

fn summed(text: &str, measures: &[Measure], group_by: &[&str]) -> Result<Vec<String>, ToolError> {
    let (_folder, path) = file(text);
    let metric = |measure: &Measure| Metric { measure: *measure, column: Some("amount".to_owned()) };
    let group_by = group_by.iter().map(|column| (*column).to_owned()).collect();
    let table = aggregate(path, group_by, measures.iter().map(metric).collect(), None)?;
    Ok(table.rows.iter().map(|row| row.join("|")).collect())
}

#[test]
fn conditions_compare_numbers_as_numbers() {
    assert_eq!(ids(condition("amount", Comparison::Less, "9")), "13", "an empty cell is not below 9");
    assert_eq!(ids(condition("amount", Comparison::Equal, "1e3")), "2");
    assert_eq!(ids(condition("amount", Comparison::Equal, "1000.00")), "2");
    assert_eq!(ids(condition("amount", Comparison::AtLeast, "0.2")), "23");
    assert_eq!(ids(condition("city", Comparison::Contains, "lyon, f")), "24");
    assert_eq!(ids(condition("city", Comparison::NotEqual, "Berlin")), "24");
}

#[test]
fn a_limit_cuts_and_says_so() {
    let (_folder, path) = file(ORDERS);
    let table = query(path, None, None, Some(1)).unwrap();
    assert_eq!(table.columns, ["id", "city", "amount"]);
    assert_eq!((table.rows.len(), table.matched, table.is_cut), (1, 4, true));
}

#[test]
fn sums_are_exact_and_empty_cells_left_out() {
    use Measure::{Count, Max, Mean, Min, Sum};
    let rows = summed(ORDERS, &[Count, Sum, Mean, Min, Max], &["city"]).unwrap();
    assert_eq!(rows, ["Berlin|2|0.30|0.15|0.10|0.20", "Lyon, FR|1|1000|1000|1000|1000"]);
    assert_eq!(summed(ORDERS, &[Sum], &[]).unwrap(), ["1000.30"]);
}

#[test]
fn mistakes_are_answered_with_what_is_right() {
    let (_folder, path) = file(ORDERS);
    let error = query(path, Some(vec!["town".to_owned()]), None, None).unwrap_err();
    assert_eq!(error.message, "there is no column `town`: choose from id, city, amount");
    let error = summed("id,amount\n1,2\n2,two\n", &[Measure::Sum], &[]).unwrap_err();
    assert_eq!(error.message, "line 3: `two` in column `amount` is no decimal number");
    let error = summed("id,amount\n1\n", &[Measure::Sum], &[]).unwrap_err();
    assert_eq!(error.message, "line 2: the row has 1 cells, the header 2");
    assert_eq!(query("/no/such.csv".to_owned(), None, None, None).unwrap_err().code, "io.not_found");
}

#[test]
fn a_long_file_reports_progress_and_minds_the_deadline() {
    let mut text = "id,amount\n".to_owned();
    (0..50_000).for_each(|id| writeln!(text, "{id},0.01").unwrap());
    assert_eq!(summed(&text, &[Measure::Sum], &[]).unwrap(), ["500.00"]);
    let told = testing::progress();
    assert_eq!(told.len(), 2);
    assert!(told[0].0 < told[1].0, "{told:?}");
    testing::set_remaining_ms(10);
    let error = summed(&text, &[Measure::Sum], &[]).unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("csv.out_of_time", true));
}
