//! May a call that failed be tried again, and when? Pure: the draw comes from outside.

use crate::domain::{Effect, Kind, Retry, RetryRule, Timestamp};

/// Longest wait that a server may ask for in `Retry-After`, in milliseconds: a longer one is for a person to know of.
pub const RETRY_WAIT_MS_MAX: u64 = 3_600_000;

/// Tokens of an upstream's retries when nothing is known of it, and the most there can be: a few calls may be tried again
/// at once.
pub const RETRY_TOKENS_MAX: u32 = 10;

/// Thousandths of a token that each first attempt brings: one retry for ten calls.
pub const RETRY_MILLITOKENS_PER_CALL: u32 = 100;

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    pub kind: Kind,
    pub effect: Effect,
    /// Whether the host saw it begin to change something.
    pub has_written: bool,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// What the server asks for, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// Answers whether the call may be tried again at all: the failure passes by itself, and nothing was changed, or what was
/// changed may be changed again under the same key.
pub fn may_retry(failed: &Failed, rule: &RetryRule) -> bool {
    failed.kind.retry() == Retry::Later
        && is_of_a_call(failed.kind)
        && (!failed.has_written || failed.effect <= Effect::Idempotent)
        && failed.attempt < rule.attempts_max
        && failed.retry_after_ms.unwrap_or(0) <= RETRY_WAIT_MS_MAX
}

/// Failures of policy and of this host's own log are not the call's.
fn is_of_a_call(kind: Kind) -> bool {
    !matches!(kind, Kind::PolicyExpired | Kind::HostOwned | Kind::HostStorage | Kind::HostFull)
}

/// Returns when the next attempt is due: after a wait drawn from nothing to a bound that doubles with each attempt, and not
/// before the server wants it. `draw` is any number.
pub fn due(failed: &Failed, rule: &RetryRule, now: Timestamp, draw: u64) -> Timestamp {
    let doublings = failed.attempt.saturating_sub(1).min(32);
    let longest = rule.backoff_ms.saturating_mul(1 << doublings).min(rule.backoff_ms_max);
    let drawn = draw % longest.saturating_add(1);
    now.plus_ms(drawn.max(failed.retry_after_ms.unwrap_or(0)))
}

/// How many retries an upstream is still given: so that many calls that fail do not become many more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryTokens {
    milli: u32,
}

impl Default for RetryTokens {
    fn default() -> Self {
        Self { milli: RETRY_TOKENS_MAX * 1_000 }
    }
}

impl RetryTokens {
    /// Notes a first attempt.
    pub fn called(&mut self) {
        self.milli = self.milli.saturating_add(RETRY_MILLITOKENS_PER_CALL).min(RETRY_TOKENS_MAX * 1_000);
    }

    /// Takes a token for a retry; false where there is none.
    pub fn take(&mut self) -> bool {
        let left = self.milli.checked_sub(1_000);
        self.milli = left.unwrap_or(self.milli);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: Kind, effect: Effect, has_written: bool) -> Failed {
        Failed { kind, effect, has_written, attempt: 1, retry_after_ms: None }
    }

    /// The rule as it is written down, for every kind and effect, with and without an effect seen.
    #[test]
    fn a_call_is_tried_again_exactly_when_the_formula_says() {
        let rule = RetryRule::default();
        let effects = [Effect::Pure, Effect::Read, Effect::Idempotent, Effect::Reversible, Effect::Once];
        for kind in Kind::ALL.iter().copied() {
            for effect in effects {
                for has_written in [false, true] {
                    let own = [Kind::PolicyExpired, Kind::HostOwned, Kind::HostStorage, Kind::HostFull].contains(&kind);
                    let is_transient = kind.retry() == Retry::Later && !own;
                    let is_safe = !has_written || matches!(effect, Effect::Pure | Effect::Read | Effect::Idempotent);
                    let may = may_retry(&failed(kind, effect, has_written), &rule);
                    assert_eq!(may, is_transient && is_safe, "{kind} {effect} {has_written}");
                }
            }
        }
        let last = Failed { attempt: rule.attempts_max, ..failed(Kind::NetworkHttp5xx, Effect::Read, false) };
        assert!(!may_retry(&last, &rule));
        let never = Failed { retry_after_ms: Some(RETRY_WAIT_MS_MAX + 1), ..last };
        assert!(!may_retry(&Failed { attempt: 1, ..never }, &rule));
    }

    #[test]
    fn waits_double_are_drawn_and_have_a_bound() {
        let rule = RetryRule { attempts_max: 40, backoff_ms: 100, backoff_ms_max: 1_000 };
        let at = |attempt, draw| {
            let failed = Failed { attempt, ..failed(Kind::NetworkTimeout, Effect::Read, false) };
            due(&failed, &rule, Timestamp(0), draw).0
        };
        assert_eq!([at(1, 100), at(2, 200), at(3, 400), at(5, 1_000), at(39, 1_000)], [100, 200, 400, 1_000, 1_000]);
        assert_eq!([at(1, 0), at(1, 101), at(1, 102)], [0, 0, 1], "the draw goes round");
    }

    #[test]
    fn a_server_is_not_asked_before_it_wants() {
        let failed = Failed { retry_after_ms: Some(2_000), ..failed(Kind::NetworkRateLimited, Effect::Read, false) };
        assert_eq!(due(&failed, &RetryRule::default(), Timestamp(5), 3), Timestamp(2_005));
    }

    #[test]
    fn a_dead_upstream_gets_few_more_requests_than_there_were_calls() {
        let (mut tokens, mut requests) = (RetryTokens::default(), 0_u32);
        for _ in 0..1_000 {
            tokens.called();
            requests += 1;
            while tokens.take() {
                requests += 1;
            }
        }
        assert!(requests <= 1_000 + 1_000 * RETRY_MILLITOKENS_PER_CALL / 1_000 + RETRY_TOKENS_MAX, "{requests}");
        assert!(requests >= 1_100, "{requests}");
    }
}
