//! What every Strata service stands on: messages, the ports and their implementations, datasets, the ledger.
//!
//! Nothing here knows a service, and no service, port or message knows a dataset by name.

pub mod bus;
pub mod capture;
pub mod clock;
pub mod csv;
pub mod dataset;
pub mod datasets;
pub mod form;
pub mod function;
pub mod geojson;
pub mod ledger;
pub mod message;
pub mod metrics;
pub mod partition;
pub mod retry;
pub mod store;
pub mod table;
pub mod telemetry;
pub mod trace;
pub mod warehouse;
pub mod window;
