//! The specification as tests: one module per feature, against real components and the real binary.

mod guest;
mod hostile;
mod layers;
mod policy;
mod sandbox;
