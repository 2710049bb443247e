//! When is a server left alone? One breaker per tool and server. Pure: the time comes from outside.

use crate::domain::{Kind, Timestamp};

/// Failures in a row after which nothing is sent for a while.
pub const BREAKER_FAILURES_MAX: u32 = 5;

/// How long nothing is sent, in milliseconds: a restart takes about so long.
pub const BREAKER_OPEN_MS: u64 = 10_000;

/// Whether requests go to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// They do; so many failed in a row.
    #[default]
    Closed,
    Failing(u32),
    /// They do not, until this time.
    Open(Timestamp),
    /// One does, to see; begun at this time.
    Probing(Timestamp),
}

/// What a breaker says to one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    Yes,
    /// Not before this time.
    No(Timestamp),
}

impl Breaker {
    /// Says whether a request may go. The first one after the time is the probe; others wait for what it brings. A probe that
    /// nobody saw end counts as failed after [`BREAKER_OPEN_MS`].
    pub fn admit(&mut self, now: Timestamp) -> Admit {
        match *self {
            Self::Closed | Self::Failing(_) => Admit::Yes,
            Self::Open(until) if now < until => Admit::No(until),
            Self::Probing(since) if now.ms_since(since) < BREAKER_OPEN_MS => Admit::No(since.plus_ms(BREAKER_OPEN_MS)),
            Self::Open(_) | Self::Probing(_) => {
                *self = Self::Probing(now);
                Admit::Yes
            }
        }
    }

    /// Notes how a request ended.
    pub fn ended(&mut self, failure: Option<Kind>, now: Timestamp) {
        let is_down = failure.is_some_and(is_down);
        *self = match *self {
            _ if !is_down => Self::Closed,
            Self::Closed if BREAKER_FAILURES_MAX <= 1 => Self::Open(now.plus_ms(BREAKER_OPEN_MS)),
            Self::Closed => Self::Failing(1),
            Self::Failing(times) if times + 1 < BREAKER_FAILURES_MAX => Self::Failing(times + 1),
            // One that had begun before the breaker opened tells nothing new.
            Self::Open(until) => Self::Open(until),
            Self::Failing(_) | Self::Probing(_) => Self::Open(now.plus_ms(BREAKER_OPEN_MS)),
        };
    }

    /// Returns whether nothing is known of the server but good.
    pub fn is_closed(&self) -> bool {
        *self == Self::Closed
    }
}

/// Failures that tell that a server is down. One that answers that a request is wrong is not, nor one that says not so fast.
fn is_down(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NetworkDns
            | Kind::NetworkConnect
            | Kind::NetworkTls
            | Kind::NetworkTimeout
            | Kind::NetworkHttp5xx
            | Kind::NetworkCut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Option<Kind> = Some(Kind::NetworkHttp5xx);

    fn open(now: Timestamp) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..BREAKER_FAILURES_MAX {
            assert_eq!(breaker.admit(now), Admit::Yes);
            breaker.ended(DOWN, now);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let mut breaker = open(Timestamp(0));
        assert_eq!(breaker.admit(Timestamp(BREAKER_OPEN_MS - 1)), Admit::No(Timestamp(BREAKER_OPEN_MS)));
        let later = Timestamp(BREAKER_OPEN_MS);
        assert_eq!(breaker.admit(later), Admit::Yes);
        assert!(matches!(breaker.admit(later), Admit::No(_)), "one probe at a time");
        breaker.ended(DOWN, later);
        assert_eq!(breaker.admit(later), Admit::No(later.plus_ms(BREAKER_OPEN_MS)));
        let last = later.plus_ms(BREAKER_OPEN_MS);
        assert_eq!(breaker.admit(last), Admit::Yes);
        breaker.ended(None, last);
        assert!(breaker.is_closed());
    }

    #[test]
    fn an_answer_between_failures_begins_the_count_anew() {
        let mut breaker = Breaker::default();
        for n in 0..100 {
            breaker.ended(if n % BREAKER_FAILURES_MAX == 0 { Some(Kind::NetworkHttp4xx) } else { DOWN }, Timestamp(0));
            assert_eq!(breaker.admit(Timestamp(0)), Admit::Yes, "{n}");
        }
    }

    #[test]
    fn a_probe_that_is_lost_does_not_close_it_for_ever() {
        let mut breaker = open(Timestamp(0));
        let probe = Timestamp(BREAKER_OPEN_MS);
        assert_eq!(breaker.admit(probe), Admit::Yes);
        assert_eq!(breaker.admit(probe.plus_ms(BREAKER_OPEN_MS)), Admit::Yes);
        assert!(matches!(breaker.admit(probe.plus_ms(BREAKER_OPEN_MS)), Admit::No(_)));
    }

    #[test]
    fn what_ends_late_does_not_open_it_longer() {
        let mut breaker = open(Timestamp(0));
        breaker.ended(DOWN, Timestamp(BREAKER_OPEN_MS - 1));
        assert_eq!(breaker.admit(Timestamp(BREAKER_OPEN_MS)), Admit::Yes);
    }
}
