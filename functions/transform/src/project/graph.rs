//! Who needs whom.
//!
//! Invariant: the order is total and depends on names only, and whoever is needed comes before who needs it.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ProjectError;

/// For each node, the nodes it needs. A name that is no node of its own is a source.
pub(crate) type Parents = BTreeMap<String, BTreeSet<String>>;

/// All nodes, parents first, and by name where that leaves a choice.
pub(crate) fn order(parents: &Parents) -> Result<Vec<String>, ProjectError> {
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, needed) in parents {
        let nodes = needed.iter().filter(|parent| parents.contains_key(*parent));
        waiting.insert(name, nodes.clone().count());
        for parent in nodes {
            children.entry(parent).or_default().push(name);
        }
    }
    let mut ready: BTreeSet<&str> = waiting.iter().filter(|(_, left)| **left == 0).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(parents.len());
    while let Some(name) = ready.pop_first() {
        order.push(name.to_owned());
        for child in children.get(name).into_iter().flatten().copied() {
            if let Some(left) = waiting.get_mut(child) {
                *left -= 1;
                if *left == 0 {
                    ready.insert(child);
                }
            }
        }
    }
    if order.len() == parents.len() { Ok(order) } else { Err(ProjectError::Cycle { path: cycle(parents, &waiting) }) }
}

/// A circle among the nodes that were never ready. Each of them still waits for another of them, so that following the
/// first such parent must come back somewhere.
fn cycle(parents: &Parents, waiting: &BTreeMap<&str, usize>) -> Vec<String> {
    let stuck = |name: &str| waiting.get(name).is_some_and(|left| *left > 0);
    let mut path: Vec<&str> = Vec::new();
    let mut next = waiting.keys().copied().find(|name| stuck(name));
    while let Some(name) = next {
        if let Some(start) = path.iter().position(|seen| *seen == name) {
            let mut circle: Vec<String> = path[start..].iter().map(|name| (*name).to_owned()).collect();
            // Told from its first name in the alphabet, whoever was met first.
            let first = (0..circle.len()).min_by_key(|&at| circle[at].clone()).unwrap_or(0);
            circle.rotate_left(first);
            circle.push(circle[0].clone());
            return circle;
        }
        path.push(name);
        next = parents.get(name).into_iter().flatten().map(String::as_str).find(|parent| stuck(parent));
    }
    Vec::new()
}

/// Everything that needs one of the names, directly or not, without the names themselves unless they need each other.
pub(crate) fn descendants(parents: &Parents, names: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, needed) in parents {
        for parent in needed {
            children.entry(parent).or_default().push(name);
        }
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = names.iter().copied().collect();
    while let Some(name) = open.pop() {
        for child in children.get(name).into_iter().flatten().copied() {
            if found.insert(child.to_owned()) {
                open.push(child);
            }
        }
    }
    found
}
