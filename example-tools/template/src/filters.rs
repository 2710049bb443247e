//! What reports need beyond Jinja: numbers for people, tables, and escaping for Markdown.

use minijinja::value::ValueKind;
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

/// Gives templates what reports use. Linking all of Jinja's built-ins would add a quarter to the component.
pub(crate) fn register(environment: &mut Environment) {
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("items", filters::items);
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
            out.write_str(&escape(state, value)?).map_err(Error::from)
        }
        AutoEscape::Custom(MARKDOWN) => write!(out, "{}", strict(value)?).map_err(Error::from),
        _ => escape_formatter(out, state, value),
    }
}

/// Writes a number with commas and a fixed count of digits after the point, rounded half away from zero.
pub(crate) fn number(value: &Value, digits: Option<u32>) -> Result<String, Error> {
    let text = strict(value)?.to_string();
    let number: Decimal = text.trim().parse().map_err(|_| invalid(format!("`{text}` is no decimal number")))?;
    let digits = digits.unwrap_or(0).min(Decimal::MAX_SCALE);
    let rounded = number.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
    let plain = format!("{:.*}", digits as usize, rounded.abs());
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let sign = if rounded.is_sign_negative() && !rounded.is_zero() { "-" } else { "" };
    Ok(format!("{sign}{}{fraction}", grouped(whole)))
}

/// Draws `{columns, rows}` or a list of objects in the page's format.
pub(crate) fn table(state: &State, value: &Value) -> Result<Value, Error> {
    let (columns, rows) = if value.kind() == ValueKind::Map { grid(value)? } else { records(value)? };
    let drawn = match state.auto_escape() {
        AutoEscape::Html => html(state, &columns, &rows)?,
        _ => markdown(state, &columns, &rows)?,
    };
    Ok(Value::from_safe_string(drawn))
}

type Grid = (Vec<Value>, Vec<Vec<Value>>);

fn grid(value: &Value) -> Result<Grid, Error> {
    let columns = value.get_attr("columns")?.try_iter()?.collect();
    let rows = value.get_attr("rows")?.try_iter()?.map(|row| Ok(row.try_iter()?.collect()));
    Ok((columns, rows.collect::<Result<_, Error>>()?))
}

fn records(value: &Value) -> Result<Grid, Error> {
    let records: Vec<Value> = value.try_iter()?.collect();
    let Some(first) = records.first() else { return Ok(Grid::default()) };
    let columns: Vec<Value> = first.try_iter()?.collect();
    let row = |record: &Value| columns.iter().map(|column| record.get_item(column)).collect::<Result<_, _>>();
    let rows = records.iter().map(row).collect::<Result<_, Error>>()?;
    Ok((columns, rows))
}

fn markdown(state: &State, columns: &[Value], rows: &[Vec<Value>]) -> Result<String, Error> {
    let mut text = line(state, columns, "| ", " | ", " |")?;
    let is_number = |at: usize| rows.iter().all(|row| row.get(at).is_some_and(is_number));
    let marks: Vec<&str> = (0..columns.len()).map(|at| if is_number(at) { "--:" } else { "---" }).collect();
    text += &format!("|{}|\n", marks.join("|"));
    for row in rows {
        text += &line(state, row, "| ", " | ", " |")?;
    }
    Ok(text)
}

fn html(state: &State, columns: &[Value], rows: &[Vec<Value>]) -> Result<String, Error> {
    let mut text = "<table>\n".to_owned() + &line(state, columns, "<tr><th>", "</th><th>", "</th></tr>")?;
    for row in rows {
        text += &line(state, row, "<tr><td>", "</td><td>", "</td></tr>")?;
    }
    Ok(text + "</table>\n")
}

fn line(state: &State, cells: &[Value], start: &str, joint: &str, end: &str) -> Result<String, Error> {
    let cells = cells.iter().map(|cell| escape(state, cell)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{start}{}{end}\n", cells.join(joint)))
}

fn escape(state: &State, value: &Value) -> Result<String, Error> {
    if !matches!(state.auto_escape(), AutoEscape::Custom(MARKDOWN)) {
        return state.format(value.clone());
    }
    let mut escaped = String::new();
    for character in strict(value)?.to_string().chars() {
        if MARKDOWN_MARKS.contains(&character) {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { ' ' } else { character });
    }
    Ok(escaped)
}

fn is_number(value: &Value) -> bool {
    value.kind() == ValueKind::Number || value.as_str().is_some_and(|text| text.trim().parse::<Decimal>().is_ok())
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
