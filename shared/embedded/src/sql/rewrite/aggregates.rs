//! Aggregates and window functions.
//!
//! Invariant: where BigQuery may choose any answer (ANY_VALUE, ties of MAX_BY), ours depends on the
//! values alone, so that an incremental table equals its rebuild.

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, NullTreatment, OrderByExpr,
    OrderByOptions, Spanned, Value,
};

use super::super::error::Refusal;
use super::build::{call, case, function, number, text};
use super::calls::{plain, renamed};

type Done = Result<(), Box<Refusal>>;

/// An aggregate or window function by DataFusion's name, what is in its parentheses checked.
pub(crate) fn rename(function: &mut Function, becomes: &str) -> Done {
    let span = function.name.span();
    let upper = function.name.to_string().to_uppercase();
    if let FunctionArguments::List(list) = &mut function.args {
        for clause in &list.clauses {
            let allowed = match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => match becomes {
                    "first_value" | "last_value" | "nth_value" | "lag" | "lead" => true,
                    // They leave NULLs out anyway.
                    _ => becomes.starts_with("bq_") && *treatment == NullTreatment::IgnoreNulls,
                },
                _ => false,
            };
            if !allowed {
                return Err(Refusal::new(span, format!("{upper} with {clause} is not supported")));
            }
        }
        if becomes.starts_with("bq_") {
            list.clauses.clear();
        }
        // COUNT() and the like reach the planner, which says what is missing.
    } else {
        return Err(Refusal::new(span, format!("{upper} needs parentheses")));
    }
    renamed(function, becomes);
    Ok(())
}

/// What is in the parentheses of an aggregate.
struct Inside {
    args: Vec<Expr>,
    distinct: bool,
    ignore_nulls: bool,
    order_by: Vec<OrderByExpr>,
    limit: Option<Expr>,
}

fn inside(function: &mut Function, upper: &str) -> Result<Inside, Box<Refusal>> {
    let span = function.name.span();
    let refuse = |what: String| Err(Refusal::new(span, what));
    let FunctionArguments::List(list) = &mut function.args else {
        return refuse(format!("{upper} needs parentheses"));
    };
    let mut found = Inside {
        args: list.args.iter().filter_map(plain).cloned().collect(),
        distinct: list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
        ignore_nulls: false,
        order_by: Vec::new(),
        limit: None,
    };
    if found.args.len() != list.args.len() {
        return refuse(format!("{upper} takes no *"));
    }
    for clause in std::mem::take(&mut list.clauses) {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => {
                found.ignore_nulls = treatment == NullTreatment::IgnoreNulls;
            }
            FunctionArgumentClause::OrderBy(order_by) => found.order_by = order_by,
            FunctionArgumentClause::Limit(limit) => found.limit = Some(limit),
            other => return refuse(format!("{upper} with {other} is not supported")),
        }
    }
    Ok(found)
}

fn ordered(expr: Expr, ascending: bool) -> OrderByExpr {
    let options = OrderByOptions { asc: Some(ascending), nulls_first: Some(false) };
    OrderByExpr { expr, options, with_fill: None }
}

/// The aggregates that need more than another name; none if `known` is not one of them.
pub(crate) fn special(whole: &mut Function, known: &str) -> Result<Option<Expr>, Box<Refusal>> {
    if !matches!(known, "any_value" | "array_agg" | "countif" | "max_by" | "min_by" | "string_agg") {
        return Ok(None);
    }
    let span = whole.name.span();
    let upper = known.to_uppercase();
    let over = whole.over.take();
    let Inside { mut args, distinct, ignore_nulls, order_by, limit } = inside(whole, &upper)?;
    let refuse = |what: &str| Err(Refusal::new(span, format!("{upper} {what}")));
    let wanted = if matches!(known, "max_by" | "min_by") {
        2..=2
    } else if known == "string_agg" {
        1..=2
    } else {
        1..=1
    };
    if !wanted.contains(&args.len()) {
        return refuse(&format!("does not take {} arguments", args.len()));
    }
    if !matches!(known, "array_agg" | "string_agg")
        && (distinct || ignore_nulls || !order_by.is_empty() || limit.is_some())
    {
        return refuse("takes plain arguments only");
    }
    let mut becomes = match known {
        "any_value" => function("min", args),
        "countif" => function("count", vec![case(args.swap_remove(0), number(1), None)]),
        "max_by" | "min_by" => {
            let by = args.swap_remove(1);
            let value = args.swap_remove(0);
            let mut first = function("first_value", vec![value.clone()]);
            add_clause(
                &mut first,
                FunctionArgumentClause::OrderBy(vec![ordered(by.clone(), known == "min_by"), ordered(value, true)]),
            );
            first.filter = Some(Box::new(Expr::IsNotNull(Box::new(by))));
            first
        }
        "string_agg" => {
            if limit.is_some() {
                return refuse("with LIMIT is not supported");
            }
            if args.len() == 1 {
                args.push(text(","));
            }
            function("string_agg", args)
        }
        _ => function("array_agg", args),
    };
    if let FunctionArguments::List(list) = &mut becomes.args {
        list.duplicate_treatment = distinct.then_some(DuplicateTreatment::Distinct);
    }
    if ignore_nulls {
        if over.is_some() {
            return refuse("with IGNORE NULLS and OVER is not supported");
        }
        if known == "array_agg" {
            add_clause(&mut becomes, FunctionArgumentClause::IgnoreOrRespectNulls(NullTreatment::IgnoreNulls));
        }
    }
    if !order_by.is_empty() {
        add_clause(&mut becomes, FunctionArgumentClause::OrderBy(order_by));
    }
    if over.is_some() && limit.is_some() {
        return refuse("with LIMIT and OVER is not supported");
    }
    becomes.over = over;
    Ok(Some(match limit {
        Some(Expr::Value(count)) if matches!(count.value, Value::Number(..)) => {
            call("array_slice", vec![Expr::Function(becomes), number(1), Expr::Value(count)])
        }
        Some(_) => return refuse("takes a number as LIMIT"),
        None => Expr::Function(becomes),
    }))
}

fn add_clause(function: &mut Function, clause: FunctionArgumentClause) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.clauses.push(clause);
    }
}
