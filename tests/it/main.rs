//! The specification as tests: one module per feature, against real components and the real binary.

mod cli;
mod crash;
mod demo;
mod events;
mod guest;
mod hostile;
mod layers;
mod network;
mod numbers;
mod policy;
mod runs;
mod sandbox;
