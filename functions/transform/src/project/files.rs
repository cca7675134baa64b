//! Where a project's files come from: a folder, or the program itself.

use std::path::Path;

use include_dir::{Dir, DirEntry};

use super::error::ProjectError;

/// Folders nested deeper than this are no project's.
const DEEPEST: usize = 16;

/// The files of a folder that may be part of a project.
pub(crate) fn files_of(root: &Path) -> Result<Vec<(String, Vec<u8>)>, ProjectError> {
    let mut files = Vec::new();
    let mut open = vec![(root.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = open.pop() {
        let failed = |source| ProjectError::Read { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if path.is_dir() {
                if depth < DEEPEST && !is_generated(&name) {
                    open.push((path, name, depth + 1));
                }
            } else if is_ours(&name) {
                let content = std::fs::read(&path).map_err(|source| ProjectError::Read { path, source })?;
                files.push((name, content));
            }
        }
    }
    Ok(files)
}

/// What dbt and cargo leave in a project's folder.
fn is_generated(folder: &str) -> bool {
    matches!(folder, "target" | "logs" | "dbt_packages") || folder.starts_with('.')
}

/// The files of an embedded folder.
pub(crate) fn embedded_files(folder: &str, dir: &Dir<'_>, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(inner) => embedded_files(folder, inner, files),
            DirEntry::File(file) => {
                // Written with slashes wherever the program was built.
                let path: Vec<_> = file.path().iter().map(|part| part.to_string_lossy()).collect();
                files.push((format!("{folder}/{}", path.join("/")), file.contents().to_vec()));
            }
        }
    }
}

pub(crate) fn is_ours(path: &str) -> bool {
    [".yml", ".yaml", ".sql", ".csv"].iter().any(|ending| path.ends_with(ending))
}
