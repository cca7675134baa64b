//! A DataFusion session set up to read BigQuery's SQL.

use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::arithmetic::CheckedArithmetic;
use super::functions;

/// The deepest nesting of expressions and queries that the parser follows.
pub(crate) const RECURSION_LIMIT: usize = 120;

/// Bytes of stack that a recursive step must find free.
const STACK_MARGIN: usize = 1 << 20;
/// Bytes of stack that are added where they are not.
const STACK: usize = 8 << 20;

/// A session with the defaults of a laptop: two partitions, no information schema.
pub fn session() -> SessionContext {
    session_with(SessionConfig::new().with_target_partitions(2))
}

/// A session with the caller's resources and BigQuery's meaning: its dialect, its order of nulls,
/// UTC, and our functions.
pub fn session_with(config: SessionConfig) -> SessionContext {
    // DataFusion grows the stack where it recurses; unoptimized, one step of its planner takes more
    // than the margin that it keeps by default.
    recursive::set_minimum_stack_size(STACK_MARGIN);
    recursive::set_stack_allocation_size(STACK);
    let mut config = config.with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::BigQuery;
    options.sql_parser.default_null_ordering = "nulls_min".into();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.parse_float_as_decimal = false;
    options.sql_parser.enable_ident_normalization = true;
    options.execution.time_zone = Some("UTC".into());
    options.execution.parquet.schema_force_view_types = false;
    let mut state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    // Registering replaces a function of the same name and cannot fail for a plain session state.
    for function in functions::scalars() {
        if let Err(error) = state.register_udf(Arc::new(function)) {
            tracing::error!(%error, "a function could not be registered");
        }
    }
    for function in functions::aggregates() {
        if let Err(error) = state.register_udaf(Arc::new(function)) {
            tracing::error!(%error, "an aggregate could not be registered");
        }
    }
    if let Err(error) = state.register_function_rewrite(Arc::new(CheckedArithmetic::new())) {
        tracing::error!(%error, "checked arithmetic could not be registered");
    }
    SessionContext::new_with_state(state)
}
