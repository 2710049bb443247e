//! Tells a guest who calls it and how much time is left. Always linked: it gives no power.
//!
//! A call to which nothing live is granted depends on its arguments alone. So that this stays true, it learns neither
//! whose call it is nor how time passes: its ids are empty, and all of its time is always left.

use crate::domain::{Digest, Effect, Failure, Json, Recorded, RecordedValue};
use crate::policy::Call;
use crate::sandbox::Begin;
use crate::sandbox::CALL_GRANT;
use crate::sandbox::capabilities::bindings::cofferdam::tool::context::{CallContext, Host};
use crate::sandbox::journal::{Form, Journal, Look};
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;

impl Host for GuestState {
    async fn get(&mut self) -> wasmtime::Result<CallContext> {
        if self.is_pure() {
            let none = String::new;
            return Ok(CallContext {
                call_id: none(),
                run_id: none(),
                step_id: none(),
                attempt: 1,
                idempotency_key: none(),
            });
        }
        let call = self.call.clone();
        let look = Look { what: "context.get", args: Digest::of(b"") };
        let form = Form { write: written, read };
        Ok(self.journal.look(look, async { context(&call) }, &form).await.map_err(Ended)?)
    }

    async fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        if self.is_pure() {
            return Ok(self.call.grant().limits.wall_ms_max);
        }
        let (host_call, begin) = self.begin("context.remaining-ms", Digest::of(b""), false).await.map_err(Ended)?;
        if let Begin::Answer(Recorded { value: RecordedValue::Whole { value }, .. }) = &begin {
            return Ok(value.as_u64().unwrap_or_default());
        }
        let remaining = self.left_ms();
        self.done(&host_call, Json::from(remaining)).await.map_err(Ended)?;
        Ok(remaining)
    }
}

/// Records what the call was given, so that it can be played back when the rules have changed. Run again, it has what it is
/// given now. A pure call depends on its arguments alone.
///
/// # Errors
/// What the announcement brings.
pub(in crate::sandbox) async fn grant(call: &Call, journal: &Journal) -> Result<(), Failure> {
    if call.grant().effect() == Effect::Pure {
        return Ok(());
    }
    let grant = serde_json::to_value(call.grant()).unwrap_or(Json::Null);
    let form = Form { write: Json::clone, read: |value| Some(value.clone()) };
    let look = Look { what: CALL_GRANT, args: Digest::of(b"") };
    journal.look(look, async { grant }, &form).await.map(drop)
}

fn context(call: &Call) -> CallContext {
    CallContext {
        call_id: format!("{}/{}/{}", call.run(), call.step(), call.attempt()),
        run_id: call.run().to_string(),
        step_id: call.step().to_string(),
        attempt: call.attempt(),
        idempotency_key: call.key().to_string(),
    }
}

fn written(context: &CallContext) -> Json {
    let CallContext { call_id, run_id, step_id, attempt, idempotency_key } = context;
    serde_json::json!([call_id, run_id, step_id, attempt, idempotency_key])
}

fn read(value: &Json) -> Option<CallContext> {
    let text = |n: usize| value.get(n)?.as_str().map(str::to_owned);
    Some(CallContext {
        call_id: text(0)?,
        run_id: text(1)?,
        step_id: text(2)?,
        attempt: value.get(3)?.as_u64()?.try_into().ok()?,
        idempotency_key: text(4)?,
    })
}

impl GuestState {
    fn is_pure(&self) -> bool {
        self.call.grant().effect() == Effect::Pure
    }
}
