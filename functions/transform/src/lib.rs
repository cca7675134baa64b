//! functions/transform
