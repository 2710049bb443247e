//! The specification as tests: one module per feature, against real components and the real binary.

mod agent;
mod alone;
mod canary;
mod catalogue;
mod cli;
mod contracts;
mod crash;
mod demo;
mod doctor;
mod events;
mod explain;
mod files;
mod guest;
mod hostile;
mod layers;
mod limits;
mod load;
mod network;
mod numbers;
mod plans;
mod policy;
mod runs;
mod sandbox;
mod secrets;
mod soak;
mod supply;
