//! Small projects, made in memory, each to show one rule; and the embedded one.

mod arbitrary;
mod data_tests;
mod embedded;
mod graph;
mod lines;
mod refusals;
mod rendering;
mod seeds;
mod settings;

use super::{Model, Project, ProjectError, RenderContext};

const PROJECT: &str = "name: small\nmodels:\n  +schema: silver\nseeds:\n  +schema: silver\n";
const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: quakes\n";

/// Loads a project of these files, with a `dbt_project.yml` unless they hold one.
fn load(files: &[(&str, &str)]) -> Result<Project, ProjectError> {
    let plain = [("dbt_project.yml", PROJECT), ("models/d/sources.yml", SOURCES)];
    Project::load(plain.iter().chain(files).map(|(path, text)| (*path, *text)))
}

fn project(files: &[(&str, &str)]) -> Project {
    match load(files) {
        Ok(project) => project,
        Err(error) => panic!("{error}"),
    }
}

/// What is wrong with a project of these files.
fn wrong(files: &[(&str, &str)]) -> ProjectError {
    match load(files) {
        Ok(_) => panic!("the project loads"),
        Err(error) => error,
    }
}

fn model<'p>(project: &'p Project, name: &str) -> &'p Model {
    project.model(name).expect("the model is there")
}

fn sql(model: &Model, incremental: bool) -> String {
    let context = RenderContext { incremental, ..RenderContext::default() };
    model.render(&context).expect("it renders").sql
}
