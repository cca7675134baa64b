//! tests/usgs-simulator
