//! The whole pipeline as it is deployed: the services' own programs, Pub/Sub's pushes over HTTP, the lake in Cloud
//! Storage and the warehouse in BigQuery.

mod deployment;
mod gate;
mod missing;
mod month;
mod program;
