//! Small pieces of syntax tree.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// A name that stands nowhere in the text.
pub(crate) fn ident(name: &str) -> Ident {
    Ident { value: name.to_owned(), quote_style: None, span: Span::empty() }
}

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(ident(name))])
}

pub(crate) fn arg(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

pub(crate) fn list(args: Vec<FunctionArg>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

pub(crate) fn function(called: &str, args: Vec<Expr>) -> Function {
    Function {
        name: name(called),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: list(args.into_iter().map(arg).collect()),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

pub(crate) fn call(called: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(function(called, args))
}

pub(crate) fn text(value: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(value.into()))
}

pub(crate) fn number(value: impl ToString) -> Expr {
    Expr::value(Value::Number(value.to_string(), false))
}

pub(crate) fn null() -> Expr {
    Expr::value(Value::Null)
}

/// `CASE WHEN condition THEN result ELSE otherwise END`.
pub(crate) fn case(condition: Expr, result: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}

/// Takes an expression out of the tree, a NULL in its place.
pub(crate) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

/// The arguments of a call that has nothing but plain ones.
pub(crate) fn plain_args(function: &mut Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &mut function.args else {
        return matches!(function.args, FunctionArguments::None).then(Vec::new);
    };
    if !list.clauses.is_empty() || list.duplicate_treatment.is_some() || function.over.is_some() {
        return None;
    }
    std::mem::take(&mut list.args)
        .into_iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}
