//! UNNEST in FROM: its alias names the column, and an array of structs makes a column of each field.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Parens, Query, SetExpr, Spanned, TableAlias, TableAliasColumnDef, TableFactor, Values,
};

use super::super::error::Refusal;
use super::build::{ident, take};

fn column(name: Ident) -> TableAliasColumnDef {
    TableAliasColumnDef { name, data_type: None }
}

pub(crate) fn rewrite(factor: &mut TableFactor) -> Result<(), Box<Refusal>> {
    let TableFactor::UNNEST { alias, array_exprs, .. } = factor else { return Ok(()) };
    let mut own = alias.take().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: ident("f0_"),
        columns: Vec::new(),
        at: None,
    });
    let Some(array) = array_exprs.first_mut() else { return Ok(()) };
    if let Expr::Array(literal) = array
        && matches!(literal.elem.first(), Some(Expr::Struct { .. }))
    {
        let (names, rows) = structs(&mut literal.elem)?;
        own.columns = names.into_iter().map(column).collect();
        *factor =
            TableFactor::Derived { lateral: false, subquery: Box::new(values(rows)), alias: Some(own), sample: None };
        return Ok(());
    }
    own.columns = vec![column(own.name.clone())];
    *alias = Some(own);
    Ok(())
}

type Rows = Vec<Vec<Expr>>;

/// The names of the first struct's fields, and the rows of values.
fn structs(elements: &mut [Expr]) -> Result<(Vec<Ident>, Rows), Box<Refusal>> {
    let mut names: Vec<Ident> = Vec::new();
    let mut rows = Vec::with_capacity(elements.len());
    for element in elements.iter_mut() {
        let span = element.span();
        let Expr::Struct { values, fields } = element else {
            return Err(Refusal::new(span, "every element of this array must be a STRUCT"));
        };
        if rows.is_empty() {
            for (place, value) in values.iter().enumerate() {
                let declared = fields.get(place).and_then(|field| field.field_name.clone());
                let name = declared.or_else(|| match value {
                    Expr::Named { name, .. } | Expr::Identifier(name) => Some(name.clone()),
                    _ => None,
                });
                let Some(mut name) = name else {
                    return Err(Refusal::new(
                        span,
                        "the first STRUCT of an unnested array must name each of its fields",
                    ));
                };
                name.value = name.value.to_lowercase();
                names.push(name);
            }
        }
        if values.len() != names.len() {
            let message = format!("this STRUCT has {} fields where the first one has {}", values.len(), names.len());
            return Err(Refusal::new(span, message));
        }
        let types: Vec<_> = fields.iter().map(|field| field.field_type.clone()).collect();
        let row = values.iter_mut().enumerate().map(|(place, value)| {
            let value = match value {
                Expr::Named { expr, .. } => take(expr),
                other => take(other),
            };
            match types.get(place) {
                Some(data_type) => super::syntax::cast(value, data_type.clone()),
                None => value,
            }
        });
        rows.push(row.collect());
    }
    Ok((names, rows))
}

fn values(rows: Rows) -> Query {
    let rows = rows.into_iter().map(Parens::with_empty_span).collect();
    Query {
        with: None,
        body: Box::new(SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
