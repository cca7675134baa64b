//! Tells cargo to embed the dbt project again when a file of it is added or removed.
#![allow(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

fn main() {
    for path in ["dbt_project.yml", "macros", "models", "seeds"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
