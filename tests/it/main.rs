//! The specification as tests: one module per feature, against real components and the real binary.

mod cli;
mod crash;
mod demo;
mod layers;
mod runs;
