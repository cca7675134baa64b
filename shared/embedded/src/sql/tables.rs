//! The tables that a text reads, and how a name of BigQuery's becomes one of DataFusion's.
//!
//! Invariant: a name is a table's unless it has one part and a common table expression that is
//! visible there bears it.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Spanned, TableFactor, Visit, Visitor};
use shared::warehouse::{Origin, SqlError};

use super::error::Refusal;
use super::parse::parse;
use super::refuse;

/// A table as SQL names it, the project left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The schema (BigQuery's dataset), if the text says it.
    pub schema: Option<String>,
    /// The table. As in BigQuery, case matters.
    pub table: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(formatter, "{schema}.{}", self.table),
            None => formatter.write_str(&self.table),
        }
    }
}

/// The tables that the query in `sql` reads, each once, in order of name.
pub fn tables(sql: &str, origin: &Origin) -> Result<Vec<Reference>, SqlError> {
    let (query, _) = parse(sql).map_err(|refusal| refusal.locate(origin))?;
    refuse::refuse(&query).map_err(|refusal| refusal.locate(origin))?;
    let mut finder = Finder { scopes: Scopes::default(), found: BTreeSet::new() };
    match query.visit(&mut finder) {
        ControlFlow::Continue(()) => Ok(finder.found.into_iter().collect()),
        ControlFlow::Break(refusal) => Err(refusal.locate(origin)),
    }
}

struct Finder {
    scopes: Scopes,
    found: BTreeSet<Reference>,
}

impl Visitor for Finder {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, .. } = factor {
            match self.scopes.resolve(name) {
                Ok(Named::Table(table)) => {
                    self.found.insert(table);
                }
                Ok(Named::Expression(_)) => {}
                Err(refusal) => return ControlFlow::Break(refusal),
            }
        }
        ControlFlow::Continue(())
    }
}

/// What a name in FROM stands for.
pub(crate) enum Named {
    /// A stored table.
    Table(Reference),
    /// A common table expression, in lower case.
    Expression(String),
}

/// The common table expressions that are visible at a place of the tree.
#[derive(Default)]
pub(crate) struct Scopes(Vec<Scope>);

#[derive(Default)]
struct Scope {
    visible: HashSet<String>,
    /// Those whose own query is not left yet: each becomes visible after it, as in BigQuery.
    pending: VecDeque<String>,
}

impl Scopes {
    pub(crate) fn enter(&mut self, query: &Query) {
        let mut scope = Scope::default();
        if let Some(with) = &query.with {
            let names = with.cte_tables.iter().map(|cte| cte.alias.name.value.to_lowercase());
            if with.recursive {
                scope.visible = names.collect();
            } else {
                scope.pending = names.collect();
            }
        }
        self.0.push(scope);
    }

    /// Leaves a query. The first queries directly inside another are those of its WITH, in order.
    pub(crate) fn leave(&mut self) {
        self.0.pop();
        if let Some(outer) = self.0.last_mut()
            && let Some(name) = outer.pending.pop_front()
        {
            outer.visible.insert(name);
        }
    }

    pub(crate) fn resolve(&self, name: &ObjectName) -> Result<Named, Box<Refusal>> {
        let parts = parts(name)?;
        if let [only] = parts.as_slice() {
            let lower = only.to_lowercase();
            if self.0.iter().any(|scope| scope.visible.contains(&lower)) {
                return Ok(Named::Expression(lower));
            }
        }
        let mut parts = parts.into_iter().rev();
        let table = parts.next().unwrap_or_default();
        let schema = parts.next();
        if table.is_empty() || schema.as_ref().is_some_and(String::is_empty) || parts.count() > 1 {
            let message = format!("{name} is not a table's name: write table, schema.table or project.schema.table");
            return Err(Refusal::new(name.span(), message));
        }
        Ok(Named::Table(Reference { schema, table }))
    }
}

/// The dotted parts of a name; dots inside backticks separate too, as in BigQuery.
pub(crate) fn parts(name: &ObjectName) -> Result<Vec<String>, Box<Refusal>> {
    let mut all = Vec::new();
    for part in &name.0 {
        let Some(Ident { value, quote_style, .. }) = part.as_ident() else {
            return Err(Refusal::new(name.span(), format!("{name} is not a table's name")));
        };
        if quote_style.is_some() {
            all.extend(value.split('.').map(str::to_owned));
        } else {
            all.push(value.clone());
        }
    }
    Ok(all)
}
