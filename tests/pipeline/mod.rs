//! The whole pipeline, from a request to gold, over messages and HTTP.

mod backfill;
mod harvests;
mod identity;
pub(crate) mod incremental;
mod lateness;
mod models;
mod month;
mod polling;
mod quarantine;
mod replay;
