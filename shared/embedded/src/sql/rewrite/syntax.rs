//! Expressions that are no calls in BigQuery's syntax: operators, casts, arrays, structs, EXTRACT.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function,
    FunctionArgumentClause, FunctionArguments, Spanned, Subscript, TimezoneInfo, UnaryOperator, Value,
};

use super::super::error::Refusal;
use super::build::{call, plain_args, take, text};
use super::{calls, dates, literals};

type Done = Result<(), Box<Refusal>>;

/// On the way down: shapes that only BigQuery has.
pub(crate) fn down(expr: &mut Expr) -> Done {
    match expr {
        Expr::BinaryOp { .. } => dates::interval_arithmetic(expr),
        Expr::Extract { .. } => dates::extract(expr),
        Expr::CompoundFieldAccess { .. } => access(expr),
        Expr::InUnnest { .. } => {
            in_unnest(expr);
            Ok(())
        }
        Expr::Function(function) => match calls::called(function) {
            Some(name) => {
                dates::down(function, &name)?;
                if name == "st_distance" {
                    points(function);
                }
                Ok(())
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// `ST_DISTANCE(ST_GEOGPOINT(a, b), ST_GEOGPOINT(c, d))` without the texts of the two points.
fn points(function: &mut Function) {
    let FunctionArguments::List(list) = &function.args else { return };
    let coordinates = |expr: &Expr| match expr {
        Expr::Function(inner) if calls::called(inner).as_deref() == Some("st_geogpoint") => {
            plain_args(&mut inner.clone()).filter(|args| args.len() == 2)
        }
        _ => None,
    };
    let exprs: Vec<_> = list.args.iter().filter_map(calls::plain).collect();
    if let [a, b] = exprs.as_slice()
        && let (Some(a), Some(b)) = (coordinates(a), coordinates(b))
    {
        *function = super::build::function("bq_great_circle", a.into_iter().chain(b).collect());
    }
}

/// `x[OFFSET(0)]`, `x.field` and chains of them.
fn access(expr: &mut Expr) -> Done {
    let span = expr.span();
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return Ok(()) };
    let mut value = take(root);
    for step in std::mem::take(access_chain) {
        value = match step {
            AccessExpr::Dot(Expr::Identifier(name)) => call("get_field", vec![value, text(name.value.to_lowercase())]),
            AccessExpr::Subscript(Subscript::Index { index }) => element(value, index)?,
            _ => return Err(Refusal::new(span, "this way into an array or struct is not supported")),
        };
    }
    *expr = value;
    Ok(())
}

fn element(array: Expr, index: Expr) -> Result<Expr, Box<Refusal>> {
    let span = index.span();
    let (mode, mut index) = match index {
        Expr::Function(mut function) => {
            let mode = function.name.to_string().to_uppercase();
            let args = plain_args(&mut function).unwrap_or_default();
            match (mode.as_str(), <[Expr; 1]>::try_from(args)) {
                ("OFFSET" | "SAFE_OFFSET" | "ORDINAL" | "SAFE_ORDINAL", Ok([index])) => (mode, index),
                _ => (String::from("OFFSET"), Expr::Function(function)),
            }
        }
        Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_) | Value::DoubleQuotedString(_)) => {
            return Err(Refusal::new(span, "a subscript by name is for JSON, which is not supported"));
        }
        other => (String::from("OFFSET"), other),
    };
    // The first of an ordered array needs no array.
    if let Expr::Function(function) = &array
        && calls::called(function).as_deref() == Some("array_agg")
        && mode.ends_with("OFFSET")
        && matches!(&index, Expr::Value(value) if value.value == Value::Number("0".into(), false))
        && let Some(first) = first_of(function)
    {
        return Ok(first);
    }
    let index = take(&mut index);
    Ok(call("bq_array_at", vec![array, index, text(mode)]))
}

/// `ARRAY_AGG(x ORDER BY y LIMIT 1)` as the first value.
fn first_of(function: &Function) -> Option<Expr> {
    let mut function = function.clone();
    let FunctionArguments::List(list) = &mut function.args else { return None };
    if list.duplicate_treatment.is_some() || function.over.is_some() {
        return None;
    }
    list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::Limit(_)));
    function.name = super::build::name("first_value");
    Some(Expr::Function(function))
}

fn in_unnest(expr: &mut Expr) {
    let Expr::InUnnest { expr: value, array_expr, negated } = expr else { return };
    let negated = *negated;
    let value = take(value);
    *expr = match take(array_expr) {
        Expr::Array(array) if !array.elem.is_empty() => {
            Expr::InList { expr: Box::new(value), list: array.elem, negated }
        }
        array => {
            let found = call("bq_in_array", vec![value, array]);
            if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) } } else { found }
        }
    };
}

/// On the way up: BigQuery's operators and types as calls.
pub(crate) fn up(expr: &mut Expr) -> Done {
    let span = expr.span();
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => literals::names(expr),
        Expr::Value(_) => literals::value(expr)?,
        Expr::TypedString(_) => literals::typed(expr)?,
        Expr::Cast { kind, expr: value, data_type, .. } => {
            let Some(name) = cast_name(data_type) else {
                return Err(Refusal::new(span, format!("CAST to {data_type} is not supported")));
            };
            let prefix = if *kind == CastKind::SafeCast { "bq_safe_cast" } else { "bq_cast" };
            let value = take(value);
            *expr = call(&format!("{prefix}_{name}"), vec![value]);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Divide, right } => {
            let args = vec![take(left), take(right)];
            *expr = call("bq_divide", args);
        }
        Expr::UnaryOp { op: UnaryOperator::Plus, expr: value } => *expr = take(value),
        Expr::Array(array) => *expr = call("make_array", std::mem::take(&mut array.elem)),
        Expr::Struct { .. } => structure(expr)?,
        Expr::Ceil { expr: value, field } | Expr::Floor { expr: value, field }
            if !matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)) =>
        {
            return Err(Refusal::new(value.span(), "CEIL and FLOOR take one argument"));
        }
        Expr::Ceil { expr: value, .. } => *expr = call("bq_ceil", vec![take(value)]),
        Expr::Floor { expr: value, .. } => *expr = call("bq_floor", vec![take(value)]),
        Expr::Substring { expr: value, substring_from, substring_for, .. } => {
            let mut args = vec![take(value)];
            args.extend(substring_from.take().map(|from| *from));
            args.extend(substring_for.take().map(|length| *length));
            *expr = call("bq_substr", args);
        }
        Expr::Trim { expr: value, trim_where: None, trim_what: None, trim_characters } => {
            let mut args = vec![take(value)];
            args.extend(trim_characters.take().unwrap_or_default());
            *expr = call("bq_trim", args);
        }
        Expr::Trim { .. } => {
            return Err(Refusal::new(
                span,
                "this form of TRIM is not BigQuery's: write TRIM, LTRIM or RTRIM(text, letters)",
            ));
        }
        Expr::Interval(_) => {
            return Err(Refusal::new(
                span,
                "INTERVAL is supported only where it is added to or taken from a date or time",
            ));
        }
        Expr::AtTimeZone { .. } => {
            return Err(Refusal::new(span, "AT TIME ZONE is supported only in EXTRACT"));
        }
        _ => {}
    }
    Ok(())
}

/// `STRUCT(1 AS a, b)` as `named_struct('a', 1, 'b', b)`.
fn structure(expr: &mut Expr) -> Done {
    let Expr::Struct { values, fields } = expr else { return Ok(()) };
    let mut args = Vec::with_capacity(values.len() * 2);
    for (place, value) in std::mem::take(values).into_iter().enumerate() {
        let declared = fields.get(place);
        let (name, value) = match value {
            Expr::Named { expr, name } => (Some(name.value), *expr),
            Expr::Identifier(name) => (Some(name.value.clone()), Expr::Identifier(name)),
            Expr::CompoundIdentifier(path) => {
                (path.last().map(|name| name.value.clone()), Expr::CompoundIdentifier(path))
            }
            other => (None, other),
        };
        let name = declared.and_then(|field| field.field_name.as_ref().map(|name| name.value.clone())).or(name);
        let mut value = value;
        if let Some(field) = declared {
            value = cast(value, field.field_type.clone());
            up(&mut value)?;
        }
        let name = name.map_or_else(|| format!("_field_{}", place + 1), |name| name.to_lowercase());
        args.extend([text(name), value]);
    }
    *expr = call("named_struct", args);
    Ok(())
}

/// CAST in BigQuery's syntax.
pub(crate) fn cast(value: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(value), data_type, array: false, format: None }
}

/// The end of the name of our function that casts to a type of BigQuery's.
pub(crate) fn cast_name(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Int64
        | DataType::Int(None)
        | DataType::Integer(None)
        | DataType::BigInt(None)
        | DataType::SmallInt(None)
        | DataType::TinyInt(None) => "int64",
        DataType::Float64 => "float64",
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => "numeric",
        DataType::Bool | DataType::Boolean => "bool",
        DataType::String(None) => "string",
        DataType::Bytes(None) => "bytes",
        DataType::Date => "date",
        DataType::Datetime(None) => "datetime",
        DataType::Timestamp(None, TimezoneInfo::None) => "timestamp",
        _ => return None,
    })
}
