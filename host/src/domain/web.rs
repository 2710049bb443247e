//! Where a request goes, in one canonical form: what is compared is what is sent.
//!
//! Promises: two spellings of one place are equal here, and what has no safe single reading is refused. Leaves to
//! others: names to addresses, and which addresses may be reached (`sandbox`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Bytes of a URL: servers take 8 KiB.
pub const URL_BYTES_MAX: usize = 8 << 10;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// Returns whether it changes nothing, by its definition (RFC 9110, section 9.2.1).
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Returns its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two schemes that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebScheme {
    Http,
    Https,
}

impl WebScheme {
    /// Returns the port that a URL without one means.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A host as one name or one address: lower case, punycode, without a last dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebHost {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for WebHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A URL that has one reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebUrl {
    pub scheme: WebScheme,
    pub host: WebHost,
    pub port: u16,
    /// Begins with `/`; dot segments are resolved.
    pub path: String,
    pub query: Option<String>,
}

/// Where requests may go: `https://api.example.com/v1/*`. A host's first label may be `*`, which stands for one label;
/// a path may end in `/*`, which stands for all below.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebPattern {
    scheme: WebScheme,
    /// Whether one more label stands before the host's name.
    any_label: bool,
    host: WebHost,
    port: u16,
    /// Without the last `*`.
    path: String,
    is_prefix: bool,
}

impl WebUrl {
    /// Returns scheme, host and port as a browser writes an origin.
    pub fn origin(&self) -> String {
        let port = if self.port == self.scheme.port() { String::new() } else { format!(":{}", self.port) };
        format!("{}://{}{port}", self.scheme.name(), self.host)
    }

    /// Returns the server, by which breakers and retries know it: `scheme://host:port`.
    pub fn upstream(&self) -> String {
        format!("{}://{}:{}", self.scheme.name(), self.host, self.port)
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

impl FromStr for WebUrl {
    type Err = String;

    /// Reads a URL as a browser would, and refuses what a server might read otherwise.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("a URL of {} bytes: at most {URL_BYTES_MAX}", text.len()));
        }
        // The parser strips or folds these without a word.
        if text.chars().any(|c| c <= ' ' || c == '\\' || c == '\u{7f}') {
            return Err("a URL has no spaces, control characters or backslashes".into());
        }
        let url = Url::parse(text).map_err(|e| format!("a URL is like `https://api.example.com/v1`: {e}"))?;
        let scheme = match url.scheme() {
            "http" => WebScheme::Http,
            "https" => WebScheme::Https,
            other => return Err(format!("a URL's scheme is `https` or `http`, not `{other}`")),
        };
        if authority(text).contains('@') {
            return Err("a URL holds no user name or password".into());
        }
        if text.contains('#') {
            return Err("a URL holds no fragment".into());
        }
        let host = host(url.host().ok_or("a URL names a host")?)?;
        let port = url.port().unwrap_or(scheme.port());
        Ok(Self { scheme, host, port, path: path(url.path())?, query: url.query().map(str::to_owned) })
    }
}

/// What stands between `//` and the path.
fn authority(text: &str) -> &str {
    let rest = text.split_once(':').map_or(text, |(_, rest)| rest).trim_start_matches('/');
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn host(host: Host<&str>) -> Result<WebHost, String> {
    match host {
        Host::Ipv4(address) => Ok(WebHost::Address(address.into())),
        Host::Ipv6(address) => Ok(WebHost::Address(address.into())),
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let is_label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            };
            if name.len() > 253 || !name.split('.').all(is_label) {
                return Err("a host is a name like `api.example.com`, or an address".into());
            }
            Ok(WebHost::Name(name.to_owned()))
        }
    }
}

/// The path with each octet written in one way.
fn path(text: &str) -> Result<String, String> {
    let segments: Vec<&str> = text.strip_prefix('/').unwrap_or(text).split('/').collect();
    let mut path = String::new();
    for (n, segment) in segments.iter().enumerate() {
        let is_last = n + 1 == segments.len();
        if segment.is_empty() && !is_last {
            return Err("a URL's path has no empty segments (`//`)".into());
        }
        path.push('/');
        path.push_str(&self::segment(segment)?);
    }
    Ok(path)
}

fn segment(text: &str) -> Result<String, String> {
    let unclear = || format!("a URL's path has one reading: `{text}` has several");
    let octets = decoded(text).ok_or_else(unclear)?;
    // Some servers read octets that are no UTF-8 as if they were: overlong dots as dots.
    let lower = std::str::from_utf8(&octets).map_err(|_| unclear())?.to_ascii_lowercase();
    let has_second_reading = ["%2e", "%2f", "%5c", "%00"].iter().any(|escape| lower.contains(escape));
    // Some servers cut a segment at `;`.
    let name = lower.split(';').next().unwrap_or_default();
    let is_dots = matches!(name, "." | "..");
    if has_second_reading || is_dots || octets.iter().any(|b| matches!(b, b'/' | b'\\' | 0..=0x1f | 0x7f)) {
        return Err(unclear());
    }
    Ok(octets.iter().map(|b| encoded(*b)).collect())
}

/// Undoes percent-encoding once.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            octets.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let value = digit()? * 16 + digit()?;
        octets.push(u8::try_from(value).ok()?);
    }
    Some(octets)
}

/// An octet as a path writes it (RFC 3986, `pchar`), but for `*`, which means more than itself in a pattern.
fn encoded(octet: u8) -> String {
    let is_plain = octet.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&octet);
    if is_plain { char::from(octet).to_string() } else { format!("%{octet:02X}") }
}

impl WebPattern {
    /// Returns scheme, host and port, all written out: `https://*.example.com:443`.
    pub fn server(&self) -> String {
        let label = if self.any_label { "*." } else { "" };
        format!("{}://{label}{}:{}", self.scheme.name(), self.host, self.port)
    }

    /// Returns whether requests to `url` are meant.
    pub fn matches(&self, url: &WebUrl) -> bool {
        let is_place = self.scheme == url.scheme && self.port == url.port && self.is_host(&url.host);
        is_place && if self.is_prefix { url.path.starts_with(&self.path) } else { url.path == self.path }
    }

    fn is_host(&self, host: &WebHost) -> bool {
        match (self.any_label, &self.host, host) {
            (true, WebHost::Name(parent), WebHost::Name(name)) => {
                name.split_once('.').is_some_and(|(_, rest)| rest == parent)
            }
            (true, ..) => false,
            (false, expected, found) => expected == found,
        }
    }
}

impl FromStr for WebPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_prefix, rest) = match text.strip_suffix("/*") {
            Some(rest) => (true, format!("{rest}/")),
            None => (false, text.to_owned()),
        };
        let (any_label, rest) = match rest.split_once("://*.") {
            Some((scheme, rest)) => (true, format!("{scheme}://{rest}")),
            None => (false, rest),
        };
        if rest.contains(['*', '?']) {
            return Err("`*` stands for the first label of a host (`https://*.example.com/`) or all below a path (`/v1/*`), and nowhere else; a query cannot be part of it".into());
        }
        let url: WebUrl = rest.parse()?;
        let has_parent = matches!(&url.host, WebHost::Name(name) if name.contains('.'));
        if any_label && !has_parent {
            return Err("`*.` stands before a name of two labels or more".into());
        }
        let WebUrl { scheme, host, port, path, .. } = url;
        Ok(Self { scheme, any_label, host, port, path, is_prefix })
    }
}

impl TryFrom<String> for WebPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for WebPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = if self.port == self.scheme.port() { String::new() } else { format!(":{}", self.port) };
        let label = if self.any_label { "*." } else { "" };
        let star = if self.is_prefix { "*" } else { "" };
        write!(f, "{}://{label}{}{port}{}{star}", self.scheme.name(), self.host, self.path)
    }
}

impl From<WebPattern> for String {
    fn from(pattern: WebPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn allowed(pattern: &str, urls: &[&str]) {
        let pattern: WebPattern = pattern.parse().unwrap();
        for url in urls {
            assert!(pattern.matches(&url.parse().unwrap()), "{url}");
        }
    }

    #[track_caller]
    fn refused(pattern: &str, urls: &[&str]) {
        let pattern: WebPattern = pattern.parse().unwrap();
        for url in urls {
            assert!(!url.parse::<WebUrl>().is_ok_and(|url| pattern.matches(&url)), "{url}");
        }
    }

    #[test]
    fn spellings_of_one_place_are_one_place() {
        let spellings = [
            "https://API.Example.com/v1/users",
            "https://api.example.com:443/v1/users",
            "https://api.example.com./v1/users",
            "https://api.example.com/v1/./x/../users",
            "https://api.example.com/%76%31/users",
            "https://ａｐｉ．example.com/v1/users",
        ];
        allowed("https://api.example.com/v1/*", &spellings);
        for spelling in spellings {
            assert_eq!(spelling.parse::<WebUrl>().unwrap().to_string(), "https://api.example.com/v1/users");
        }
        allowed("http://127.0.0.1/", &["http://127.1/", "http://2130706433", "http://0x7f.1/", "http://017700000001/"]);
    }

    #[test]
    fn another_scheme_port_path_or_host_is_another_place() {
        refused(
            "https://allowed.com/v1/*",
            &[
                "http://allowed.com/v1/x",
                "https://allowed.com:8443/v1/x",
                "https://allowed.com/v1",
                "https://allowed.com/v11/x",
                "https://allowed.com/v1/../admin",
                "https://allowed.com/v1/%2e%2e/admin",
                "https://allowed.com/v1/..%2fadmin",
                "https://allowed.com/v1/..;/admin",
                "https://allowed.com/v1/%252e%252e/admin",
                "https://allowed.com/v1//evil",
                "https://allowed.com/v1/%c0%ae%c0%ae/admin",
                "https://allowed.com/v1/%e0%80%af",
                "https://allowed.com/v1/%ff",
                "https://allowed.com//v1/x",
                "https://allowed.com\\v1\\x",
                "https://allowed.com.evil.com/v1/x",
                "https://allowed.com@evil.com/v1/x",
                "https://user@allowed.com/v1/x",
                "https://@allowed.com/v1/x",
                "https://evil.com#allowed.com/v1/x",
                "https://allowed.com/v1/x#part",
                "https://аllowed.com/v1/x",
                "https://xn--llowed-4ye.com/v1/x",
                "https://sub.allowed.com/v1/x",
                "https://allowed.com/v1/\tx",
                "file:///v1/x",
            ],
        );
    }

    #[test]
    fn a_star_is_one_label_or_all_below_a_path() {
        allowed("https://*.example.com/*", &["https://a.example.com/", "https://b.example.com/x/y?z"]);
        refused("https://*.example.com/*", &["https://example.com/", "https://secret.a.example.com/"]);
        allowed("https://example.com", &["https://example.com/", "https://example.com/?q=1"]);
        refused("https://example.com/v1", &["https://example.com/v1/", "https://example.com/"]);
        for wrong in ["*", "https://*/", "https://*.com/", "https://a*.example.com/", "https://x.com/*/y", "x.com/*"] {
            assert!(wrong.parse::<WebPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_reads_back_what_it_writes() {
        for text in [
            "https://*.example.com:8443/v1/*",
            "http://[::1]:8080/",
            "https://example.com/a%20b",
            "https://example.com/v1/%2A",
            "https://example.com/v1/%2A/*",
            "https://example.com/%E6%BD%AE",
        ] {
            let pattern: WebPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string().parse::<WebPattern>().unwrap(), pattern);
            assert_eq!(pattern.to_string(), text);
        }
        // A star of a URL is a name, not a pattern.
        let star: WebUrl = "https://example.com/v1/*".parse().unwrap();
        assert_eq!(star.to_string(), "https://example.com/v1/%2A");
        allowed(&star.to_string(), &["https://example.com/v1/*", "https://example.com/v1/%2a"]);
        refused(&star.to_string(), &["https://example.com/v1/x", "https://example.com/v1/"]);
    }
}
