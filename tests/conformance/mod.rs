//! What every implementation of a port must do.

mod bus;
mod store;
mod warehouse;
