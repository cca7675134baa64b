//! BigQuery's syntax tree into the one that DataFusion plans with BigQuery's meaning.
//!
//! On the way down, shapes that only BigQuery has (date parts, intervals, `[OFFSET(0)]`, UNNEST)
//! become calls; on the way up, names of functions and types become DataFusion's or ours.
//!
//! Invariant: a call that the rewriting made bears a name without a place in the text, and so is
//! told from a call of the author's, each of which is looked up in [`super::supported`].

mod aggregates;
mod build;
mod calls;
mod dates;
mod literals;
mod select;
mod syntax;
mod unnest;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, Spanned, TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::error::Refusal;
use super::tables::Scopes;

type Flow = ControlFlow<Box<Refusal>>;

/// Rewrites a query in place.
pub(crate) fn rewrite(query: &mut Query) -> Result<(), Box<Refusal>> {
    let near = query.span();
    match query.visit(&mut Rewriter { scopes: Scopes::default(), near }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Rewriter {
    scopes: Scopes,
    /// The place of the last node that had one.
    near: Span,
}

impl Rewriter {
    fn settle(&self, result: Result<(), Box<Refusal>>) -> Flow {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(mut refusal) => {
                if refusal.at.line == 0 {
                    refusal.at = self.near.start;
                }
                ControlFlow::Break(refusal)
            }
        }
    }

    fn see(&mut self, span: Span) {
        if span.start.line > 0 {
            self.near = span;
        }
    }
}

impl VisitorMut for Rewriter {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        self.scopes.enter(query);
        select::lower_names(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> Flow {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        let result = select::refuse_array_paths(select);
        select::name_columns(select);
        select::qualify_using(select);
        self.settle(result)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        self.see(factor.span());
        let result = select::name_table(factor, &self.scopes).and_then(|()| unnest::rewrite(factor));
        self.settle(result)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        self.see(expr.span());
        let result = calls::check(expr).and_then(|()| syntax::down(expr));
        self.settle(result)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        self.see(expr.span());
        let result = syntax::up(expr).and_then(|()| calls::up(expr));
        self.settle(result)
    }
}
