//! What a function takes and gives, and the one adapter between that table and DataFusion.

use std::hash::{Hash, Hasher};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::super::normalize::{bigquery_type, datetime, numeric, timestamp};
use super::{PREFIX, SAFE_PREFIX};

/// What one parameter accepts, in BigQuery's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    /// FLOAT64; INT64 and NUMERIC are widened to it.
    Float,
    /// FLOAT64 or NUMERIC as it is; INT64 becomes FLOAT64.
    Fractional,
    /// INT64, FLOAT64 or NUMERIC as it is.
    Number,
    Text,
    /// STRING or BYTES.
    TextOrBytes,
    Bytes,
    Date,
    Timestamp,
    /// DATE, DATETIME or TIMESTAMP as it is.
    Moment,
    Datetime,
    /// Any type of BigQuery.
    Any,
    /// An ARRAY of anything.
    Array,
}

impl Kind {
    /// The exact type in which a value of `given` is passed, if this parameter accepts it.
    fn accept(self, given: &DataType) -> Option<DataType> {
        let given = match given {
            DataType::Null => return Some(self.default()),
            other => bigquery_type(other)?,
        };
        let number = matches!(given, DataType::Int64 | DataType::Float64 | DataType::Decimal128(..));
        let accepted = match self {
            Kind::Int => given == DataType::Int64,
            Kind::Float if number => return Some(DataType::Float64),
            Kind::Float => false,
            Kind::Fractional if given == DataType::Int64 => return Some(DataType::Float64),
            Kind::Fractional | Kind::Number => number,
            Kind::Text => given == DataType::Utf8,
            Kind::Bytes => given == DataType::Binary,
            Kind::TextOrBytes => matches!(given, DataType::Utf8 | DataType::Binary),
            Kind::Date => given == DataType::Date32,
            Kind::Timestamp => given == timestamp(),
            // A DATE is a DATETIME at midnight.
            Kind::Datetime => {
                return matches!(given, DataType::Date32).then(datetime).or((given == datetime()).then_some(given));
            }
            Kind::Moment => given == DataType::Date32 || given == timestamp() || given == datetime(),
            Kind::Any => true,
            Kind::Array => matches!(given, DataType::List(_)),
        };
        accepted.then_some(given)
    }

    /// The type of an untyped NULL in this place.
    fn default(self) -> DataType {
        match self {
            Kind::Int | Kind::Number | Kind::Any => DataType::Int64,
            Kind::Float | Kind::Fractional => DataType::Float64,
            Kind::Text | Kind::TextOrBytes => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Date => DataType::Date32,
            Kind::Timestamp | Kind::Moment => timestamp(),
            Kind::Datetime => datetime(),
            Kind::Array => DataType::new_list(DataType::Int64, true),
        }
    }
}

/// One call on one batch: the arguments as arrays of one length.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) args: &'a [ArrayRef],
    /// How many rows there are, for functions that may have no argument.
    pub(crate) rows: usize,
    /// Whether a row that fails gives NULL instead of failing the query.
    pub(crate) safe: bool,
    /// The type to give.
    pub(crate) returns: &'a DataType,
}

/// A row of the table of functions.
#[derive(Debug)]
pub(crate) struct Spec {
    /// BigQuery's name, in lower case.
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Kind],
    /// How many of `params` must be given.
    pub(crate) required: usize,
    /// Whether the last of `params` may repeat.
    pub(crate) variadic: bool,
    /// The result's type from the arguments' types.
    pub(crate) returns: fn(&[DataType]) -> DataType,
    pub(crate) run: fn(&Call<'_>) -> Result<ArrayRef>,
}

impl Spec {
    /// A function all of whose parameters must be given.
    pub(crate) const fn new(
        name: &'static str,
        params: &'static [Kind],
        returns: fn(&[DataType]) -> DataType,
        run: fn(&Call<'_>) -> Result<ArrayRef>,
    ) -> Self {
        Self { name, params, required: params.len(), variadic: false, returns, run }
    }

    /// The same, of whose parameters only the first `required` must be given.
    pub(crate) const fn needs(mut self, required: usize) -> Self {
        self.required = required;
        self
    }

    /// The same, whose last parameter may repeat.
    pub(crate) const fn repeats(mut self) -> Self {
        self.variadic = true;
        self
    }
}

pub(crate) fn int(_: &[DataType]) -> DataType {
    DataType::Int64
}
pub(crate) fn float(_: &[DataType]) -> DataType {
    DataType::Float64
}
pub(crate) fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}
pub(crate) fn bytes(_: &[DataType]) -> DataType {
    DataType::Binary
}
pub(crate) fn boolean(_: &[DataType]) -> DataType {
    DataType::Boolean
}
pub(crate) fn date(_: &[DataType]) -> DataType {
    DataType::Date32
}
pub(crate) fn instant(_: &[DataType]) -> DataType {
    timestamp()
}
pub(crate) fn civil(_: &[DataType]) -> DataType {
    datetime()
}
pub(crate) fn decimal(_: &[DataType]) -> DataType {
    numeric()
}
pub(crate) fn first(types: &[DataType]) -> DataType {
    types.first().cloned().unwrap_or(DataType::Int64)
}
pub(crate) fn texts(_: &[DataType]) -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

/// A row of the table as a function of DataFusion's.
#[derive(Debug)]
pub(crate) struct Function {
    spec: &'static Spec,
    name: String,
    safe: bool,
    signature: Signature,
}

impl Function {
    pub(crate) fn new(spec: &'static Spec, safe: bool) -> Self {
        let prefix = if safe { SAFE_PREFIX } else { PREFIX };
        Self {
            spec,
            name: format!("{prefix}{}", spec.name),
            safe,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Spec { name, params, required, variadic, .. } = self.spec;
        let name = name.to_uppercase();
        if given.len() < *required || (given.len() > params.len() && !variadic) {
            let wanted = match (required, variadic) {
                (required, true) => format!("at least {required}"),
                (required, false) if *required == params.len() => required.to_string(),
                (required, false) => format!("{required} to {}", params.len()),
            };
            return plan_err!("{name} takes {wanted} arguments, not {}", given.len());
        }
        let mut exact = Vec::with_capacity(given.len());
        for (place, data_type) in given.iter().enumerate() {
            let kind = params[place.min(params.len() - 1)];
            match kind.accept(data_type) {
                Some(accepted) => exact.push(accepted),
                None => {
                    return plan_err!(
                        "argument {} of {name} is {}, which {name} does not take",
                        place + 1,
                        type_name(data_type)
                    );
                }
            }
        }
        Ok(exact)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok((self.spec.returns)(given))
    }

    fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // A call on constants alone is worked out once, whatever the number of rows.
        let constant = given.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { given.number_rows };
        let args = given.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let returns = given.return_field.data_type();
        let array = (self.spec.run)(&Call { args: &args, rows, safe: self.safe, returns })?;
        if array.len() != rows || array.data_type() != returns {
            return exec_err!("{} gave {} rows of {}", self.name, array.len(), array.data_type());
        }
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// A type's name as BigQuery says it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match bigquery_type(data_type) {
        Some(DataType::Int64) => "INT64".into(),
        Some(DataType::Float64) => "FLOAT64".into(),
        Some(DataType::Boolean) => "BOOL".into(),
        Some(DataType::Utf8) => "STRING".into(),
        Some(DataType::Binary) => "BYTES".into(),
        Some(DataType::Date32) => "DATE".into(),
        Some(DataType::Time64(_)) => "TIME".into(),
        Some(DataType::Timestamp(_, Some(_))) => "TIMESTAMP".into(),
        Some(DataType::Timestamp(_, None)) => "DATETIME".into(),
        Some(DataType::Decimal128(..)) => "NUMERIC".into(),
        Some(DataType::List(field)) => format!("ARRAY<{}>", type_name(field.data_type())),
        Some(DataType::Struct(_)) => "STRUCT".into(),
        _ => data_type.to_string(),
    }
}
