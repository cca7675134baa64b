//! All tests that cross crates, in one program so that the warehouse is linked once.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

mod conformance;
mod emulators;
mod faults;
mod fuzz;
mod pipeline;
mod simulation;
