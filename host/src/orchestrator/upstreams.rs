//! What all runs of a process know of the servers that tools send to: breakers, and how many retries are left.
//!
//! Kept by tenant, tool and server, so that nobody learns of another by it. In memory only: a process that starts anew
//! finds out again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{Failure, Kind, Principal, Timestamp, ToolName};
use crate::orchestrator::breaker::{Admit, Breaker};
use crate::orchestrator::retry::RetryTokens;
use crate::policy::Call;

/// Servers and tools that are remembered; when there are more, those of which nothing bad is known are forgotten, then all.
const REMEMBERED_MAX: usize = 10_000;

/// What is known of servers.
#[derive(Default)]
pub struct Upstreams {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    breakers: HashMap<Key, Breaker>,
    /// Without a server: of the tool's calls that failed by themselves.
    tokens: HashMap<Key, RetryTokens>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: String,
    tool: ToolName,
    server: String,
}

impl Key {
    fn new(principal: &Principal, tool: &ToolName, server: &str) -> Self {
        Self { tenant: principal.tenant.clone(), tool: tool.clone(), server: server.to_owned() }
    }
}

impl Upstreams {
    /// Says whether a request may go to `server` now.
    pub fn admit(&self, principal: &Principal, tool: &ToolName, server: &str, now: Timestamp) -> Admit {
        let key = Key::new(principal, tool, server);
        // A server of which nothing is known is one that works.
        self.known().breakers.get_mut(&key).map_or(Admit::Yes, |breaker| breaker.admit(now))
    }

    /// Refuses a request to a server that has failed too often of late.
    ///
    /// # Errors
    /// `network.circuit_open`, with the time that is left.
    pub fn check(&self, principal: &Principal, tool: &ToolName, server: &str, now: Timestamp) -> Result<(), Failure> {
        let Admit::No(until) = self.admit(principal, tool, server, now) else { return Ok(()) };
        let message = format!("send to `{server}`: it failed too often, and is left alone");
        let seconds = until.ms_since(now).div_ceil(1_000);
        Err(Failure::new(Kind::NetworkCircuitOpen, message).hint(format!("try again in {seconds} s")))
    }

    /// Notes how a request to `server` ended.
    pub fn ended(&self, principal: &Principal, tool: &ToolName, server: &str, failure: Option<Kind>, now: Timestamp) {
        let key = Key::new(principal, tool, server);
        let mut known = self.known();
        make_room(&mut known.breakers, Breaker::is_closed);
        let breaker = known.breakers.entry(key.clone()).or_default();
        breaker.ended(failure, now);
        if breaker.is_closed() {
            known.breakers.remove(&key);
        }
    }

    /// Returns until when nothing is sent to `server`.
    pub fn open_until(
        &self,
        principal: &Principal,
        tool: &ToolName,
        server: &str,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match self.known().breakers.get(&Key::new(principal, tool, server)) {
            Some(Breaker::Open(until)) if now < *until => Some(*until),
            _ => None,
        }
    }

    /// Notes that a call is tried for the first time.
    pub fn called(&self, call: &Call) {
        let mut known = self.known();
        let (tenant, tool) = (&call.principal().tenant, call.tool().name());
        for (_, tokens) in known.tokens.iter_mut().filter(|(key, _)| key.tenant == *tenant && key.tool == *tool) {
            tokens.called();
        }
    }

    /// Takes a retry from what is left for `server`, or for the tool itself; false where nothing is.
    pub fn may_retry(&self, principal: &Principal, tool: &ToolName, server: Option<&str>) -> bool {
        let mut known = self.known();
        make_room(&mut known.tokens, |tokens| *tokens == RetryTokens::default());
        known.tokens.entry(Key::new(principal, tool, server.unwrap_or_default())).or_default().take()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room<T>(map: &mut HashMap<Key, T>, is_dull: impl Fn(&T) -> bool) {
    if map.len() >= REMEMBERED_MAX {
        map.retain(|_, value| !is_dull(value));
    }
    if map.len() >= REMEMBERED_MAX {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::breaker::BREAKER_FAILURES_MAX;
    use crate::orchestrator::retry::RETRY_TOKENS_MAX;

    const SERVER: &str = "https://a.example:443";

    fn tool(name: &str) -> ToolName {
        ToolName::new("x", name).unwrap()
    }

    #[test]
    fn a_breaker_is_of_one_tenant_tool_and_server() {
        let (upstreams, me) = (Upstreams::default(), Principal::default());
        for _ in 0..BREAKER_FAILURES_MAX {
            upstreams.ended(&me, &tool("a"), SERVER, Some(Kind::NetworkConnect), Timestamp(0));
        }
        assert!(matches!(upstreams.admit(&me, &tool("a"), SERVER, Timestamp(0)), Admit::No(_)));
        let you = Principal { tenant: "you".into(), ..Principal::default() };
        for (who, tool, server) in
            [(&you, tool("a"), SERVER), (&me, tool("b"), SERVER), (&me, tool("a"), "https://b.example:443")]
        {
            assert_eq!(upstreams.admit(who, &tool, server, Timestamp(0)), Admit::Yes);
        }
        assert!(upstreams.open_until(&me, &tool("a"), SERVER, Timestamp(0)).is_some());
    }

    #[test]
    fn retries_of_one_server_run_out_and_others_have_theirs() {
        let (upstreams, me) = (Upstreams::default(), Principal::default());
        let granted = (0..100).filter(|_| upstreams.may_retry(&me, &tool("a"), Some(SERVER))).count();
        assert_eq!(u32::try_from(granted), Ok(RETRY_TOKENS_MAX));
        assert!(upstreams.may_retry(&me, &tool("a"), None));
    }
}
