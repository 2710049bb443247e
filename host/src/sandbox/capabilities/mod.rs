//! What a guest may reach: one file per capability, each the host's side of one interface.

pub(super) mod clock;
pub(super) mod context;
mod file_streams;
pub(super) mod files;
pub(super) mod http;
pub(super) mod log;
pub(super) mod poll;
pub(super) mod print;
pub(super) mod progress;
pub(super) mod state;

/// Bindings of the package `cofferdam:tool`.
pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "cofferdam:tool/imports",
        imports: { default: async | trappable },
    });
}
