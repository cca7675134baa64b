//! The whole pipeline, from a request to gold, over messages and HTTP.

mod harvests;
mod identity;
mod incremental;
mod models;
mod month;
mod polling;
mod quarantine;
mod replay;
