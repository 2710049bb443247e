//! Something that a call might do, as a person asks about it.

use std::fmt;
use std::str::FromStr;

use crate::domain::{Access, Failure, Kind, Method, WebUrl};

/// Something that a call of the tool might do, as a person asks about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `read /data/orders.csv` or `write /out/report.md`, by the path that the guest sees.
    File { access: Access, path: String },
    /// `GET https://api.example.com/v1/orders`.
    Http { method: Method, url: WebUrl },
}

impl FromStr for Request {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let Some((verb, what)) = text.trim().split_once(char::is_whitespace) else {
            return Err(unclear("a request is a verb and what it is about"));
        };
        let what = what.trim();
        match (verb, serde_json::from_value::<Method>(verb.into())) {
            ("read", _) => file(Access::Read, what),
            ("write", _) => file(Access::ReadWrite, what),
            (_, Ok(method)) => what.parse().map(|url| Self::Http { method, url }).map_err(|why: String| unclear(&why)),
            _ => Err(unclear("its verb is neither `read` nor `write` nor a method such as `GET`")),
        }
    }
}

fn file(access: Access, path: &str) -> Result<Request, Failure> {
    let is_plain = |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !path.strip_prefix('/').is_some_and(is_plain) {
        return Err(unclear("its path is not absolute, or has `.`, `..` or an empty part in it"));
    }
    Ok(Request::File { access, path: path.to_owned() })
}

fn unclear(why: &str) -> Failure {
    Failure::new(Kind::DataInput, format!("read the request: {why}"))
        .hint("write it as `read /data/orders.csv`, `write /out/report.md` or `GET https://api.example.com/v1/orders`")
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { access: Access::Read, path } => write!(f, "read {path}"),
            Self::File { access: Access::ReadWrite, path } => write!(f, "write {path}"),
            Self::Http { method, url } => write!(f, "{method} {url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_verb_and_a_plain_path() {
        for text in ["read /data/x.csv", "write /out/a b.md", "GET https://api.example.com/v1?a=b"] {
            assert_eq!(text.parse::<Request>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "read",
            "/data",
            "delete /data/x",
            "read data",
            "read /data/../x",
            "read /data//x",
            "write /",
            "read .",
        ] {
            assert_eq!(text.parse::<Request>().unwrap_err().kind, Kind::DataInput, "{text}");
        }
    }
}
