//! functions/land
