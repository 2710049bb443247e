//! Who is calling, and how much time is left.
//!
//! Natively the values come from [`testing`](crate::testing). In a component, using them imports
//! `cofferdam:tool/context`.

/// Identifies the running call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// This attempt's own id.
    pub call_id: String,
    /// The run that the call belongs to.
    pub run_id: String,
    /// The plan step that the call carries out.
    pub step_id: String,
    /// Counts from 1; above 1 the host is trying again.
    pub attempt: u32,
    /// The same for every attempt at this step: send it with outgoing writes so that a repeat is recognised.
    pub idempotency_key: String,
}

/// Returns the context of the running call.
#[cfg(target_arch = "wasm32")]
pub fn get() -> CallContext {
    let wire = crate::bindings::cofferdam::tool::context::get();
    CallContext {
        call_id: wire.call_id,
        run_id: wire.run_id,
        step_id: wire.step_id,
        attempt: wire.attempt,
        idempotency_key: wire.idempotency_key,
    }
}

/// Returns the context of the running call.
#[cfg(not(target_arch = "wasm32"))]
pub fn get() -> CallContext {
    crate::testing::current().context
}

/// Returns the milliseconds until the host stops this call.
pub fn remaining_ms() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::cofferdam::tool::context::remaining_ms();
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::current().remaining_ms
}
