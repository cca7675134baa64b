//! The functions of BigQuery that this warehouse supports, and what each becomes.
//!
//! Invariant: a name that is not here is refused, so a text that runs on the laptop calls nothing
//! that BigQuery does not have.

/// What a call becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A scalar function of ours by the same name.
    Ours,
    /// A scalar function of ours by another name.
    OursAs(&'static str),
    /// Ours, and the argument in this place is a date part: `DATE_TRUNC(d, MONTH)`.
    Dated(usize),
    /// Ours, and the argument in this place is an interval: `DATE_ADD(d, INTERVAL 1 DAY)`. Without
    /// it, the interval is this one.
    Interval(usize, Option<(&'static str, &'static str)>),
    /// A scalar function of DataFusion's of the same meaning.
    Native(&'static str),
    /// An aggregate of DataFusion's (or ours), which may have an OVER.
    Aggregate(&'static str),
    /// A window function, which must have an OVER.
    Window(&'static str),
    /// Rewritten by a rule of its own.
    Special,
}

use Rule::{Aggregate, Dated, Interval, Native, Ours, OursAs, Special, Window};

/// In order of name.
const FUNCTIONS: &[(&str, Rule)] = &[
    ("abs", Ours),
    ("acos", Ours),
    ("any_value", Special),
    ("approx_count_distinct", Aggregate("approx_distinct")),
    ("approx_quantiles", Aggregate("bq_approx_quantiles")),
    ("array_agg", Special),
    ("array_concat", Ours),
    ("array_length", Ours),
    ("array_reverse", Ours),
    ("array_to_string", Ours),
    ("ascii", Ours),
    ("asin", Ours),
    ("atan", Ours),
    ("atan2", Ours),
    ("avg", Aggregate("avg")),
    ("bit_and", Aggregate("bit_and")),
    ("bit_or", Aggregate("bit_or")),
    ("bit_xor", Aggregate("bit_xor")),
    ("byte_length", Ours),
    ("cbrt", Ours),
    ("ceil", Ours),
    ("ceiling", OursAs("ceil")),
    ("char_length", OursAs("length")),
    ("character_length", OursAs("length")),
    ("chr", Ours),
    ("coalesce", Native("coalesce")),
    ("concat", Ours),
    ("contains_substr", Ours),
    ("corr", Aggregate("corr")),
    ("cos", Ours),
    ("cosh", Ours),
    ("count", Aggregate("count")),
    ("countif", Special),
    ("covar_pop", Aggregate("covar_pop")),
    ("covar_samp", Aggregate("covar_samp")),
    ("cume_dist", Window("cume_dist")),
    ("current_date", Special),
    ("current_datetime", Special),
    ("current_timestamp", Special),
    ("date", Ours),
    ("date_add", Interval(1, None)),
    ("date_diff", Dated(2)),
    ("date_from_unix_date", Ours),
    ("date_sub", Interval(1, None)),
    ("date_trunc", Dated(1)),
    ("datetime", Ours),
    ("datetime_add", Interval(1, None)),
    ("datetime_diff", Dated(2)),
    ("datetime_sub", Interval(1, None)),
    ("datetime_trunc", Dated(1)),
    ("dense_rank", Window("dense_rank")),
    ("div", Ours),
    ("ends_with", Ours),
    ("exp", Ours),
    ("farm_fingerprint", Ours),
    ("first_value", Window("first_value")),
    ("floor", Ours),
    ("format", Ours),
    ("format_date", Ours),
    ("format_datetime", Ours),
    ("format_timestamp", Ours),
    ("from_hex", Ours),
    ("generate_array", Ours),
    ("generate_date_array", Interval(2, Some(("1", "DAY")))),
    ("generate_timestamp_array", Interval(2, None)),
    ("greatest", Ours),
    ("grouping", Aggregate("grouping")),
    ("ieee_divide", Ours),
    ("if", Special),
    ("ifnull", Native("coalesce")),
    ("initcap", Ours),
    ("instr", Ours),
    ("is_inf", Ours),
    ("is_nan", Ours),
    ("json_extract_scalar", Ours),
    ("json_value", Ours),
    ("lag", Window("lag")),
    ("last_day", Dated(1)),
    ("last_value", Window("last_value")),
    ("lead", Window("lead")),
    ("least", Ours),
    ("left", Ours),
    ("length", Ours),
    ("ln", Ours),
    ("log", Ours),
    ("log10", Ours),
    ("logical_and", Aggregate("bool_and")),
    ("logical_or", Aggregate("bool_or")),
    ("lower", Ours),
    ("lpad", Ours),
    ("ltrim", Ours),
    ("max", Aggregate("max")),
    ("max_by", Special),
    ("md5", Special),
    ("min", Aggregate("min")),
    ("min_by", Special),
    ("mod", Ours),
    ("nth_value", Window("nth_value")),
    ("ntile", Window("ntile")),
    ("nullif", Native("nullif")),
    ("octet_length", OursAs("byte_length")),
    ("parse_date", Ours),
    ("parse_datetime", Ours),
    ("parse_timestamp", Ours),
    ("percent_rank", Window("percent_rank")),
    ("percentile_cont", Window("bq_percentile_cont")),
    ("percentile_disc", Window("bq_percentile_disc")),
    ("pow", Ours),
    ("power", OursAs("pow")),
    ("range_bucket", Ours),
    ("rank", Window("rank")),
    ("regexp_contains", Ours),
    ("regexp_extract", Ours),
    ("regexp_extract_all", Ours),
    ("regexp_replace", Ours),
    ("regexp_substr", OursAs("regexp_extract")),
    ("repeat", Ours),
    ("replace", Ours),
    ("reverse", Ours),
    ("right", Ours),
    ("round", Ours),
    ("row_number", Window("row_number")),
    ("rpad", Ours),
    ("rtrim", Ours),
    ("safe_add", OursAs("add")),
    ("safe_divide", Ours),
    ("safe_multiply", OursAs("multiply")),
    ("safe_negate", OursAs("negate")),
    ("safe_subtract", OursAs("subtract")),
    ("sha256", Special),
    ("sign", Ours),
    ("sin", Ours),
    ("sinh", Ours),
    ("split", Ours),
    ("sqrt", Ours),
    ("st_astext", Ours),
    ("st_distance", Special),
    ("st_dwithin", Ours),
    ("st_geogpoint", Ours),
    ("st_x", Ours),
    ("st_y", Ours),
    ("starts_with", Ours),
    ("stddev", Aggregate("stddev_samp")),
    ("stddev_pop", Aggregate("stddev_pop")),
    ("stddev_samp", Aggregate("stddev_samp")),
    ("string", Ours),
    ("string_agg", Special),
    ("strpos", Ours),
    ("substr", Ours),
    ("substring", OursAs("substr")),
    ("sum", Aggregate("sum")),
    ("tan", Ours),
    ("tanh", Ours),
    ("timestamp", Ours),
    ("timestamp_add", Interval(1, None)),
    ("timestamp_diff", Dated(2)),
    ("timestamp_micros", Ours),
    ("timestamp_millis", Ours),
    ("timestamp_seconds", Ours),
    ("timestamp_sub", Interval(1, None)),
    ("timestamp_trunc", Dated(1)),
    ("to_hex", Ours),
    ("translate", Ours),
    ("trim", Ours),
    ("trunc", Ours),
    ("unicode", Ours),
    ("unix_date", Ours),
    ("unix_micros", Ours),
    ("unix_millis", Ours),
    ("unix_seconds", Ours),
    ("upper", Ours),
    ("var_pop", Aggregate("var_pop")),
    ("var_samp", Aggregate("var_samp")),
    ("variance", Aggregate("var_samp")),
];

/// The names of the functions that a text may call, in lower case and in order.
pub fn functions() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}

/// The rule for a function's name in lower case.
pub(crate) fn rule(name: &str) -> Option<Rule> {
    FUNCTIONS.binary_search_by(|(known, _)| known.cmp(&name)).ok().map(|place| FUNCTIONS[place].1)
}

/// The supported name nearest to one that is not, if it is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let wanted: Vec<char> = name.chars().collect();
    FUNCTIONS
        .iter()
        .map(|(known, _)| (distance(&wanted, known), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2 && *distance < wanted.len())
        .map(|(_, known)| known)
}

/// Edits of single letters between two words.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (line, letter) in b.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for place in 0..a.len() {
            let swap = corner + usize::from(a[place] != letter);
            corner = row[place + 1];
            row[place + 1] = swap.min(corner + 1).min(row[place] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_every_function_of_ours_exists() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, rule) in FUNCTIONS {
            let ours = match rule {
                Ours | Dated(_) | Interval(..) => name,
                OursAs(other) => other,
                _ => continue,
            };
            assert!(super::super::functions::scalar(ours).is_some(), "{name}");
        }
    }

    #[test]
    fn a_near_name_is_suggested() {
        assert_eq!(nearest("date_truncc"), Some("date_trunc"));
        assert_eq!(nearest("list_sum"), None);
    }
}
