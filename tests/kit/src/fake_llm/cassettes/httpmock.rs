//! Recordings of httpmock: a document for each, what was asked under `when` and what was answered under `then`.

use serde_norway::Value;

use super::recording::{Recorded, Recording, headers, status, text};

/// Reads one document.
///
/// # Errors
/// What is missing.
pub(super) fn recording(document: &Value) -> Result<Recording, String> {
    let when = document.get("when").ok_or("a recording has `when`")?;
    let then = document.get("then").ok_or("a recording has `then`")?;
    let path = when.get("path").and_then(text).ok_or("`when` has a `path`")?;
    let body = match (then.get("body"), then.get("body_base64").and_then(Value::as_str)) {
        (_, Some(base64)) => Recorded::base64(base64)?,
        (body, None) => Recorded::read(body.unwrap_or(&Value::Null))?,
    };
    Ok(Recording {
        method: when.get("method").and_then(text),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        status: status(then.get("status")).unwrap_or(200),
        headers: headers(then.get("header").or_else(|| then.get("headers"))),
        body,
    })
}
