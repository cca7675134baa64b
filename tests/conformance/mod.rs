//! What every implementation of a port must do.

pub(crate) mod bus;
pub(crate) mod store;
pub(crate) mod warehouse;
