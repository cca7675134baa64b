//! A faithful simulator of the USGS event service (`/fdsnws/event/1` and the summary feeds), over HTTP.
//!
//! It holds a [`Catalogue`] of event versions and a [`Clock`], and answers everything as of the simulated now: which
//! versions are visible, `Last-Modified`, `metadata.generated`, the default `starttime`. Histories are scripted with
//! [`Catalogue::add`], [`Catalogue::delete`], [`Catalogue::merge`], [`Catalogue::split`] and [`Catalogue::vanish`];
//! what goes wrong, with [`Handle::fault`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use usgs_simulator::{Catalogue, Fault, Simulator};
//!
//! let simulator = Simulator::builder(Catalogue::from_path("all_month.csv.gz")?).build();
//! let running = simulator.serve().await?;
//! running.handle().fault(Fault::status(503).times(2));
//! // ask running.base_url() + "/fdsnws/event/1/query?format=csv"
//! running.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! Rules and messages follow the service's published source (v1.10.3) where recorded answers do not tell otherwise.
//! Formats other than csv, geojson and text, and parameters that no client of this project uses, are refused with a
//! plain 400 that says so.

mod answer;
mod catalogue;
mod clock;
mod delivery;
mod event;
mod fault;
mod feed;
mod geojson;
mod history;
mod journal;
mod load;
mod question;
mod requests;
mod row;
mod select;
mod simulator;

pub use catalogue::{Catalogue, Visibility};
pub use clock::Clock;
pub use event::{Event, Extras};
pub use fault::{Fault, HeaderFault, Rule};
pub use history::{EditError, Tombstone};
pub use journal::Journal;
pub use load::CatalogueError;
pub use requests::Recorded;
pub use row::{Column, HEADER, RowError};
pub use simulator::{Builder, Handle, Running, Simulator};
