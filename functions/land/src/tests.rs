//! Tests of landing as a whole, on a store in memory and in a folder, with every port able to fail.

mod bronze;
mod faults;
mod memory;
mod merge;
mod ports;
mod refused;
mod snapshot;
mod union;
mod world;
