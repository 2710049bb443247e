//! Requests over HTTP. The host sends them: it decides where they may go, follows redirects, and decodes bodies.
//!
//! Natively a test answers in place of the network: [`testing::answer`](crate::testing::answer). In a component, using
//! them imports `wasi:http`, for which a tool asks with `asks("http")`.
//!
//! ```
//! use cofferdam_tool_sdk::{http, testing};
//!
//! testing::answer(Ok(http::Response { status: 200, headers: vec![], body: b"hello".to_vec() }));
//! let response = http::Request::get("https://example.com/greeting").header("accept", "text/plain").send()?;
//! assert_eq!(response.text(), "hello");
//! # Ok::<(), cofferdam_tool_sdk::ToolError>(())
//! ```

#[cfg(target_arch = "wasm32")]
mod wire;

use crate::ToolError;

/// A request that is not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In upper case: `GET`, `POST`.
    pub method: String,
    /// With scheme and host: `https://api.example.com/v1/items?page=2`.
    pub url: String,
    /// Names and values, in the order in which they were added.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What a server answered, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Makes a request with any method and no body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Makes a request that reads.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Adds a header. Those that frame a message or say who asks (`host`, `cookie`, `authorization` and others) are the
    /// host's: a request with one is refused.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// `http.denied` where no rule allows it or a limit is used up, `http.url`, `http.header`, `http.dns`,
    /// `http.connect`, `http.tls`, `http.timeout`, `http.too_large`, `http.failed`. A status such as 404 is no error.
    #[cfg(target_arch = "wasm32")]
    pub fn send(self) -> Result<Response, ToolError> {
        wire::send(&self).map_err(|error| error.about(format!("{} {}", self.method, self.url)))
    }

    /// Sends it to the test, which answers with what it prepared.
    ///
    /// # Errors
    /// What the test prepared; `http.denied` where it prepared nothing.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn send(self) -> Result<Response, ToolError> {
        crate::testing::respond(self)
    }
}

impl Response {
    /// Returns the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a `GET` and reads the whole answer.
///
/// # Errors
/// Those of [`Request::send`].
pub fn get(url: impl Into<String>) -> Result<Response, ToolError> {
    Request::get(url).send()
}
