//! Write a sandboxed tool in plain Rust.
//!
//! A tool is a function in a `#[tools]` module. From that module the SDK derives the WIT package (so that any host and
//! language can call the tool with typed values), the bindings, and the manifest. Natively nothing of this is compiled:
//! `cargo test` tests plain Rust, and `cargo build --target wasm32-wasip2` makes the component.
//!
//! ```
//! use cofferdam_tool_sdk::prelude::*;
//!
//! /// Measures text.
//! #[tools]
//! mod measure {
//!     /// Counts words and bytes.
//!     #[tool]
//!     pub fn count(
//!         /// The text to measure.
//!         text: String,
//!     ) -> Result<Counts, ToolError> {
//!         if text.is_empty() {
//!             return Err(ToolError::new("text.empty", "there is no text to measure"));
//!         }
//!         Ok(Counts { words: text.split_whitespace().count() as u64, bytes: text.len() as u64 })
//!     }
//!
//!     /// What was counted.
//!     #[derive(ToolType)]
//!     pub struct Counts {
//!         pub words: u64,
//!         pub bytes: u64,
//!     }
//! }
//!
//! assert_eq!(measure::count("so it is".into()).unwrap().words, 3);
//! ```
//!
//! # Types
//!
//! `bool`, integers up to 64 bits, `f32`, `f64`, `char`, `String`, `Vec<T>`, `Option<T>`, tuples, and structs with named
//! fields or enums (each case with no value or one) that derive `ToolType` in the same module. A tool returns `T` or
//! `Result<T, ToolError>`. Everything else is a compile error that names a way out. WIT lets functions and types share
//! one set of names, so a type `Stats` beside a tool `stats` is called `stats-type` there.
//!
//! # Attributes
//!
//! `#[tool(effect = "read", asks("files.read", "log"))]`. The effect (`pure`, `read`, `idempotent`, `reversible`,
//! `once`) tells how far a call reaches; a host may take it as worse, never as better. A tool gets what it asks for
//! *and* the operator grants: `files.read`, `files.write`, `http`, `env`, `secrets`, `state.session`, `state.user`,
//! `state.workflow`, `clock`, `random`, `log`, `progress`. A secret is a placeholder in a variable that the operator names: written into a header of a request, the
//! host replaces it, for the places that it is meant for. Doc comments on the module, functions, parameters, types and fields are the texts that planners read.
//!
//! # Taking back, and looking up
//!
//! A host that runs plans takes back what was done when a later step fails, and looks up what became of a call whose end it
//! did not see. A tool names the calls for both, by other tools of its module:
//!
//! ```
//! # use cofferdam_tool_sdk::prelude::*;
//! #[tools]
//! mod seats {
//!     #[tool(effect = "once", undo = release(id = out.id), reconcile = find(key = key))]
//!     pub fn reserve(show: String) -> Result<Seat, ToolError> {
//!         Ok(Seat { id: format!("{show}-1") })
//!     }
//!
//!     #[tool(effect = "idempotent", internal)]
//!     pub fn release(id: String) -> Result<(), ToolError> {
//!         Ok(drop(id))
//!     }
//!
//!     #[tool(effect = "read", internal)]
//!     pub fn find(key: String) -> Result<Found, ToolError> {
//!         Ok(if key.is_empty() { Found::NotDone } else { Found::Unknown })
//!     }
//!
//!     #[derive(ToolType)]
//!     pub struct Seat {
//!         pub id: String,
//!     }
//!
//!     /// What became of a call of `reserve`.
//!     #[derive(ToolType)]
//!     pub enum Found {
//!         Done(Seat),
//!         NotDone,
//!         Unknown,
//!     }
//! }
//! ```
//!
//! `input.name` is part of the call's arguments, `out.name` part of its output (`out` all of it), `key` its idempotency key
//! ([`context::get`]); constants are texts, whole numbers and truth values. A tool that is looked up by returns an enum of
//! `Done` with what the other tool returns, `NotDone` and `Unknown`. An `internal` tool is not offered to planners.
//!
//! # Manifest
//!
//! The custom section `cofferdam:manifest` of the core module inside the component holds JSON; all names are WIT names,
//! `params` and `fields` list only what has a doc comment; `effect`, `undo`, `reconcile` and `internal` are absent unless
//! declared:
//!
//! ```json
//! {"manifest": 0, "component": "csv", "version": "0.1.0", "summary": "…",
//!  "tools": {"query": {"summary": "…", "params": {"path": "…"}, "effect": "read", "asks": ["files.read", "log"],
//!                      "undo": {"tool": "forget", "args": {"id": {"$out": "/id"}}}, "internal": true}},
//!  "types": {"table": {"text": "…", "fields": {"rows": "…"}}}}
//! ```

pub mod context;
mod error;
pub mod http;
pub mod log;
pub mod progress;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(target_arch = "wasm32")]
mod bindings {
    #![allow(unsafe_code, clippy::all, reason = "generated")]
    wit_bindgen::generate!({ path: "../wit", world: "imports" });
}

pub use cofferdam_tool_macros::{ToolType, tool, tools};

pub use crate::error::ToolError;

/// What the code of `#[tools]` needs on `wasm32`; no part of the interface for authors.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use wit_bindgen;

/// Everything a tool needs. `#[tools]` modules have it in scope already.
pub mod prelude {
    pub use crate::{ToolError, ToolType, context, http, log, progress, state, tool, tools};
}
