//! Secrets: found when a call first needs them, put into its requests at the host's edge, and taken out of all that comes
//! back.
//!
//! Promises: a secret is fetched once per process, and only for a call whose grant names it; it goes into no request that
//! its audience does not hold; what leaves a call holds none of the call's secrets, in any encoding that `encodings.rs`
//! lists. A guest holds a placeholder, unless a rule reveals the value. Leaves to others: where a secret is found
//! (`config`), who may have it (`policy`), and which requests may be sent at all (`capabilities`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::{Digest, Failure, Json, Kind, SECRET_PLACEHOLDER, Secret, SecretGrant, WebUrl, secret_placeholder};

mod encodings;
mod inject;
mod scrubber;

pub(super) use inject::{Injected, Refusal};
use scrubber::Patterns;
pub(super) use scrubber::Scrubber;

/// Bytes of the shortest secret that a call may have: a shorter one stands in honest text by chance, and cannot be taken
/// out of it.
const SECRET_BYTES_MIN: usize = 8;

/// Bytes of the longest character.
const CHAR_BYTES_MAX: usize = 4;

pub(super) const PLACEHOLDER: &str = SECRET_PLACEHOLDER;

/// The secrets that rules may name. Cheap to clone; all clones share what was fetched.
#[derive(Clone, Default)]
pub struct Secrets {
    slots: BTreeMap<String, Arc<Slot>>,
}

struct Slot {
    fetch: Box<dyn Fn() -> Result<Secret, Failure> + Send + Sync>,
    /// Tells of the last fetch.
    last: Mutex<watch::Receiver<Fetched>>,
}

/// What a fetch brought; `None` while it is under way.
type Fetched = Option<Result<Secret, Failure>>;

impl Secrets {
    /// Adds the secret `name`. `fetch` is called when a call first needs it, on a thread that may block, and again only
    /// where it failed.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        fetch: impl Fn() -> Result<Secret, Failure> + Send + Sync + 'static,
    ) -> Self {
        // Nobody sends on this channel, so that the first call does not wait for it.
        let (_, last) = watch::channel(None);
        self.slots.insert(name.into(), Arc::new(Slot { fetch: Box::new(fetch), last: Mutex::new(last) }));
        self
    }

    /// Returns whether there is a secret `name`. Fetches nothing.
    pub fn has(&self, name: &str) -> bool {
        self.slots.contains_key(name)
    }

    /// Fetches what `grants` name.
    ///
    /// # Errors
    /// `data.config`, naming the secret: nobody gives it, it is not found, or it is too short to be looked for.
    pub(super) async fn granted(&self, grants: &[SecretGrant]) -> Result<Granted, Failure> {
        let mut granted = Vec::new();
        for grant in grants {
            granted.push((grant.clone(), self.value(&grant.name).await?));
        }
        Ok(Granted::new(granted))
    }

    async fn value(&self, name: &str) -> Result<Secret, Failure> {
        let slot = self.slots.get(name).ok_or_else(|| unknown(name))?;
        let secret = slot.value().await?;
        if secret.expose().len() < SECRET_BYTES_MIN {
            return Err(too_short(name));
        }
        Ok(secret)
    }
}

impl Slot {
    /// Returns the value. All who come while it is fetched get what that one fetch brings, a failure too; who comes after a
    /// failure has it fetched anew.
    async fn value(self: &Arc<Self>) -> Result<Secret, Failure> {
        let mut fetched = self.fetched();
        let result = fetched.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err(Failure::new(Kind::HostBug, "wait for a secret").detail("its fetch broke off")))
    }

    /// Returns where the value is or will be told. Who waits there holds no thread.
    fn fetched(self: &Arc<Self>) -> watch::Receiver<Fetched> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // In this order: what was sent before the sender went is seen.
        let is_under_way = last.has_changed().is_ok();
        let is_usable = last.borrow().as_ref().map_or(is_under_way, Result::is_ok);
        if !is_usable {
            *last = self.begin();
        }
        last.clone()
    }

    /// Begins a fetch. It goes on where no call waits for it any more: a person may be typing a passphrase.
    fn begin(self: &Arc<Self>) -> watch::Receiver<Fetched> {
        let (sender, receiver) = watch::channel(None);
        let slot = self.clone();
        tokio::task::spawn_blocking(move || sender.send_replace(Some((slot.fetch)())));
        receiver
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(Kind::DataConfig, format!("find secret `{name}`: the host has none of this name"))
        .hint(format!("write `{name} = \"env:NAME\"` under `[secrets]` of cofferdam.toml"))
}

fn too_short(name: &str) -> Failure {
    Failure::new(Kind::DataConfig, format!("use secret `{name}`: it has less than {SECRET_BYTES_MIN} bytes"))
        .hint("a text this short stands in honest text by chance, and cannot be taken out of it: use a longer one")
}

/// The secrets of one call.
#[derive(Clone, Default)]
pub(super) struct Granted {
    grants: Vec<(SecretGrant, Secret)>,
    /// `None` where there are no secrets.
    patterns: Option<Arc<Patterns>>,
}

impl Granted {
    /// Makes secrets that stand in for those of a call which is only played back: nobody has them but the guest, and what it
    /// makes of one is no other's.
    pub(super) fn stand_ins(grants: &[SecretGrant]) -> Self {
        let stand_in = |grant: &SecretGrant| {
            let value = Digest::of_parts(&[b"stand-in", grant.name.as_bytes()]).to_string();
            Some((grant.clone(), Secret::new(value).ok()?))
        };
        Self::new(grants.iter().filter_map(stand_in).collect())
    }

    fn new(grants: Vec<(SecretGrant, Secret)>) -> Self {
        let named = || grants.iter().map(|(grant, secret)| (grant.name.as_str(), secret));
        let patterns = (!grants.is_empty()).then(|| Arc::new(Patterns::new(named())));
        Self { grants, patterns }
    }

    /// Returns whether the call has no secrets.
    pub(super) fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Returns the variables that hold placeholders, or values where a rule reveals them.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, String)> {
        self.grants.iter().filter_map(|(grant, secret)| {
            let text = if grant.reveal { secret.expose().to_owned() } else { secret_placeholder(&grant.name) };
            Some((grant.env.as_deref()?, text))
        })
    }

    /// Returns the secrets that the guest itself must not send to `url`: all but those that a rule reveals to it for there.
    pub(super) fn withheld(&self, url: &WebUrl) -> Self {
        let is_its_own = |grant: &SecretGrant| grant.reveal && grant.to.iter().any(|pattern| pattern.matches(url));
        if !self.grants.iter().any(|(grant, _)| is_its_own(grant)) {
            return self.clone();
        }
        let own: BTreeSet<&str> =
            self.grants.iter().filter(|(grant, _)| is_its_own(grant)).map(|(grant, _)| grant.name.as_str()).collect();
        let grants: Vec<_> =
            self.grants.iter().filter(|(grant, _)| !own.contains(grant.name.as_str())).cloned().collect();
        let patterns = self.patterns.as_ref().filter(|_| !grants.is_empty());
        Self { patterns: patterns.map(|patterns| Arc::new(patterns.without(&own))), grants }
    }

    /// Returns what takes the secrets out of a stream.
    pub(super) fn scrubber(&self) -> Scrubber {
        Scrubber::new(self.patterns.clone())
    }

    /// Returns the name of a secret whose value stands in `bytes`, in any encoding.
    pub(super) fn contained(&self, bytes: &[u8]) -> Option<&str> {
        self.patterns.as_ref()?.contained(bytes)
    }

    /// Returns how many bytes of a text [`Granted::head`] wants to see, one of them to know that there are more.
    pub(super) fn head_bytes(&self, chars_max: usize) -> usize {
        chars_max.saturating_mul(CHAR_BYTES_MAX).saturating_add(2 * self.scrubber().reach()).saturating_add(1)
    }

    /// Returns `text` without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        if self.is_clean(text) {
            return text.to_owned();
        }
        let clean = self.scrubber().whole(text.as_bytes());
        String::from_utf8(clean).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Returns the first `chars_max` characters of `text` without secrets. Looks at no more of it than decides about them.
    pub(super) fn head(&self, text: &str, chars_max: usize) -> String {
        let clean = self.scrubber().head(text.as_bytes(), chars_max.saturating_mul(CHAR_BYTES_MAX));
        // Secrets are ASCII, so only the last character may have been cut.
        let whole = match str::from_utf8(&clean) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&clean[..error.valid_up_to()]).unwrap_or_default(),
        };
        whole.chars().take(chars_max).collect()
    }

    /// Returns whether `text` holds no secret, as is seen at once.
    fn is_clean(&self, text: &str) -> bool {
        self.patterns.as_ref().is_none_or(|patterns| patterns.is_too_short(text.as_bytes()))
    }

    /// Returns `value` without secrets: in its strings, its keys, and in numbers, whose digits may be one.
    pub(super) fn json(&self, value: Json) -> Json {
        if self.patterns.is_none() {
            return value;
        }
        match value {
            Json::String(text) if self.is_clean(&text) => Json::String(text),
            Json::String(text) => self.text(&text).into(),
            Json::Number(number) => {
                let text = number.to_string();
                if self.is_clean(&text) {
                    return Json::Number(number);
                }
                let clean = self.text(&text);
                if text == clean { Json::Number(number) } else { clean.into() }
            }
            Json::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Json::Object(fields) => {
                fields.into_iter().map(|(key, field)| (self.text(&key), self.json(field))).collect()
            }
            Json::Null | Json::Bool(_) => value,
        }
    }

    /// Returns `failure` without secrets.
    pub(super) fn failure(&self, failure: Failure) -> Failure {
        if self.patterns.is_none() {
            return failure;
        }
        let clean = |text: Option<String>| text.map(|text| self.text(&text));
        Failure {
            kind: failure.kind,
            message: self.text(&failure.message),
            hint: clean(failure.hint),
            detail: clean(failure.detail),
            declared: clean(failure.declared),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;

    pub(in crate::sandbox) const VALUE: &str = "hunter2+/\"swordfish\"";

    pub(in crate::sandbox) fn grant(name: &str, to: &str) -> SecretGrant {
        SecretGrant {
            name: name.into(),
            to: vec![to.parse().expect("it is a pattern")],
            header: None,
            value: "{secret}".into(),
            env: None,
            reveal: false,
            rule: "web".into(),
        }
    }

    pub(in crate::sandbox) fn granted(grants: Vec<SecretGrant>) -> Granted {
        let secret = Secret::new(VALUE).expect("it is a secret");
        Granted::new(grants.into_iter().map(|grant| (grant, secret.clone())).collect())
    }

    pub(in crate::sandbox) fn granted_value(grant: SecretGrant, value: &str) -> Granted {
        Granted::new(vec![(grant, Secret::new(value).expect("it is a secret"))])
    }

    #[tokio::test]
    async fn a_secret_is_fetched_when_it_is_needed_and_once() {
        let fetched = Arc::new(AtomicU32::new(0));
        let count = fetched.clone();
        let secrets = Secrets::default().with("a", move || {
            // The first time the store is locked.
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Failure::new(Kind::DataConfig, "find secret `a`")),
                _ => Secret::new(VALUE),
            }
        });
        assert!(secrets.has("a") && !secrets.has("b"));
        secrets.granted(&[]).await.expect("nothing is needed");
        assert_eq!(fetched.load(Ordering::SeqCst), 0);
        let grants = [grant("a", "https://a.example/*")];
        secrets.granted(&grants).await.map(drop).expect_err("it is not found");
        let clone = secrets.clone();
        let (one, other) = tokio::join!(secrets.granted(&grants), clone.granted(&grants));
        assert!(one.is_ok() && other.is_ok());
        secrets.granted(&grants).await.expect("it is there");
        assert_eq!(fetched.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn all_who_wait_share_one_fetch_and_its_failure() {
        let (fetched, threads) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(BTreeSet::new())));
        let (count, seen) = (fetched.clone(), threads.clone());
        // It ends when the test says so, and fails the first time.
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let opened = Mutex::new(opened);
        let secrets = Secrets::default().with("a", move || {
            seen.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
            opened.lock().unwrap().recv().expect("the test goes on");
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Failure::new(Kind::DataConfig, "find secret `a`")),
                _ => Secret::new(VALUE),
            }
        });
        let waiting = Arc::new(AtomicU32::new(0));
        let waiter = || {
            let (secrets, waiting) = (secrets.clone(), waiting.clone());
            tokio::spawn(async move {
                waiting.fetch_add(1, Ordering::SeqCst);
                secrets.granted(&[grant("a", "https://a.example/")]).await.map(drop)
            })
        };
        for (fetches, is_found) in [(1, false), (2, true)] {
            let waiters: Vec<_> = (0..100).map(|_| waiter()).collect();
            // One thread runs this test, so whoever has counted itself waits.
            while waiting.load(Ordering::SeqCst) < 100 * fetches {
                tokio::task::yield_now().await;
            }
            open.send(()).expect("a fetch waits");
            for waiter in waiters {
                let result = waiter.await.expect("it does not panic");
                assert_eq!(
                    result.map_err(|failure| failure.kind),
                    if is_found { Ok(()) } else { Err(Kind::DataConfig) }
                );
            }
            assert_eq!(fetched.load(Ordering::SeqCst), fetches);
        }
        assert!(threads.lock().unwrap().len() <= 2, "a thread for each fetch at most");
    }

    #[tokio::test]
    async fn a_fetch_that_nobody_waits_for_any_more_serves_the_next_call() {
        let fetched = Arc::new(AtomicU32::new(0));
        let (count, (open, opened)) = (fetched.clone(), std::sync::mpsc::channel::<()>());
        let opened = Mutex::new(opened);
        let secrets = Secrets::default().with("a", move || {
            count.fetch_add(1, Ordering::SeqCst);
            opened.lock().unwrap().recv().expect("the test goes on");
            Secret::new(VALUE)
        });
        let grants = [grant("a", "https://a.example/")];
        for _ in 0..50 {
            tokio::select! {
                biased;
                _ = secrets.granted(&grants) => panic!("nobody opened it"),
                () = tokio::task::yield_now() => {}
            }
        }
        open.send(()).expect("a fetch waits");
        secrets.granted(&grants).await.expect("it is there");
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_fetch_that_panics_is_a_failure_and_tried_again() {
        let fetched = AtomicU32::new(0);
        let secrets = Secrets::default().with("a", move || {
            assert_ne!(fetched.fetch_add(1, Ordering::SeqCst), 0, "the first time");
            Secret::new(VALUE)
        });
        let grants = [grant("a", "https://a.example/")];
        let failure = secrets.granted(&grants).await.map(drop).expect_err("it panicked");
        assert_eq!(failure.kind, Kind::HostBug);
        secrets.granted(&grants).await.expect("it is there");
    }

    #[tokio::test]
    async fn what_is_not_there_or_too_short_is_told_by_name() {
        let secrets = Secrets::default().with("pin", || Secret::new("1234567"));
        for (name, what) in [("pin", "less than 8 bytes"), ("none", "has none of this name")] {
            let failure = secrets.granted(&[grant(name, "https://a.example/")]).await.map(drop).expect_err(name);
            assert_eq!(failure.kind, Kind::DataConfig);
            assert!(failure.message.contains(what) && failure.message.contains(name), "{failure}");
            assert!(!format!("{failure:?}").contains("1234567"));
        }
    }

    #[test]
    fn a_variable_holds_the_placeholder_or_what_is_revealed() {
        let named =
            |name: &str, reveal| SecretGrant { env: Some(name.into()), reveal, ..grant("a", "https://a.example/") };
        let granted = granted(vec![named("HIDDEN", false), named("SHOWN", true), grant("a", "https://a.example/")]);
        let variables: Vec<_> = granted.variables().collect();
        assert_eq!(variables, [("HIDDEN", "cofferdam-secret-a".to_owned()), ("SHOWN", VALUE.to_owned())]);
    }

    #[test]
    fn g6_a_failure_and_a_result_lose_it_in_every_part() {
        let granted = granted(vec![grant("a", "https://a.example/")]);
        let url = "https://a.example/?key=hunter2%2B%2F%22swordfish%22&x=1";
        let failure = Failure::new(Kind::NetworkTimeout, format!("reach {url}")).hint(url).detail(url);
        let failure = granted.failure(Failure { declared: Some(url.into()), ..failure });
        let clean = "https://a.example/?key=[secret:a]&x=1";
        assert_eq!(failure.message, format!("reach {clean}"));
        assert_eq!([failure.hint, failure.detail, failure.declared], [(); 3].map(|()| Some(clean.to_owned())));
        let value = json!({VALUE: [VALUE, {"in": format!("<{VALUE}>")}], "n": 7, "none": null});
        assert_eq!(
            granted.json(value),
            json!({"[secret:a]": ["[secret:a]", {"in": "<[secret:a]>"}], "n": 7, "none": null})
        );
        let pin = Granted::new(vec![(grant("pin", "https://a.example/"), Secret::new("73556082").unwrap())]);
        assert_eq!(pin.json(json!([73_556_082, 1])), json!(["[secret:pin]", 1]));
    }

    #[test]
    fn what_is_revealed_for_a_place_is_not_withheld_there() {
        let revealed = |name: &str, to: &str| SecretGrant { reveal: true, ..grant(name, to) };
        let granted = Granted::new(vec![
            (revealed("own", "https://a.example/*"), Secret::new("swordfish").unwrap()),
            (grant("other", "https://a.example/*"), Secret::new("fishmonger").unwrap()),
        ]);
        let url = |text: &str| text.parse::<WebUrl>().expect("it is a URL");
        let found =
            |place: &str, text: &str| granted.withheld(&url(place)).contained(text.as_bytes()).map(str::to_owned);
        assert_eq!(found("https://a.example/", "swordfish"), None);
        assert_eq!(found("https://a.example/", "fishmonger").as_deref(), Some("other"));
        assert_eq!(found("https://b.example/", "swordfish").as_deref(), Some("own"));
        let alone = Granted::new(vec![(revealed("own", "https://a.example/*"), Secret::new("swordfish").unwrap())]);
        assert!(alone.withheld(&url("https://a.example/")).is_empty());
        assert_eq!(alone.withheld(&url("https://a.example/")).text("swordfish"), "swordfish");
    }

    #[test]
    fn the_head_of_a_text_has_no_secret_and_no_half_of_one() {
        let granted = granted(vec![grant("a", "https://a.example/")]);
        let url = "https://a.example/?key=hunter2%2B%2F%22swordfish%22&x=1";
        assert_eq!(granted.head(url, 200), "https://a.example/?key=[secret:a]&x=1");
        assert_eq!(granted.head(url, 30), "https://a.example/?key=[secret");
        // However far the marks are shorter than what they stand for, and wherever the look ends.
        let escaped: String = VALUE.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        for before in 0..200 {
            let text = format!("{}{}", "€".repeat(before), escaped.repeat(2_000));
            let head = granted.head(&text, 200);
            assert!(!head.contains('\\') && head.chars().count() <= 200, "{before}: {head}");
            assert!(head.starts_with(&"€".repeat(before)) && !head.contains('\u{fffd}'), "{before}: {head}");
        }
        assert_eq!(granted.head(&"€".repeat(100_000), 200), "€".repeat(200));
        assert_eq!(Granted::default().head(&"€".repeat(100_000), 200), "€".repeat(200));
    }

    #[test]
    fn without_secrets_nothing_changes() {
        let none = Granted::default();
        assert_eq!((none.text(VALUE), none.json(json!(VALUE))), (VALUE.to_owned(), json!(VALUE)));
        assert_eq!((none.contained(VALUE.as_bytes()), none.variables().count()), (None, 0));
        assert_eq!(none.scrubber().push(VALUE.as_bytes()), VALUE.as_bytes());
    }
}
