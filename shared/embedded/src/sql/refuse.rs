//! What is outside the supported subset, refused before anything is rewritten.
//!
//! Invariant: what passes here is BigQuery's syntax and is run with BigQuery's meaning, or is
//! refused later by name; a construct that is not known to be so is refused, not tried.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, Distinct, Expr, FunctionArg, FunctionArgumentClause, FunctionArguments,
    GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Spanned, Subscript, TableFactor,
    UnaryOperator, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::error::Refusal;
use super::functions::is_part;
use super::reserved::refused_name;

type Flow = ControlFlow<Box<Refusal>>;

/// Looks through the whole tree for what is not supported.
pub(crate) fn refuse(query: &Query) -> Result<(), Box<Refusal>> {
    match query.visit(&mut Refuser { near: query.span() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Refuser {
    /// The place of the last node that had one: some nodes of the tree have none.
    near: Span,
}

impl Refuser {
    fn no<T>(&self, span: Span, what: &str) -> ControlFlow<Box<Refusal>, T> {
        let span = if span.start.line > 0 { span } else { self.near };
        ControlFlow::Break(Refusal::new(span, what))
    }

    fn see(&mut self, span: Span) -> Span {
        if span.start.line > 0 {
            self.near = span;
        }
        self.near
    }
}

/// What a part of the tree is, if it is one that is not supported.
fn refused_query(query: &Query) -> Option<&'static str> {
    let unsupported = [
        (!query.pipe_operators.is_empty(), "pipe syntax is not supported: write a query with SELECT"),
        (query.fetch.is_some(), "FETCH is not BigQuery's: write LIMIT"),
        (!query.locks.is_empty(), "FOR UPDATE is not supported"),
        (
            query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some(),
            "this clause after the query is not BigQuery's",
        ),
        (
            matches!(query.limit_clause, Some(LimitClause::OffsetCommaLimit { .. })),
            "LIMIT with a comma is not BigQuery's: write LIMIT ... OFFSET ...",
        ),
    ];
    unsupported.into_iter().find_map(|(found, what)| found.then_some(what))
}

fn refused_body(body: &SetExpr) -> Option<&'static str> {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) => None,
        SetExpr::SetOperation { op, set_quantifier, .. } => match (op, set_quantifier) {
            (SetOperator::Union, SetQuantifier::All) | (_, SetQuantifier::Distinct) => None,
            (SetOperator::Union, SetQuantifier::None) => {
                Some("UNION alone is not BigQuery's: write UNION ALL or UNION DISTINCT")
            }
            (_, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName) => {
                Some("set operations BY NAME are not supported")
            }
            _ => Some("this set operation is not BigQuery's: write EXCEPT DISTINCT or INTERSECT DISTINCT"),
        },
        SetExpr::Values(_) => Some("VALUES as a query is not BigQuery's: write UNNEST of an array of structs"),
        _ => Some("only SELECT is supported as a query"),
    }
}

fn refused_select(select: &Select) -> Option<&'static str> {
    use datafusion::sql::sqlparser::ast::ValueTableMode::{AsStruct, AsValue, DistinctAsStruct, DistinctAsValue};
    match &select.value_table_mode {
        Some(AsStruct | DistinctAsStruct) => return Some("SELECT AS STRUCT is not supported"),
        Some(AsValue | DistinctAsValue) => return Some("SELECT AS VALUE is not supported"),
        None => {}
    }
    let grouping = match &select.group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => !modifiers.is_empty(),
    };
    let unsupported = [
        (
            select.flavor != SelectFlavor::Standard,
            "a query that begins with FROM is pipe syntax, which is not supported",
        ),
        (matches!(select.distinct, Some(Distinct::On(_))), "DISTINCT ON is not BigQuery's: write QUALIFY ROW_NUMBER()"),
        (select.top.is_some(), "TOP is not BigQuery's: write LIMIT"),
        (select.into.is_some(), "SELECT INTO is not supported"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW is not BigQuery's"),
        (grouping, "GROUP BY ... WITH is not BigQuery's: write GROUP BY ROLLUP(...)"),
        (
            select.exclude.is_some()
                || select.prewhere.is_some()
                || !select.connect_by.is_empty()
                || !select.cluster_by.is_empty()
                || !select.distribute_by.is_empty()
                || !select.sort_by.is_empty(),
            "this clause of SELECT is not BigQuery's",
        ),
    ];
    unsupported.into_iter().find_map(|(found, what)| found.then_some(what))
}

fn refused_join(join: &Join) -> Option<&'static str> {
    let (constraint, keeps_left) = match &join.join_operator {
        JoinOperator::Join(on)
        | JoinOperator::Inner(on)
        | JoinOperator::Left(on)
        | JoinOperator::LeftOuter(on)
        | JoinOperator::CrossJoin(on) => (on, true),
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) | JoinOperator::FullOuter(on) => (on, false),
        _ => return Some("this kind of join is not BigQuery's"),
    };
    match constraint {
        JoinConstraint::Natural => Some("NATURAL JOIN is not BigQuery's: write USING"),
        // BigQuery's column is that of either side; the planner's would be that of the left one.
        JoinConstraint::Using(_) if !keeps_left => Some("RIGHT and FULL JOIN with USING are not supported: write ON"),
        _ => None,
    }
}

fn refused_factor(factor: &TableFactor) -> Option<&'static str> {
    match factor {
        TableFactor::Table {
            args,
            version,
            sample,
            with_hints,
            with_ordinality,
            partitions,
            json_path,
            index_hints,
            ..
        } => {
            let unsupported = [
                (sample.is_some(), "TABLESAMPLE is not supported"),
                (version.is_some(), "FOR SYSTEM_TIME AS OF is not supported"),
                (args.is_some(), "table functions are not supported"),
                (
                    !with_hints.is_empty()
                        || *with_ordinality
                        || !partitions.is_empty()
                        || json_path.is_some()
                        || !index_hints.is_empty(),
                    "this clause after a table is not BigQuery's",
                ),
            ];
            unsupported.into_iter().find_map(|(found, what)| found.then_some(what))
        }
        TableFactor::Derived { lateral: true, .. } => Some("LATERAL is not BigQuery's"),
        TableFactor::Derived { sample: Some(_), .. } => Some("TABLESAMPLE is not supported"),
        TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => None,
        TableFactor::UNNEST { with_offset: true, .. } | TableFactor::UNNEST { with_offset_alias: Some(_), .. } => {
            Some("UNNEST WITH OFFSET is not supported")
        }
        TableFactor::UNNEST { with_ordinality: true, .. } => Some("WITH ORDINALITY is not BigQuery's"),
        TableFactor::UNNEST { array_exprs, .. } if array_exprs.len() != 1 => {
            Some("UNNEST of more than one array is not supported")
        }
        TableFactor::UNNEST { array_exprs, .. } if array_exprs.iter().any(reads_columns) => {
            Some("correlated UNNEST is not supported: only an array of constants or of a subquery can be unnested")
        }
        TableFactor::UNNEST { .. } => None,
        TableFactor::Pivot { .. } => Some("PIVOT is not supported: write an aggregate with IF for each column"),
        TableFactor::Unpivot { .. } => Some("UNPIVOT is not supported: write UNION ALL of a query for each column"),
        _ => Some("this kind of table is not supported"),
    }
}

/// Whether an expression reads a column of the query around it.
fn reads_columns(expr: &Expr) -> bool {
    struct Columns {
        depth: usize,
    }
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                // A word such as MONTH is a date part here, and no column can be read anyway.
                Expr::Identifier(name) if is_part(&name.value) => ControlFlow::Continue(()),
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.depth == 0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Columns { depth: 0 }).is_break()
}

/// The first EXISTS or IN with a subquery in an expression itself, those inside subqueries left out.
fn predicate_in(expr: &Expr) -> Option<(Span, &'static str)> {
    struct Predicates {
        depth: usize,
    }
    type Found = ControlFlow<(Span, &'static str)>;
    impl Visitor for Predicates {
        type Break = (Span, &'static str);
        fn pre_visit_query(&mut self, _query: &Query) -> Found {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _query: &Query) -> Found {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
            match expr {
                Expr::Exists { subquery, .. } if self.depth == 0 => ControlFlow::Break((
                    subquery.span(),
                    "EXISTS in the select list is not supported: write a join or COUNT",
                )),
                Expr::InSubquery { .. } if self.depth == 0 => {
                    ControlFlow::Break((expr.span(), "IN a subquery in the select list is not supported: write a join"))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Predicates { depth: 0 }).break_value()
}

fn refused_operator(op: &BinaryOperator) -> Option<String> {
    use BinaryOperator::{
        And, BitwiseAnd, BitwiseOr, Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Multiply, NotEq, Or, PGBitwiseShiftLeft,
        PGBitwiseShiftRight, Plus, StringConcat,
    };
    match op {
        And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | Plus | Minus | Multiply | Divide | StringConcat
        | BitwiseAnd | BitwiseOr | PGBitwiseShiftLeft | PGBitwiseShiftRight => None,
        BinaryOperator::Modulo => Some("% is not BigQuery's: write MOD(a, b)".into()),
        other => Some(format!("the operator {other} is not supported")),
    }
}

fn refused_expr(expr: &Expr) -> Option<String> {
    let what = match expr {
        Expr::BinaryOp { op, .. } => return refused_operator(op),
        Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::Minus | UnaryOperator::Plus, .. } => return None,
        Expr::UnaryOp { op, .. } => return Some(format!("the operator {op} is not supported")),
        Expr::Cast { kind: CastKind::DoubleColon, .. } => "`::` is not BigQuery's: write CAST(... AS ...)",
        Expr::Cast { kind: CastKind::TryCast, .. } => "TRY_CAST is not BigQuery's: write SAFE_CAST",
        Expr::Cast { format: Some(_), .. } => {
            "CAST with FORMAT is not supported: write FORMAT_DATE, PARSE_DATE and the like"
        }
        Expr::ILike { .. } => "ILIKE is not BigQuery's: write LOWER(...) LIKE",
        Expr::Like { any: true, .. } | Expr::AnyOp { .. } | Expr::AllOp { .. } => {
            "LIKE ANY, SOME and ALL are not supported"
        }
        Expr::Like { escape_char: Some(_), .. } => "LIKE with ESCAPE is not BigQuery's",
        Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => "IS UNKNOWN is not supported: write IS NULL",
        Expr::Tuple(_) => "a tuple is not supported: compare column by column",
        Expr::Value(value) => match &value.value {
            Value::Placeholder(_) => "query parameters are not supported",
            Value::DollarQuotedString(_) | Value::NationalStringLiteral(_) | Value::EscapedStringLiteral(_) => {
                "this kind of string is not BigQuery's"
            }
            _ => return None,
        },
        Expr::Identifier(name) if name.value.starts_with('@') => "query parameters and variables are not supported",
        Expr::CompoundFieldAccess { access_chain, .. } => {
            let slice = |access: &AccessExpr| matches!(access, AccessExpr::Subscript(Subscript::Slice { .. }));
            if access_chain.iter().any(slice) { "a slice of an array is not BigQuery's" } else { return None }
        }
        Expr::Function(function) => {
            if !matches!(function.parameters, FunctionArguments::None) || !function.within_group.is_empty() {
                "WITHIN GROUP is not BigQuery's"
            } else if function.filter.is_some() {
                "FILTER is not BigQuery's: write an aggregate of IF(..., ..., NULL)"
            } else {
                match &function.args {
                    FunctionArguments::Subquery(_) => "ARRAY(subquery) is not supported: write ARRAY_AGG",
                    FunctionArguments::List(list) => {
                        let having =
                            list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::Having(_)));
                        let named = list.args.iter().any(|arg| !matches!(arg, FunctionArg::Unnamed(_)));
                        match (having, named) {
                            (true, _) => "HAVING MAX and HAVING MIN are not supported: write MAX_BY or MIN_BY",
                            (_, true) => "named arguments are not supported",
                            _ => return None,
                        }
                    }
                    FunctionArguments::None => return None,
                }
            }
        }
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::InUnnest { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::Cast { .. }
        | Expr::AtTimeZone { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Nested(_)
        | Expr::TypedString(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_)
        | Expr::Struct { .. }
        | Expr::Named { .. }
        | Expr::Array(_)
        | Expr::Interval(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..) => return None,
        _ => "this expression is not supported",
    };
    Some(what.to_owned())
}

impl Visitor for Refuser {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let span = self.see(query.span());
        if let Some(what) = refused_query(query).or_else(|| refused_body(&query.body)) {
            return self.no(span, what);
        }
        // The sides of a set operation are no queries of their own to the visitor.
        let mut sides = vec![query.body.as_ref()];
        while let Some(side) = sides.pop() {
            if let Some(what) = refused_body(side) {
                return self.no(side.span(), what);
            }
            if let SetExpr::SetOperation { left, right, .. } = side {
                sides.extend([right.as_ref(), left.as_ref()]);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let span = self.see(select.select_token.0.span);
        if let Some(what) = refused_select(select) {
            return self.no(span, what);
        }
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item
                && let Some(what) = refused_name(alias)
            {
                return self.no(alias.span, &what);
            }
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    if let Some((span, what)) = predicate_in(expr) {
                        return self.no(span, what);
                    }
                }
                SelectItem::Wildcard(options)
                | SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), options) => {
                    if options.opt_ilike.is_some()
                        || options.opt_exclude.is_some()
                        || options.opt_rename.is_some()
                        || options.opt_alias.is_some()
                    {
                        return self.no(item.span(), "this option of * is not BigQuery's: write EXCEPT or REPLACE");
                    }
                }
                _ => return self.no(item.span(), "this item of a select list is not supported"),
            }
        }
        for join in select.from.iter().flat_map(|table| &table.joins) {
            if let Some(what) = refused_join(join) {
                return self.no(join.relation.span(), what);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        let span = self.see(factor.span());
        if let TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } = factor
            && let Some(what) = refused_name(&alias.name)
        {
            return self.no(alias.name.span, &what);
        }
        match refused_factor(factor) {
            Some(what) => self.no(span, what),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        let span = self.see(expr.span());
        // After a dot any word is a name.
        if let Expr::Identifier(name) = expr
            && let Some(what) = refused_name(name)
        {
            return self.no(name.span, &what);
        }
        match refused_expr(expr) {
            Some(what) => self.no(span, &what),
            None => ControlFlow::Continue(()),
        }
    }
}
