//! Puts secrets into the headers of one request, as late as can be: after policy allowed it, before it is sent.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{Granted, PLACEHOLDER};
use crate::domain::{Secret, SecretGrant, WebUrl, is_secret_name_byte, secret_placeholder};

/// What went into a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sandbox) struct Injected {
    /// Names of the secrets. A connection that carried them serves only requests with the same.
    pub(in crate::sandbox) names: BTreeSet<String>,
}

/// Why a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Refusal {
    /// The short code, for the receipt.
    pub(in crate::sandbox) code: &'static str,
    /// For the receipt and the guest. Names secrets, and holds none.
    pub(in crate::sandbox) what: String,
}

fn refused<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code: "denied.secret", what: what.into() })
}

impl Granted {
    /// Sets the headers that grants name, and replaces the placeholders in the guest's own. For each hop of a redirect it
    /// is called anew with the headers that the *guest* set: what was injected for one place is never taken to another.
    ///
    /// # Errors
    /// Nothing may be sent, and `headers` are as they were: a placeholder of a secret that is not granted, whose audience
    /// is another, or that stands where none is replaced (in the URL, in a header's name); a header that the guest and a
    /// grant both set.
    pub(in crate::sandbox) fn inject(&self, url: &WebUrl, headers: &mut HeaderMap) -> Result<Injected, Refusal> {
        if let Some(name) = named(&url.to_string()).first() {
            return refused(format!("secret `{name}` in a URL: it goes into headers only"));
        }
        if let Some(header) = headers.keys().find(|header| header.as_str().contains(PLACEHOLDER)) {
            return refused(format!("header `{header}`: a placeholder is no header's name"));
        }
        let mut injected = Injected::default();
        let own = self.replaced(url, headers, &mut injected)?;
        let given = self.given(url, headers, &mut injected)?;
        for (value, secret) in headers.values_mut().zip(own) {
            if let Some(secret) = secret {
                *value = secret;
            }
        }
        headers.extend(given.into_iter().map(|(name, value)| (Some(name), value)));
        Ok(injected)
    }

    /// Returns for each value of `headers` what it becomes, where it holds placeholders.
    fn replaced(
        &self,
        url: &WebUrl,
        headers: &HeaderMap,
        injected: &mut Injected,
    ) -> Result<Vec<Option<HeaderValue>>, Refusal> {
        let replace = |value: &HeaderValue| {
            let text = String::from_utf8_lossy(value.as_bytes());
            let names = named(&text);
            if names.is_empty() {
                return Ok(None);
            }
            let mut text = Zeroizing::new(text.into_owned());
            // Longer names first: one may begin with another.
            for name in names.into_iter().rev() {
                let secret = self.for_place(&name, url)?;
                text = Zeroizing::new(text.replace(&secret_placeholder(&name), secret.expose()));
                injected.names.insert(name);
            }
            sensitive(&text).map(Some)
        };
        headers.values().map(replace).collect()
    }

    /// Returns the headers that grants set for `url`.
    fn given(
        &self,
        url: &WebUrl,
        headers: &HeaderMap,
        injected: &mut Injected,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let mut given: Vec<(HeaderName, HeaderValue, &SecretGrant)> = Vec::new();
        for (grant, secret) in self.grants.iter().filter(|(grant, _)| is_for(grant, url)) {
            let Some(header) = &grant.header else { continue };
            let Ok(name) = HeaderName::from_bytes(header.as_bytes()) else {
                return refused(format!("rule `{}`: `{header}` is no header", grant.rule));
            };
            if headers.contains_key(&name) {
                return refused(format!("header `{name}`: rule `{}` sets it, so the tool must not", grant.rule));
            }
            let value = sensitive(&Zeroizing::new(grant.value.replace("{secret}", secret.expose())))?;
            match given.iter().find(|(known, ..)| *known == name) {
                Some((_, known, _)) if *known == value => continue,
                Some((.., other)) => {
                    return refused(format!(
                        "header `{name}`: rules `{}` and `{}` set it differently",
                        other.rule, grant.rule
                    ));
                }
                None => given.push((name, value, grant)),
            }
            injected.names.insert(grant.name.clone());
        }
        Ok(given.into_iter().map(|(name, value, _)| (name, value)).collect())
    }

    /// Returns the secret `name`, if it may go to `url`.
    fn for_place(&self, name: &str, url: &WebUrl) -> Result<&Secret, Refusal> {
        let mut grants = self.grants.iter().filter(|(grant, _)| grant.name == name).peekable();
        if grants.peek().is_none() {
            return refused(format!("secret `{name}`: no rule gives it to this tool"));
        }
        match grants.find(|(grant, _)| is_for(grant, url)) {
            Some((_, secret)) => Ok(secret),
            None => refused(format!("secret `{name}` to {}: its audience is another", url.origin())),
        }
    }
}

fn is_for(grant: &SecretGrant, url: &WebUrl) -> bool {
    grant.to.iter().any(|pattern| pattern.matches(url))
}

/// A value that prints as `Sensitive`.
fn sensitive(text: &str) -> Result<HeaderValue, Refusal> {
    let value = HeaderValue::from_bytes(text.as_bytes());
    let mut value = value.or_else(|_| refused("a header's value with a placeholder: it cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the names of the secrets whose placeholders stand in `text`, sorted. A name goes on as far as it can.
fn named(text: &str) -> BTreeSet<String> {
    let after = text.split(PLACEHOLDER).skip(1);
    let name = |rest: &str| rest.bytes().take_while(|byte| is_secret_name_byte(*byte)).map(char::from).collect();
    after.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{VALUE, grant, granted};
    use super::*;

    fn url(text: &str) -> WebUrl {
        text.parse().expect("it is a URL")
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("it is a value")))
            .collect()
    }

    fn bearer(name: &str, to: &str) -> SecretGrant {
        SecretGrant { header: Some("authorization".into()), value: "Bearer {secret}".into(), ..grant(name, to) }
    }

    /// Expects that nothing is sent, and that nothing of a secret is in the headers or in what is told.
    #[track_caller]
    fn refused(granted: &Granted, to: &str, lines: &[(&'static str, &str)], expected: &str) {
        let mut changed = headers(lines);
        let refusal = granted.inject(&url(to), &mut changed).expect_err("it is refused");
        assert!(refusal.code == "denied.secret" && refusal.what.contains(expected), "{refusal:?}");
        assert_eq!(changed, headers(lines), "the headers are as they were");
        assert!(!refusal.what.contains("hunter2"), "{refusal:?}");
    }

    #[test]
    fn a_header_is_set_for_the_audience_and_for_nobody_else() {
        let granted = granted(vec![bearer("a", "https://a.example/v1/*")]);
        let mut sent = headers(&[("accept", "*/*")]);
        let injected = granted.inject(&url("https://a.example/v1/x"), &mut sent).expect("it is sent");
        assert_eq!(injected.names, BTreeSet::from(["a".to_owned()]));
        assert_eq!(sent["authorization"], format!("Bearer {VALUE}"));
        assert!(!format!("{sent:?}").contains("hunter2"), "{sent:?}");
        for other in
            ["http://a.example/v1/x", "https://a.example/v2", "https://b.example/v1/x", "https://a.example:8443/v1/x"]
        {
            let mut sent = headers(&[("accept", "*/*")]);
            assert_eq!(granted.inject(&url(other), &mut sent), Ok(Injected::default()), "{other}");
            assert_eq!(sent.len(), 1, "{other}");
        }
    }

    #[test]
    fn a_placeholder_is_replaced_in_every_value_of_every_header() {
        let granted = granted(vec![grant("a", "https://a.example/*"), grant("a-2", "https://a.example/*")]);
        let mut sent = headers(&[("x-key", "cofferdam-secret-a"), ("x-plain", "cofferdam")]);
        sent.append("x-key", HeaderValue::from_static("<cofferdam-secret-a-2>, cofferdam-secret-a"));
        let injected = granted.inject(&url("https://a.example/"), &mut sent).expect("it is sent");
        assert_eq!(injected.names.len(), 2);
        let values: Vec<_> = sent.get_all("x-key").iter().collect();
        assert_eq!(values, [VALUE, format!("<{VALUE}>, {VALUE}").as_str()]);
        assert_eq!(sent["x-plain"], "cofferdam");
    }

    #[test]
    fn g2_a_secret_that_was_not_granted_is_refused() {
        let granted = granted(vec![grant("a", "https://a.example/*")]);
        for (name, value) in
            [("x-key", "cofferdam-secret-b"), ("x-key", "cofferdam-secret-"), ("x-key", "cofferdam-secret-ab")]
        {
            refused(&granted, "https://a.example/", &[(name, value)], "no rule gives it");
        }
        refused(&Granted::default(), "https://a.example/", &[("x-key", "cofferdam-secret-a")], "no rule gives it");
        refused(&granted, "https://a.example/", &[("cofferdam-secret-a", "x")], "no header's name");
    }

    #[test]
    fn g3_a_placeholder_goes_to_its_audience_only_after_a_redirect_too() {
        let granted = granted(vec![grant("a", "https://a.example/*"), bearer("b", "https://a.example/*")]);
        let own = [("x-key", "cofferdam-secret-a")];
        let mut sent = headers(&own);
        granted.inject(&url("https://a.example/"), &mut sent).expect("the first hop is sent");
        refused(&granted, "https://evil.example/", &own, "its audience is another");
        refused(&granted, "http://a.example/", &own, "its audience is another");
        refused(&granted, "https://a.example/?key=cofferdam-secret-a", &[], "headers only");
        refused(&granted, "https://a.example/cofferdam-secret-a", &[], "headers only");
        // What was injected for the first is not among the guest's own headers of the second.
        let mut second = headers(&[("accept", "*/*")]);
        granted.inject(&url("https://evil.example/"), &mut second).expect("nothing secret is asked for");
        assert_eq!(second.len(), 1);
    }

    #[test]
    fn a_header_has_one_source() {
        let granted = granted(vec![bearer("a", "https://a.example/*")]);
        for own in ["Bearer mine", "Bearer cofferdam-secret-a"] {
            refused(&granted, "https://a.example/", &[("authorization", own)], "the tool must not");
        }
        let twice =
            super::super::tests::granted(vec![bearer("a", "https://a.example/*"), bearer("a", "https://a.example/*")]);
        let mut sent = HeaderMap::new();
        twice.inject(&url("https://a.example/"), &mut sent).expect("both say the same");
        assert_eq!(sent.get_all("authorization").iter().count(), 1);
        let plain = SecretGrant { value: "{secret}".into(), ..bearer("b", "https://a.example/*") };
        let two = super::super::tests::granted(vec![bearer("a", "https://a.example/*"), plain]);
        refused(&two, "https://a.example/", &[], "differently");
    }

    #[test]
    fn g4_an_echo_of_the_injected_header_is_scrubbed() {
        let granted = granted(vec![bearer("a", "https://a.example/*")]);
        let mut sent = HeaderMap::new();
        granted.inject(&url("https://a.example/"), &mut sent).expect("it is sent");
        let echo = format!("you sent {}", sent["authorization"].to_str().expect("it is text"));
        assert_eq!(granted.text(&echo), "you sent Bearer [secret:a]");
        assert_eq!(granted.contained(echo.as_bytes()), Some("a"));
        // A server that means to tell can: this is a documented limit.
        let reversed: String = VALUE.chars().rev().collect();
        assert_eq!(granted.text(&reversed), reversed);
    }
}
