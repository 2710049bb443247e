//! Recordings of vcrpy, of what is built on it, and of VCR itself: a list of interactions, or two lists that run
//! together.

use serde_norway::Value;

use super::recording::{Recorded, Recording, headers, status, text};

/// Reads one document.
///
/// # Errors
/// What is not as it should be, by the number of the interaction from 1.
pub(super) fn recordings(document: &Value) -> Result<Vec<Recording>, String> {
    let list = |key: &str| document.get(key).and_then(Value::as_sequence);
    let pairs: Vec<(Option<&Value>, Option<&Value>)> =
        match (interactions(document), list("requests"), list("responses")) {
            (Some(interactions), ..) => {
                interactions.iter().map(|one| (one.get("request"), one.get("response"))).collect()
            }
            (None, Some(requests), Some(responses)) => {
                let longer = requests.len().max(responses.len());
                (0..longer).map(|n| (requests.get(n), responses.get(n))).collect()
            }
            _ => return Err("this is no cassette: it has neither `interactions` nor `when` and `then`".to_owned()),
        };
    let each = pairs.into_iter().enumerate().map(|(n, pair)| match pair {
        (Some(request), Some(response)) => {
            recording(request, response).map_err(|e| format!("interaction {}: {e}", n + 1))
        }
        _ => Err(format!("interaction {}: it has a `request` and a `response`", n + 1)),
    });
    each.collect()
}

/// Returns the list of interactions, as vcrpy names it or as VCR does.
fn interactions(document: &Value) -> Option<&Vec<Value>> {
    document.get("interactions").or_else(|| document.get("http_interactions")).and_then(Value::as_sequence)
}

fn recording(request: &Value, response: &Value) -> Result<Recording, String> {
    let uri = request.get("uri").or_else(|| request.get("url")).and_then(text).ok_or("a request has a `uri`")?;
    let code = response.get("status").map(|status| status.get("code").unwrap_or(status));
    let code =
        status(code.or_else(|| response.get("status_code"))).ok_or("a response has a `status` with its `code`")?;
    Ok(Recording {
        method: request.get("method").and_then(text),
        path: path(&uri).to_owned(),
        status: code,
        headers: headers(response.get("headers")),
        body: body(response)?,
    })
}

fn body(response: &Value) -> Result<Recorded, String> {
    if let Some(parsed) = response.get("parsed_body") {
        // Who recorded this took the JSON apart.
        let json = serde_json::to_string(parsed).map_err(|e| format!("a parsed body is no JSON: {e}"))?;
        return Ok(Recorded { bytes: json.into_bytes(), is_binary: false });
    }
    let body = response.get("body").or_else(|| response.get("content")).unwrap_or(&Value::Null);
    match body.get("base64_string").and_then(Value::as_str) {
        Some(base64) => Recorded::base64(base64),
        None if body.is_mapping() => Recorded::read(body.get("string").unwrap_or(&Value::Null)),
        None => Recorded::read(body),
    }
}

/// Returns the path of an address, without its query.
fn path(uri: &str) -> &str {
    let behind = uri.split_once("://").map_or(uri, |(_, rest)| rest.find('/').map_or("/", |start| &rest[start..]));
    behind.split(['?', '#']).next().unwrap_or_default()
}
