//! Cofferdam runs tools that nobody has to trust, and lets a planner choose them.
//!
//! A goal becomes a plan, a plan becomes calls, a call runs in the sandbox, the outcome becomes an event, events
//! become a trace. The modules below are listed in that order of meaning: each may use only those above it, as the
//! table in `docs/architecture.md` says and a test holds.

#![deny(unsafe_code)]

pub mod domain;

pub mod cli;
pub mod clock;
pub mod config;
pub mod host;
pub mod orchestrator;
pub mod planner;
pub mod policy;
pub mod registry;
pub mod sandbox;
pub mod store;
pub mod telemetry;

pub use sandbox::helper_main;

/// Compiles the examples of the front page.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
