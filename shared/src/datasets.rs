//! The datasets that Strata ships with, a file each.

mod earthquakes;

use std::sync::Arc;

use crate::dataset::Registry;

pub use earthquakes::Earthquakes;

/// All of them.
pub fn shipped() -> Registry {
    Registry::new([Arc::new(Earthquakes::default()) as _])
}
