//! The laptop's warehouse: BigQuery's SQL run by DataFusion over tables in a [`Store`](shared).

mod build;
mod commit;
mod engine;
mod failure;
mod files;
mod in_turn;
mod load;
mod manifest;
mod merge;
mod overwrite;
mod provider;
mod reader;
mod schema;
mod snapshot;
mod split;
pub mod sql;
#[cfg(test)]
mod tests;
mod warehouse;

pub use warehouse::Embedded;
