//! What the syntax tree cannot see: arithmetic by the types of its arguments.
//!
//! BigQuery fails where an INT64 overflows and lets a DATE be moved by a number of days; DataFusion
//! wraps around and refuses. This rule runs where types are known and puts our functions there.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ScalarUDF, cast, lit};

use super::functions::scalar;

/// Replaces `+`, `-` and `*` of integers, and `+` and `-` of a date and an integer.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic {
    add: Option<Arc<ScalarUDF>>,
    subtract: Option<Arc<ScalarUDF>>,
    multiply: Option<Arc<ScalarUDF>>,
    negate: Option<Arc<ScalarUDF>>,
    date_add: Option<Arc<ScalarUDF>>,
    date_sub: Option<Arc<ScalarUDF>>,
}

impl CheckedArithmetic {
    pub(crate) fn new() -> Self {
        let find = |name| scalar(name).map(Arc::new);
        Self {
            add: find("add"),
            subtract: find("subtract"),
            multiply: find("multiply"),
            negate: find("negate"),
            date_add: find("date_add"),
            date_sub: find("date_sub"),
        }
    }
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Transformed<Expr> {
    Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args)))
}

/// An integer argument as an INT64; a literal stays one.
fn int64(expr: Expr, given: &DataType) -> Expr {
    if given == &DataType::Int64 { expr } else { cast(expr, DataType::Int64) }
}

impl FunctionRewrite for CheckedArithmetic {
    fn name(&self) -> &str {
        "checked_arithmetic"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        if let Expr::Negative(inner) = &expr {
            let literal =
                matches!(inner.as_ref(), Expr::Literal(ScalarValue::Int64(Some(value)), _) if *value != i64::MIN);
            if let (false, Some(negate), Ok(DataType::Int64)) = (literal, &self.negate, inner.get_type(schema)) {
                return Ok(call(negate, vec![inner.as_ref().clone()]));
            }
            return Ok(Transformed::no(expr));
        }
        let Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::Plus | Operator::Minus | Operator::Multiply),
            right,
        }) = expr
        else {
            return Ok(Transformed::no(expr));
        };
        // A subquery's outer columns have no type here; what cannot be typed is left as it is.
        if let (Ok(a), Ok(b)) = (left.get_type(schema), right.get_type(schema)) {
            if a.is_integer() && b.is_integer() {
                let function = match op {
                    Operator::Plus => &self.add,
                    Operator::Minus => &self.subtract,
                    _ => &self.multiply,
                };
                if let Some(function) = function {
                    return Ok(call(function, vec![int64(*left, &a), int64(*right, &b)]));
                }
            }
            let (moment, days, count) = match (&a, &b, op) {
                (DataType::Date32, other, Operator::Plus) if other.is_integer() => (&left, &right, &self.date_add),
                (DataType::Date32, other, Operator::Minus) if other.is_integer() => (&left, &right, &self.date_sub),
                (other, DataType::Date32, Operator::Plus) if other.is_integer() => (&right, &left, &self.date_add),
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            };
            if let Some(function) = count {
                let days = cast(days.as_ref().clone(), DataType::Int64);
                return Ok(call(function, vec![moment.as_ref().clone(), days, lit("DAY")]));
            }
        }
        Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
    }
}
