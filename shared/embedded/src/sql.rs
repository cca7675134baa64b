//! BigQuery's SQL on DataFusion: a text is parsed, rewritten and planned, or refused with its line.
//!
//! ```text
//! text ─▶ parse ─▶ refuse ─▶ rewrite ─▶ plan (DataFusion) ─▶ normalize
//!         bounds   what is   BigQuery's  types, tables,       BigQuery's
//!                  outside   meaning     arithmetic           column types
//! ```
//!
//! Invariant: what runs here runs in BigQuery and means the same there. The supported SQL is a
//! stated subset (`supported` lists the functions, `refuse` the constructs that are outside);
//! anything else is an [`SqlError`](shared::warehouse::SqlError), never another result.
//!
//! # Known differences
//! - Column names come out in lower case. A GEOGRAPHY is its well-known text, and only points exist.
//! - SUM of INT64 wraps around where BigQuery fails; `+`, `-`, `*`, DIV, MOD, ABS and unary minus
//!   fail as there. FLOAT64 `+`, `-`, `*` overflow to infinity where BigQuery fails.
//! - NUMERIC `+`, `-`, `*` and SUM have DataFusion's precision until the result is normalized.
//! - APPROX_QUANTILES, ANY_VALUE and ties of MAX_BY give one fixed answer of those that BigQuery
//!   may give. APPROX_COUNT_DISTINCT is another sketch.
//! - A STRING column compared with a number or a date is converted where BigQuery refuses; a
//!   STRING constant in the place of a date argument is refused where BigQuery converts it.
//! - ARRAY_AGG keeps NULLs; BigQuery fails if such an array is in the result.
//! - Regular expressions are Rust's, which have RE2's syntax without `\C`.

mod arithmetic;
mod error;
mod functions;
mod normalize;
mod parse;
mod plan;
mod refuse;
mod reserved;
mod rewrite;
mod session;
mod supported;
mod tables;
#[cfg(test)]
mod tests;

pub use normalize::{bigquery_type, normalize};
pub use plan::plan;
pub use session::{session, session_with};
pub use supported::functions;
pub use tables::{Reference, tables};
