//! `fetch`: sends requests that it was granted. What differs from any HTTP program is only this: the host sends, so that
//! without a rule for the URL nothing leaves, a redirect is a new question to the rules, and a key never gets here.

use cofferdam_tool_sdk::prelude::*;

/// Reads from web servers and writes to them.
#[tools]
mod fetch {
    use cofferdam_tool_sdk::http::{Request, Response};

    /// Characters of an answer that are returned: more is better saved or searched than read.
    const TEXT_CHARS_MAX: usize = 100_000;

    /// A header of a request or an answer.
    #[derive(Clone, Debug, PartialEq, ToolType)]
    pub struct Header {
        pub name: String,
        pub value: String,
    }

    /// What a server answered. A status such as 404 is an answer too.
    #[derive(Debug, PartialEq, ToolType)]
    pub struct Answer {
        pub status: u16,
        pub headers: Vec<Header>,
        /// The body as text; what is not UTF-8 is replaced.
        pub text: String,
        /// Whether the text was longer.
        pub is_cut: bool,
    }

    /// Reads what is at a URL. Redirects are followed as far as the rules go.
    #[tool(effect = "read", asks("http"))]
    pub fn get(
        /// Like `https://api.example.com/v1/items?page=2`.
        url: String,
        /// Headers to send, such as `accept`.
        headers: Option<Vec<Header>>,
    ) -> Result<Answer, ToolError> {
        let headers = headers.unwrap_or_default();
        let request = headers.into_iter().fold(Request::get(url), |request, h| request.header(h.name, h.value));
        request.send().map(answer)
    }

    /// Sends a body to a URL. The host adds an idempotency key, so that a server can tell a repeat.
    #[tool(effect = "once", asks("http"))]
    pub fn send(
        /// `POST`, `PUT`, `PATCH` or `DELETE`.
        method: String,
        /// Like `https://api.example.com/v1/items`.
        url: String,
        /// What to send; nothing when absent.
        body: Option<String>,
        /// What the body is: `application/json` when absent.
        content_type: Option<String>,
    ) -> Result<Answer, ToolError> {
        if !matches!(method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE") {
            return Err(ToolError::input("`method` is POST, PUT, PATCH or DELETE; to read, use `get`"));
        }
        let mut request = Request::new(method, url);
        if let Some(body) = body {
            let content_type = content_type.unwrap_or_else(|| "application/json".to_owned());
            request = request.header("content-type", content_type).body(body);
        }
        request.send().map(answer)
    }

    fn answer(response: Response) -> Answer {
        let whole = response.text();
        let text: String = whole.chars().take(TEXT_CHARS_MAX).collect();
        let is_cut = text.len() < whole.len();
        let headers = response.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
        Answer { status: response.status, headers, text, is_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::fetch::*;
    use cofferdam_tool_sdk::{ToolError, http::Response, testing};

    fn page(status: u16, body: &str) -> Result<Response, ToolError> {
        Ok(Response { status, headers: vec![("etag".to_owned(), "7".to_owned())], body: body.into() })
    }

    #[test]
    fn an_answer_is_status_headers_and_text() {
        testing::answer(page(404, "no such thing"));
        let accept = Header { name: "accept".to_owned(), value: "text/plain".to_owned() };
        let got = get("https://example.com/x".to_owned(), Some(vec![accept])).unwrap();
        let headers = vec![Header { name: "etag".to_owned(), value: "7".to_owned() }];
        assert_eq!(got, Answer { status: 404, headers, text: "no such thing".to_owned(), is_cut: false });
        assert_eq!(testing::requests()[0].headers, [("accept".to_owned(), "text/plain".to_owned())]);
    }

    #[test]
    fn what_is_sent_has_a_type_and_a_method_that_writes() {
        testing::answer(page(201, "{}"));
        send("POST".to_owned(), "https://example.com/".to_owned(), Some("{}".to_owned()), None).unwrap();
        let sent = testing::requests().remove(0);
        assert_eq!((sent.method.as_str(), sent.body.as_slice()), ("POST", &b"{}"[..]));
        assert_eq!(sent.headers, [("content-type".to_owned(), "application/json".to_owned())]);
        assert_eq!(send("GET".to_owned(), "x".to_owned(), None, None).unwrap_err().code, "input.invalid");
    }

    #[test]
    fn a_long_answer_is_cut_and_says_so() {
        testing::answer(page(200, &"ä".repeat(100_001)));
        let got = get("https://example.com/".to_owned(), None).unwrap();
        assert_eq!((got.text.chars().count(), got.is_cut), (100_000, true));
    }
}
