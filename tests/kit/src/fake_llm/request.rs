//! A request as it came, and as much of it as is kept: of secrets only whether they were there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::protocol::{Protocol, Route};

/// Headers that bear a secret.
const SECRETS: [&str; 5] = ["authorization", "x-api-key", "x-goog-api-key", "api-key", "proxy-authorization"];

/// What is kept in place of a secret.
const PRESENT: &str = "[present]";

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// `None` where the path is none of the five; recordings have others too.
    pub protocol: Option<Protocol>,
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without a key that stands in it.
    pub query: String,
    /// By name in small letters. What bears a secret says only that it was there.
    pub headers: BTreeMap<String, String>,
    pub has_authorization: bool,
    /// The trace that the request belongs to.
    pub traceparent: Option<String>,
    /// `null` where there was none.
    pub body: Value,
    /// The body, byte for byte.
    pub bytes: Vec<u8>,
}

/// What a reply needs of a request.
pub(super) struct Ask<'a> {
    pub route: &'a Route,
    pub body: &'a Value,
    /// Length of the body in bytes.
    pub bytes: usize,
}

impl Recorded {
    /// Keeps what may be kept.
    pub(super) fn new(method: &str, target: &str, headers: &[(String, String)], bytes: Vec<u8>, body: Value) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kept = headers.iter().map(|(name, value)| {
            let value = if SECRETS.contains(&name.as_str()) { PRESENT } else { value };
            (name.clone(), value.to_owned())
        });
        let headers: BTreeMap<String, String> = kept.collect();
        Self {
            protocol: Route::of(path, query).map(|route| route.protocol),
            method: method.to_owned(),
            path: path.to_owned(),
            query: without_key(query),
            has_authorization: headers.contains_key("authorization"),
            traceparent: headers.get("traceparent").cloned(),
            headers,
            body,
            bytes,
        }
    }

    /// Tells whether the request bore a key, in any provider's way.
    pub fn has_key(&self) -> bool {
        SECRETS.iter().any(|name| self.headers.contains_key(*name)) || self.query.contains(PRESENT)
    }
}

impl Ask<'_> {
    /// Returns the model that the request names, in its path or its body.
    pub(super) fn model(&self) -> String {
        let named = self.route.model.as_deref().or_else(|| self.body["model"].as_str());
        named.unwrap_or("fake").to_owned()
    }
}

fn without_key(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some(("key", _)) => format!("key={PRESENT}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}
