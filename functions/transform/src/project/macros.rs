//! The project's macros, which every model can call by their bare names.
//!
//! Invariant: a line of the joined text leads back to the macro file that it is from.

use std::collections::BTreeMap;

use super::error::{Place, ProjectError};
use super::jinja::{environment, failure};

/// The name that the project's macros have as a template.
pub(crate) const MACROS: &str = "macros";

/// All macro files as one template, so that every macro sees every other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Macros {
    text: String,
    names: Vec<String>,
    /// Where each file begins in the text: its first line, counted from 1.
    files: Vec<(usize, String)>,
}

impl Macros {
    /// Reads macro files; each has to be a template of its own.
    pub(crate) fn read(files: &[(&str, &str)]) -> Result<Self, ProjectError> {
        let mut macros = Self::default();
        let mut homes: BTreeMap<String, &str> = BTreeMap::new();
        let mut line = 1;
        for (file, text) in files {
            let mut env = environment();
            let exports = env
                .add_template(file, text)
                .and_then(|()| env.get_template(file)?.render_captured(()))
                .map(|module| module.state().exports().into_iter().map(str::to_owned).collect::<Vec<_>>())
                .map_err(|error| failure(&error, file, &Self::default()))?;
            for name in exports {
                if let Some(first) = homes.insert(name.clone(), file) {
                    return Err(ProjectError::Duplicate {
                        first: macro_place(first, files, &name),
                        second: macro_place(file, files, &name),
                        name,
                    });
                }
                macros.names.push(name);
            }
            macros.files.push((line, (*file).to_owned()));
            macros.text.push_str(text);
            macros.text.push('\n');
            line += text.matches('\n').count() + 1;
        }
        Ok(macros)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The file and line of a line of the whole.
    pub(super) fn place(&self, line: usize) -> Place {
        let home = self.files.iter().rev().find(|(first, _)| *first <= line);
        home.map_or_else(|| Place::new(MACROS, line), |(first, file)| Place::new(file, line - first + 1))
    }

    /// Makes every macro known by its bare name, without a line of its own.
    pub(super) fn import(&self) -> String {
        if self.names.is_empty() {
            return String::new();
        }
        format!("{{% from '{MACROS}' import {} %}}", self.names.join(", "))
    }
}

fn macro_place(file: &str, files: &[(&str, &str)], name: &str) -> Place {
    let text = files.iter().find(|(other, _)| *other == file).map_or("", |(_, text)| text);
    let line = text.lines().position(|line| line.contains("macro") && line.contains(name));
    Place::new(file, line.unwrap_or(0) + 1)
}
