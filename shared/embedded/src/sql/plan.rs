//! Text to a plan, or to an error that says where.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use shared::warehouse::{Origin, SqlError};

use super::error::{Refusal, from_planner};
use super::parse::parse;
use super::refuse::refuse;
use super::rewrite::rewrite;

/// Plans the one query in `sql`, an SQL text of BigQuery's, against the tables of `context`, which
/// is a [`super::session`].
///
/// The plan is not optimized, but it is one that can be: types are checked here, constants folded
/// and subqueries tried, so that what is wrong with a text is said before it runs.
///
/// # Errors
/// What does not parse, is outside the supported subset, or does not fit the tables.
pub async fn plan(context: &SessionContext, sql: &str, origin: &Origin) -> Result<LogicalPlan, SqlError> {
    let (mut query, tokens) = parse(sql).map_err(|refusal| refusal.locate(origin))?;
    refuse(&query).and_then(|()| rewrite(&mut query)).map_err(|refusal| refusal.locate(origin))?;
    let statement = PlannerStatement::Statement(Box::new(Statement::Query(query)));
    let state = context.state();
    let wrong = |error: DataFusionError| from_planner(&error, |name| find(&tokens, name)).locate(origin);
    let plan = state.statement_to_plan(statement).await.map_err(wrong)?;
    let optimized = state.optimize(&plan).map_err(wrong)?;
    if let Some((what, word)) = left_over(&optimized).map_err(wrong)? {
        let first = tokens.first().map_or(Location::new(1, 1), |token| token.span.start);
        let at = find(&tokens, word).unwrap_or(first);
        return Err(Refusal { at, message: what.to_owned() }.locate(origin));
    }
    Ok(plan)
}

/// The first place in the text where a name stands as a word.
fn find(tokens: &[TokenWithSpan], name: &str) -> Option<Location> {
    let is_name = |token: &&TokenWithSpan| match &token.token {
        Token::Word(word) => {
            word.value.eq_ignore_ascii_case(name)
                || word.value.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(name))
        }
        _ => false,
    };
    tokens.iter().find(is_name).map(|token| token.span.start)
}

/// A subquery that the optimizer could not turn into a join cannot be run: what it is, and a word
/// of the text that may stand there.
fn left_over(plan: &LogicalPlan) -> Result<Option<(&'static str, &'static str)>, DataFusionError> {
    const PLACE: &str = "a subquery in this place is not supported: write a join";
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = match expr {
                    Expr::OuterReferenceColumn(..) => {
                        Some(("a correlated subquery of this form is not supported: write a join", ""))
                    }
                    Expr::Exists(_) => Some((PLACE, "exists")),
                    Expr::InSubquery(_) => Some((PLACE, "in")),
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                Ok(TreeNodeRecursion::Stop)
            })
        })
    })?;
    Ok(found)
}
