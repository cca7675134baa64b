//! functions/fetch
