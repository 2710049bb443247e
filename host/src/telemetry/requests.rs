//! The requests of one run to models, and what each of them cost: told once, for whoever counts them.

use crate::domain::{AskedModel, Fact, Kind, Tokens, usd_picos};

/// A request that was sent to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFact {
    /// As the settings call it.
    pub model: String,
    pub tier: String,
    pub tokens: Option<Tokens>,
    /// What it cost, in picodollars; `None` where nobody knows.
    pub picos: Option<u128>,
    /// `None` where the process died meanwhile.
    pub wall_ms: Option<u64>,
    pub first_token_ms: Option<u64>,
    pub failure: Option<Kind>,
    /// It brought no plan that can run.
    pub is_rejected: bool,
    /// The most that it could cost, in picodollars; `None` where nobody knows.
    most: Option<u128>,
    is_told: bool,
}

/// The requests of a run, as far as its events have been told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    pub sent: Vec<RequestFact>,
    /// Why requests were not sent.
    pub unsent: Vec<Kind>,
    /// The budget bounds money, and so each request is priced before it is sent.
    is_priced: bool,
    /// The last request has no reply.
    is_asking: bool,
}

impl Requests {
    /// Tells one fact more, in the order of the log.
    pub fn tell(&mut self, fact: &Fact) {
        match fact {
            Fact::RunCreated { budget, .. } => self.is_priced = budget.usd_micros_max.is_some(),
            Fact::PlanRequested { asked: Some(asked), reserved, .. } => {
                self.lost();
                // Of a known price nothing is held only where it is nothing.
                let is_known = reserved.usd_micros > 0 || (self.is_priced && asked.price.is_some());
                self.sent.push(RequestFact::sent(asked, is_known.then(|| usd_picos(reserved.usd_micros))));
                self.is_asking = true;
            }
            Fact::PlanReplied { tokens, usd_picos: picos, first_token_ms, wall_ms, .. } => {
                self.is_asking = false;
                let Some(request) = self.sent.last_mut() else { return };
                // Where nobody counted, all that was held is spent.
                request.picos = picos.map(u128::from).or(request.most.filter(|_| tokens.is_none()));
                (request.tokens, request.first_token_ms) = (*tokens, *first_token_ms);
                (request.wall_ms, request.is_told) = (Some(*wall_ms), true);
            }
            // It was not sent: what it could have cost was more than is left.
            Fact::PlanFailed { kind, .. } if self.is_asking => {
                self.is_asking = false;
                self.sent.pop();
                self.unsent.push(*kind);
            }
            Fact::PlanFailed { kind, .. } => {
                if let Some(request) = self.sent.last_mut() {
                    request.failure = Some(*kind);
                    request.picos = request.picos.or(is_unbilled(*kind).then_some(0));
                }
            }
            Fact::PlanRejected { .. } => {
                if let Some(request) = self.sent.last_mut() {
                    request.is_rejected = true;
                }
            }
            Fact::RunClaimed { .. } | Fact::RunEnded { .. } => self.lost(),
            _ => {}
        }
    }

    /// A request whose process died is taken to have cost all that was held for it.
    fn lost(&mut self) {
        if !std::mem::take(&mut self.is_asking) {
            return;
        }
        if let Some(request) = self.sent.last_mut().filter(|request| !request.is_told) {
            request.failure = Some(Kind::HostInterrupted);
            request.picos = request.most;
        }
    }

    /// Requests that have a reply, or will have none: what one takes that is under way nobody knows yet.
    pub fn settled(&self) -> &[RequestFact] {
        let open = usize::from(self.is_asking);
        self.sent.get(..self.sent.len().saturating_sub(open)).unwrap_or_default()
    }
}

impl RequestFact {
    fn sent(asked: &AskedModel, most: Option<u128>) -> Self {
        Self {
            model: asked.model.clone(),
            tier: asked.tier.clone(),
            tokens: None,
            picos: None,
            wall_ms: None,
            first_token_ms: None,
            failure: None,
            is_rejected: false,
            most,
            is_told: false,
        }
    }
}

/// Answers whether no model has seen such a request: it did not arrive, or was refused as it came.
fn is_unbilled(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NetworkDns
            | Kind::NetworkConnect
            | Kind::NetworkTls
            | Kind::NetworkRateLimited
            | Kind::NetworkHttp4xx
            | Kind::NetworkCircuitOpen
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AskedModel, Cost, Digest, Effect, Timestamp};

    fn asked(price: Option<&str>, usd_micros: u64) -> Fact {
        let asked = AskedModel {
            model: "m".into(),
            tier: "only".into(),
            effect_max: Effect::Once,
            route: Digest::of(b""),
            price: price.map(str::to_owned),
            reply_tokens_max: 9,
        };
        let reserved = Cost { usd_micros, ..Cost::default() };
        Fact::PlanRequested { turn: 1, pack: Digest::of(b""), asked: Some(asked), reserved }
    }

    fn replied(tokens: Option<Tokens>, usd_picos: Option<u64>) -> Fact {
        let (model, reasoning, first_token_ms, wall_ms) = (None, None, None, 1);
        let cost = Cost { usd_micros: usd_picos.map_or(0, |picos| picos / 1_000_000), ..Cost::default() };
        Fact::PlanReplied { turn: 1, model, tokens, cost, usd_picos, reasoning, first_token_ms, wall_ms }
    }

    fn failed(kind: Kind) -> Fact {
        Fact::PlanFailed { turn: 1, kind, failure: Digest::of(b""), retry: Some(Timestamp(1)) }
    }

    fn claimed() -> Fact {
        Fact::RunClaimed { owner: "another".into(), policy: Digest::of(b"") }
    }

    #[track_caller]
    fn check(is_priced: bool, facts: &[Fact], picos: &[Option<u128>]) {
        let mut requests = Requests { is_priced, ..Requests::default() };
        facts.iter().for_each(|fact| requests.tell(fact));
        let told: Vec<_> = requests.settled().iter().map(|request| request.picos).collect();
        assert_eq!(told, picos, "{facts:?}");
    }

    #[test]
    fn what_a_request_cost_is_told_in_one_way() {
        let some = Some(Tokens::default());
        check(true, &[asked(Some("p"), 7), replied(some, Some(3_000_000))], &[Some(3_000_000)]);
        // Nobody counted, and nobody saw it end: all that was held.
        check(true, &[asked(Some("p"), 7), replied(None, None)], &[Some(7_000_000)]);
        check(true, &[asked(Some("p"), 7), claimed()], &[Some(7_000_000)]);
        check(true, &[asked(Some("p"), 7)], &[]);
        // What costs nothing costs nothing, whoever counted.
        check(true, &[asked(Some("free"), 0), replied(None, None)], &[Some(0)]);
        check(true, &[asked(Some("free"), 0), claimed()], &[Some(0)]);
        check(false, &[asked(None, 0), replied(some, None)], &[None]);
        check(false, &[asked(Some("p"), 0), claimed()], &[None]);
        // No model has seen it.
        check(false, &[asked(None, 0), replied(None, None), failed(Kind::NetworkConnect)], &[Some(0)]);
        check(false, &[asked(None, 0), replied(None, None), failed(Kind::NetworkCut)], &[None]);
        // It was never sent.
        check(true, &[asked(Some("p"), 0), failed(Kind::PolicyBudget)], &[]);
    }
}
