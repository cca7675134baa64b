//! The saved inputs: real data, and every input that once broke something.

use std::io;
use std::path::Path;

/// The inputs saved for a target, by the names of their files.
///
/// # Errors
/// When the folder is missing or cannot be read.
pub fn saved(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
    }
    found.sort();
    Ok(found)
}
