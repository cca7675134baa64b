//! Calls of functions by the list of what is supported.

use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned};

use super::super::error::Refusal;
use super::super::functions::{PREFIX, SAFE_PREFIX};
use super::super::supported::{Rule, nearest, rule};
use super::aggregates;
use super::build::{call, case, name, plain_args, text};

type Done = Result<(), Box<Refusal>>;

/// The lower-case name of a function that the author calls, `SAFE.` left out; none for a call that
/// the rewriting made.
pub(crate) fn called(function: &Function) -> Option<String> {
    let last = function.name.0.last()?.as_ident()?;
    (last.span.start.line > 0).then(|| last.value.to_lowercase())
}

/// A plain argument's expression.
pub(crate) fn plain(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn is_safe(function: &Function) -> bool {
    function.name.0.len() == 2
}

/// Refuses a call of a function that is not supported.
pub(crate) fn check(expr: &Expr) -> Done {
    let Expr::Function(function) = expr else { return Ok(()) };
    let Some(known) = called(function) else { return Ok(()) };
    let span = function.name.span();
    let whole = function.name.to_string().to_uppercase();
    let safe = match function.name.0.as_slice() {
        [_] => false,
        [prefix, _] if prefix.to_string().eq_ignore_ascii_case("safe") => true,
        _ => {
            return Err(Refusal::new(span, format!("{whole} is not a BigQuery function that this warehouse supports")));
        }
    };
    let Some(rule) = rule(&known) else {
        let hint = nearest(&known).map_or(String::new(), |near| format!(", did you mean {}?", near.to_uppercase()));
        let message = format!("{whole} is not a BigQuery function that this warehouse supports{hint}");
        return Err(Refusal::new(span, message));
    };
    let ours = matches!(rule, Rule::Ours | Rule::OursAs(_) | Rule::Dated(_) | Rule::Interval(..));
    if safe && !ours {
        return Err(Refusal::new(span, format!("{whole} is not supported: SAFE. goes with scalar functions only")));
    }
    let may_over = matches!(rule, Rule::Aggregate(_) | Rule::Window(_))
        || matches!(known.as_str(), "any_value" | "array_agg" | "countif" | "string_agg");
    match (&function.over, rule) {
        (None, Rule::Window(_)) => Err(Refusal::new(span, format!("{whole} needs an OVER clause"))),
        (Some(_), _) if !may_over => Err(Refusal::new(span, format!("{whole} does not take an OVER clause"))),
        _ => Ok(()),
    }
}

/// Gives a call the name and shape of what it becomes.
pub(crate) fn up(expr: &mut Expr) -> Done {
    let Expr::Function(function) = expr else { return Ok(()) };
    let Some(known) = called(function) else { return Ok(()) };
    let span = function.name.span();
    let Some(rule) = rule(&known) else { return Ok(()) };
    let safe = is_safe(function);
    let ours = |known: &str, safe: bool| format!("{}{known}", if safe { SAFE_PREFIX } else { PREFIX });
    let becomes = match rule {
        Rule::Ours | Rule::Dated(_) | Rule::Interval(..) => ours(&known, safe),
        Rule::OursAs(other) => ours(other, safe || known.starts_with("safe_")),
        Rule::Native(other) => other.to_owned(),
        Rule::Aggregate(other) | Rule::Window(other) => {
            return aggregates::rename(function, other);
        }
        Rule::Special => {
            if let Some(done) = aggregates::special(function, &known)? {
                *expr = done;
                return Ok(());
            }
            let args = only_args(function, &known)?;
            *expr = special(&known, args).map_err(|what| Refusal::new(span, what))?;
            return Ok(());
        }
    };
    let args = only_args(function, &known)?;
    *expr = call(&becomes, args);
    Ok(())
}

/// The arguments of a scalar function, which has nothing else in its parentheses.
fn only_args(function: &mut Function, known: &str) -> Result<Vec<Expr>, Box<Refusal>> {
    let span = function.name.span();
    if matches!(function.args, FunctionArguments::None) && !known.starts_with("current_") {
        return Err(Refusal::new(span, format!("{} needs parentheses", known.to_uppercase())));
    }
    plain_args(function)
        .ok_or_else(|| Refusal::new(span, format!("{} takes plain arguments only", known.to_uppercase())))
}

fn now() -> Expr {
    call("bq_cast_timestamp", vec![call("now", vec![])])
}

fn special(known: &str, args: Vec<Expr>) -> Result<Expr, String> {
    let upper = known.to_uppercase();
    let wrong = |wanted: &str, given: usize| format!("{upper} takes {wanted}, not {given}");
    match known {
        "if" => {
            let given = args.len();
            let [condition, yes, no] = <[Expr; 3]>::try_from(args).map_err(|_| wrong("3 arguments", given))?;
            Ok(case(condition, yes, Some(no)))
        }
        "current_timestamp" if args.is_empty() => Ok(now()),
        "current_date" | "current_datetime" if args.len() <= 1 => {
            let function = if known == "current_date" { "bq_date" } else { "bq_datetime" };
            Ok(call(function, std::iter::once(now()).chain(args).collect()))
        }
        "md5" | "sha256" if args.len() == 1 => Ok(call("digest", args.into_iter().chain([text(known)]).collect())),
        "st_distance" if args.len() == 2 => Ok(call("bq_st_distance", args)),
        _ => Err(wrong("another number of arguments", args.len())),
    }
}

/// The name of a function of DataFusion's, its arguments kept as they are.
pub(crate) fn renamed(function: &mut Function, becomes: &str) {
    function.name = name(becomes);
}
