//! What a played call does: part of its arguments, so that it is the same whenever the call is made. `b3-w2-f1-l1` writes
//! twice, fails once before and has the answer to its last write lost once.

/// What a call does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub writes: u32,
    /// Times that it fails, in a way that passes, before it writes.
    pub failures: u32,
    /// Times that the answer to its last write is lost.
    pub losses: u32,
    /// It fails for good before it writes.
    pub is_fatal: bool,
    /// Nobody can tell afterwards what became of it.
    pub is_dark: bool,
    /// It cannot be taken back.
    pub is_kept: bool,
    /// Whoever is asked what became of it cannot say anything at all.
    pub is_mute: bool,
    /// Its server is that of all others of its kind.
    pub is_shared: bool,
}

impl Script {
    pub fn of(text: &str) -> Self {
        let last = text.rsplit('/').next().unwrap_or_default();
        let mut parts = last.split('-');
        let mut script = Self { name: parts.next().unwrap_or_default().to_owned(), writes: 1, ..Self::default() };
        for part in parts {
            let (what, n) = part.split_at(1);
            let n = n.parse().unwrap_or(0);
            match what {
                "w" => script.writes = n,
                "f" => script.failures = n,
                "l" => script.losses = n,
                "x" => script.is_fatal = true,
                "d" => script.is_dark = true,
                "k" => script.is_kept = true,
                "m" => script.is_mute = true,
                "s" => script.is_shared = true,
                _ => panic!("no script is `{text}`"),
            }
        }
        script
    }

    /// The server that its requests go to.
    pub fn server(&self) -> String {
        let host = if self.is_shared { "shared" } else { &self.name };
        format!("https://{host}.test:443")
    }

    /// What its server wants to be left alone for, where it fails.
    pub fn retry_after_ms(&self) -> Option<u64> {
        (self.failures == 2).then_some(if self.is_shared { 15_000 } else { 1_500 })
    }
}
