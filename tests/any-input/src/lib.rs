//! What must hold whatever comes in: one function for each reader of text from outside.
//!
//! Each takes any bytes and panics when its reader breaks a promise, or panics itself. The same functions serve the
//! fuzzer (`tests/fuzz/fuzz_targets`) and the bounded run in the test suite (`tests/fuzz/mod.rs`). A new reader is one
//! function here, one line in [`TARGETS`], a folder of `corpus` and a wrapper for the fuzzer.

mod choices;
pub mod corpus;
mod csv;
mod envelope;
#[cfg(feature = "sql")]
mod expression;
mod geojson;
#[cfg(feature = "sql")]
pub mod grammar;
pub mod mutate;
#[cfg(feature = "sql")]
mod sql;
mod template;

pub use csv::csv;
pub use envelope::envelope;
#[cfg(feature = "sql")]
pub use expression::expression;
pub use geojson::geojson;
#[cfg(feature = "sql")]
pub use sql::sql;
pub use template::template;

/// A reader and how it is tried.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its folder in `corpus` and its name for the fuzzer.
    pub name: &'static str,
    /// What must hold for any bytes.
    pub run: fn(&[u8]),
    /// Words that get far into the reader.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "csv", run: csv, words: csv::WORDS },
    Target { name: "geojson", run: geojson, words: geojson::WORDS },
    Target { name: "envelope", run: envelope, words: envelope::WORDS },
    Target { name: "template", run: template, words: template::WORDS },
    #[cfg(feature = "sql")]
    Target { name: "sql", run: sql, words: sql::WORDS },
    #[cfg(feature = "sql")]
    Target { name: "expression", run: expression, words: &[] },
];

/// Runs a future that waits for nothing outside of this thread.
fn wait<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        };
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}
