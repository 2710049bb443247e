//! What reports need beyond Jinja: numbers for people, tables that line up, and escaping for Markdown.

use std::sync::Arc;

use minijinja::value::{Object, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters, functions, tests,
};
use rust_decimal::{Decimal, RoundingStrategy};

/// The name of our escaping beside minijinja's own.
pub(crate) const MARKDOWN: &str = "markdown";

/// What has a meaning inside a Markdown line.
const MARKDOWN_MARKS: &[char] = &['\\', '`', '*', '_', '[', ']', '<', '>', '|'];

/// Digits between two commas.
const GROUP_DIGITS: usize = 3;

/// A table in a template: it has `columns` and `rows`, and only the filter `table` draws it.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Object for Grid {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "columns" => Some(self.columns.clone().into()),
            "rows" => Some(self.rows.clone().into()),
            _ => None,
        }
    }
}

/// Gives templates what reports use. Linking all of Jinja's built-ins would add a quarter to the component.
pub(crate) fn register(environment: &mut Environment) {
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("number", number);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("table", table);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_function("range", functions::range);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("none", tests::is_none);
}

/// Writes a value into the page, escaped for its format.
pub(crate) fn write_value(out: &mut Output, state: &State, value: &Value) -> Result<(), Error> {
    match state.auto_escape() {
        AutoEscape::Custom(MARKDOWN) if !value.is_safe() && value.kind() == ValueKind::String => {
            out.write_str(&escape(state, &strict(value)?.to_string())?).map_err(Error::from)
        }
        AutoEscape::Custom(MARKDOWN) => write!(out, "{}", strict(value)?).map_err(Error::from),
        _ => escape_formatter(out, state, value),
    }
}

/// Writes a number with commas and a fixed count of digits after the point, rounded half away from zero.
pub(crate) fn number(value: &Value, digits: Option<u32>) -> Result<String, Error> {
    let text = strict(value)?.to_string();
    let number = decimal(&text).ok_or_else(|| invalid(format!("`{text}` is no decimal number")))?;
    Ok(written(number, digits.unwrap_or(0)))
}

/// Draws a table in the page's format. With `digits`, columns of whole numbers get commas, and columns of other numbers
/// that many digits after the point too.
pub(crate) fn table(state: &State, value: &Value, digits: Option<u32>) -> Result<Value, Error> {
    let Some(grid) = value.downcast_object_ref::<Grid>() else {
        return Err(invalid("only a table can be drawn as one".to_owned()));
    };
    let columns = grid.columns.iter().enumerate().map(|(at, name)| Column::new(state, grid, at, name, digits));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let drawn = match state.auto_escape() {
        AutoEscape::Html => html(&columns, grid.rows.len()),
        _ => markdown(&columns, grid.rows.len()),
    };
    Ok(Value::from_safe_string(drawn))
}

/// A column as it is drawn: escaped, its header first.
struct Column {
    cells: Vec<String>,
    is_numeric: bool,
    chars: usize,
}

impl Column {
    fn new(state: &State, grid: &Grid, at: usize, name: &str, digits: Option<u32>) -> Result<Self, Error> {
        let texts = grid.rows.iter().enumerate().map(|(n, row)| cell(row, n, at, grid.columns.len()));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let numbers: Option<Vec<Decimal>> = texts.iter().map(|text| decimal(text)).collect();
        let bodies = match (&numbers, digits) {
            (Some(numbers), Some(digits)) => {
                let digits = if numbers.iter().all(Decimal::is_integer) { 0 } else { digits };
                numbers.iter().map(|number| written(*number, digits)).collect()
            }
            _ => texts.iter().map(|text| escape(state, text)).collect::<Result<Vec<_>, _>>()?,
        };
        let mut cells = vec![escape(state, name)?];
        cells.extend(bodies);
        let chars = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        Ok(Self { cells, is_numeric: numbers.is_some(), chars })
    }

    fn padded(&self, line: usize) -> String {
        let (cell, chars) = (&self.cells[line], self.chars);
        if self.is_numeric { format!("{cell:>chars$}") } else { format!("{cell:<chars$}") }
    }

    fn rule(&self) -> String {
        let dashes = "-".repeat(self.chars + 1);
        if self.is_numeric { format!("{dashes}:") } else { format!(":{dashes}") }
    }
}

fn cell(row: &[String], n: usize, at: usize, columns: usize) -> Result<&str, Error> {
    if row.len() != columns {
        return Err(invalid(format!("row {} has {} cells, the table {columns} columns", n + 1, row.len())));
    }
    Ok(&row[at])
}

fn markdown(columns: &[Column], rows: usize) -> String {
    let line = |line| columns.iter().map(|column| format!(" {} |", column.padded(line))).collect::<String>();
    let rules: String = columns.iter().map(|column| format!("{}|", column.rule())).collect();
    let mut text = format!("|{}\n|{rules}\n", line(0));
    (1..=rows).for_each(|n| text += &format!("|{}\n", line(n)));
    text
}

fn html(columns: &[Column], rows: usize) -> String {
    let line =
        |n: usize, tag| columns.iter().map(|column| format!("<{tag}>{}</{tag}>", column.cells[n])).collect::<String>();
    let mut text = format!("<table>\n<tr>{}</tr>\n", line(0, "th"));
    (1..=rows).for_each(|n| text += &format!("<tr>{}</tr>\n", line(n, "td")));
    text + "</table>\n"
}

fn escape(state: &State, text: &str) -> Result<String, Error> {
    if !matches!(state.auto_escape(), AutoEscape::Custom(MARKDOWN)) {
        return state.format(text.into());
    }
    let mut escaped = String::new();
    for character in text.chars() {
        if MARKDOWN_MARKS.contains(&character) {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { ' ' } else { character });
    }
    Ok(escaped)
}

fn decimal(text: &str) -> Option<Decimal> {
    text.trim().parse().ok()
}

fn written(number: Decimal, digits: u32) -> String {
    let digits = digits.min(Decimal::MAX_SCALE);
    let rounded = number.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
    let plain = format!("{:.*}", digits as usize, rounded.abs());
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let sign = if rounded.is_sign_negative() && !rounded.is_zero() { "-" } else { "" };
    format!("{sign}{}{fraction}", grouped(whole))
}

fn grouped(whole: &str) -> String {
    let mut text = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(GROUP_DIGITS) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn strict(value: &Value) -> Result<&Value, Error> {
    if value.is_undefined() { Err(ErrorKind::UndefinedError.into()) } else { Ok(value) }
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}
