//! Names: of columns without one, of tables, and of everything that BigQuery compares without case.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    Spanned, TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::super::error::Refusal;
use super::super::tables::{Named, Scopes, parts};
use super::build::ident;

/// Names of common table expressions and their columns in lower case.
pub(crate) fn lower_names(query: &mut Query) {
    for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
        lower_alias(&mut cte.alias);
    }
}

fn lower(name: &mut Ident) {
    name.value = name.value.to_lowercase();
}

fn lower_alias(alias: &mut TableAlias) {
    lower(&mut alias.name);
    for column in &mut alias.columns {
        lower(&mut column.name);
    }
}

/// Gives each column of a select list the name that BigQuery gives it: that of the column or field
/// it reads, otherwise `f0_`, `f1_` and so on.
pub(crate) fn name_columns(select: &mut Select) {
    let path_name = |expr: &Expr| match expr {
        Expr::CompoundIdentifier(path) => path.last().map(|name| name.value.to_lowercase()),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(name))) => Some(name.value.to_lowercase()),
            _ => None,
        },
        _ => None,
    };
    let mut taken = HashSet::new();
    let mut twice = HashSet::new();
    for item in &select.projection {
        let name = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(name)) | SelectItem::ExprWithAlias { alias: name, .. } => {
                Some(name.value.to_lowercase())
            }
            SelectItem::UnnamedExpr(expr) => path_name(expr),
            _ => None,
        };
        if let Some(name) = name
            && !taken.insert(name.clone())
        {
            twice.insert(name);
        }
    }
    let mut nameless = 0;
    for item in &mut select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => lower(alias),
            SelectItem::UnnamedExpr(Expr::Identifier(_)) => {}
            SelectItem::UnnamedExpr(expr) => {
                let alias = match path_name(expr) {
                    // Two columns of one name stay apart by their tables.
                    Some(name) if twice.contains(&name) => continue,
                    Some(name) => name,
                    None => {
                        nameless += 1;
                        format!("f{}_", nameless - 1)
                    }
                };
                let expr = super::build::take(expr);
                *item = SelectItem::ExprWithAlias { expr, alias: ident(&alias) };
            }
            _ => {}
        }
    }
}

/// The planner finds an unqualified column of a USING ambiguous in WHERE: it is the first table's,
/// as every join that keeps another one's is refused.
pub(crate) fn qualify_using(select: &mut Select) {
    let [table] = select.from.as_slice() else { return };
    let using = |join: &Join| match &join.join_operator {
        JoinOperator::Join(JoinConstraint::Using(columns))
        | JoinOperator::Inner(JoinConstraint::Using(columns))
        | JoinOperator::Left(JoinConstraint::Using(columns))
        | JoinOperator::LeftOuter(JoinConstraint::Using(columns)) => columns
            .iter()
            .filter_map(|name| name.0.last()?.as_ident().map(|name| name.value.to_lowercase()))
            .collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let columns: HashSet<String> = table.joins.iter().flat_map(using).collect();
    let first = match &table.relation {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.value.to_lowercase())
        }
        TableFactor::Table { name, .. } => {
            parts(name).ok().and_then(|path| path.last().map(|last| last.to_lowercase()))
        }
        _ => None,
    };
    if let (Some(first), Some(selection)) = (first, &mut select.selection)
        && !columns.is_empty()
    {
        let _: ControlFlow<()> = selection.visit(&mut Qualifier { first: ident(&first), columns, depth: 0 });
    }
}

struct Qualifier {
    first: Ident,
    columns: HashSet<String>,
    depth: usize,
}

impl VisitorMut for Qualifier {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && self.depth == 0
            && self.columns.contains(&name.value.to_lowercase())
        {
            *expr = Expr::CompoundIdentifier(vec![self.first.clone(), name.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// `FROM t, t.array` unnests an array of each row of `t`.
pub(crate) fn refuse_array_paths(select: &Select) -> Result<(), Box<Refusal>> {
    let mut aliases = HashSet::new();
    for table in &select.from {
        for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
            let (TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }) = factor
            else {
                continue;
            };
            let mut own = alias.as_ref().map(|alias| alias.name.value.to_lowercase());
            if let TableFactor::Table { name, .. } = factor {
                let path = parts(name)?;
                if path.len() > 1 && aliases.contains(&path[0].to_lowercase()) {
                    return Err(Refusal::new(
                        name.span(),
                        format!("correlated UNNEST is not supported: {name} reads an array of each row"),
                    ));
                }
                own = own.or_else(|| path.last().map(|last| last.to_lowercase()));
            }
            aliases.extend(own);
        }
    }
    Ok(())
}

/// A table by its schema and name, which keep their case, under an alias in lower case.
pub(crate) fn name_table(factor: &mut TableFactor, scopes: &Scopes) -> Result<(), Box<Refusal>> {
    match factor {
        TableFactor::Table { name, alias, .. } => {
            let span = name.span();
            let quoted = |value: String| ObjectNamePart::Identifier(Ident { value, quote_style: Some('`'), span });
            match scopes.resolve(name)? {
                Named::Expression(expression) => *name = ObjectName(vec![quoted(expression)]),
                Named::Table(table) => {
                    if alias.is_none() {
                        let mut own = Ident::with_quote('`', table.table.to_lowercase());
                        own.span = span;
                        *alias = Some(TableAlias { explicit: true, name: own, columns: Vec::new(), at: None });
                    }
                    *name = ObjectName(table.schema.into_iter().chain([table.table]).map(quoted).collect());
                }
            }
            if let Some(alias) = alias {
                lower_alias(alias);
            }
        }
        TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => lower_alias(alias),
        _ => {}
    }
    Ok(())
}
