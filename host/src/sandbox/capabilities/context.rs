//! Tells a guest who calls it and how much time is left. Always linked: it gives no power.

use crate::domain::{Digest, Json};
use crate::sandbox::Begin;
use crate::sandbox::capabilities::bindings::cofferdam::tool::context::{CallContext, Host};
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;

impl Host for GuestState {
    async fn get(&mut self) -> wasmtime::Result<CallContext> {
        let call = &self.call;
        Ok(CallContext {
            call_id: format!("{}/{}/{}", call.run(), call.step(), call.attempt()),
            run_id: call.run().to_string(),
            step_id: call.step().to_string(),
            attempt: call.attempt(),
            idempotency_key: call.key().to_string(),
        })
    }

    async fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        let (host_call, begin) = self.begin("context.remaining-ms", Digest::of(b""), false).await.map_err(Ended)?;
        if let Begin::Answer(Json::Number(recorded)) = &begin {
            return Ok(recorded.as_u64().unwrap_or_default());
        }
        let remaining = self.left_ms();
        self.done(&host_call, &Json::from(remaining)).await;
        Ok(remaining)
    }
}
