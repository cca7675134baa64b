use std::collections::BTreeSet;

use super::{project, wrong};
use crate::project::{Node, Project, ProjectError};

fn names(nodes: Vec<&Node>) -> Vec<&str> {
    nodes.into_iter().map(Node::name).collect()
}

fn two_datasets() -> Project {
    project(&[
        ("models/d/gold/z_first.sql", "select * from {{ source('raw', 'quakes') }}"),
        ("models/d/gold/a_last.sql", "select * from {{ ref('z_first') }} join {{ ref('codes') }} using (x)"),
        ("models/d/gold/b_last.sql", "select * from {{ ref('z_first') }}"),
        ("models/e/other.sql", "select * from {{ ref('codes') }}"),
        ("seeds/shared/codes.csv", "x\n1\n"),
        ("seeds/e/only_e.csv", "x\n1\n"),
    ])
}

#[test]
fn parents_come_first_then_names_decide() {
    let project = two_datasets();
    assert_eq!(names(project.topological("d")), ["codes", "z_first", "a_last", "b_last"]);
}

#[test]
fn a_dataset_has_its_own_nodes_and_the_shared_ones() {
    let project = two_datasets();
    assert_eq!(names(project.topological("e")), ["codes", "only_e", "other"]);
    assert_eq!(project.datasets(), BTreeSet::from(["d", "e"]));
}

#[test]
fn descendants_follow_models_seeds_and_sources() {
    let project = two_datasets();
    assert_eq!(names(project.descendants(["raw.quakes"])), ["z_first", "a_last", "b_last"]);
    assert_eq!(names(project.descendants(["codes"])), ["other", "a_last"]);
    assert_eq!(names(project.descendants(["z_first", "codes"])), ["other", "a_last", "b_last"]);
    assert!(project.descendants(["other"]).is_empty());
}

#[test]
fn a_circle_is_named_as_one_walks_it() {
    let error = wrong(&[
        ("models/d/a.sql", "{{ ref('b') }}"),
        ("models/d/b.sql", "{{ ref('c') }}"),
        ("models/d/c.sql", "{{ ref('a') }}"),
        ("models/d/d.sql", "{{ ref('a') }}"),
    ]);
    let ProjectError::Cycle { path } = &error else { panic!("{error}") };
    assert_eq!(path, &["a", "b", "c", "a"]);
    assert_eq!(error.to_string(), "the models need each other in a circle: a -> b -> c -> a");
}

#[test]
fn a_model_that_refers_to_itself_is_a_circle() {
    let error = wrong(&[("models/d/a.sql", "{{ ref('a') }}")]);
    assert!(matches!(&error, ProjectError::Cycle { path } if path == &["a", "a"]), "{error}");
}
