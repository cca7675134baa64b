//! All tests that cross crates, in one program so that the warehouse is linked once.

mod conformance;
mod faults;
mod pipeline;
