//! Expressions of BigQuery's SQL that have a chance: every supported function with arguments of the types it takes.

use crate::choices::Choices;

/// What stands between `{` and `}` in a template, the constants of it, and the templates that give one.
type Kind = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The kinds, by name. A constant lies where something ends: a type, a calendar, an alphabet.
#[rustfmt::skip]
const KINDS: &[Kind] = &[
    ("int", &["0", "1", "-1", "2", "7", "13", "59", "400", "1000", "9999", "65536", "1048576", "2147483648", "253402300799", "9223372036854775807", "(-9223372036854775807 - 1)", "-62135596800", "NULL"], &[
        "ABS({int})", "ARRAY_LENGTH({ints})", "ASCII({text})", "BYTE_LENGTH({bytes})", "OCTET_LENGTH({text})", "CHAR_LENGTH({text})", "CHARACTER_LENGTH({text})",
        "LENGTH({text})", "COALESCE({int}, {int})", "IFNULL({int}, {int})", "NULLIF({int}, {int})", "IF({bool}, {int}, {int})", "DATE_DIFF({date}, {date}, {part})",
        "DATETIME_DIFF({datetime}, {datetime}, {part})", "TIMESTAMP_DIFF({timestamp}, {timestamp}, {part})", "DIV({int}, {int})", "MOD({int}, {int})",
        "EXTRACT({part} FROM {date})", "EXTRACT({part} FROM {datetime})", "EXTRACT({part} FROM {timestamp} AT TIME ZONE {zone})", "FARM_FINGERPRINT({text})",
        "GREATEST({int}, {int})", "LEAST({int}, {int}, {int})", "INSTR({text}, {text}, {int}, {int})", "STRPOS({text}, {text})", "RANGE_BUCKET({int}, {ints})",
        "SIGN({int})", "UNICODE({text})", "UNIX_DATE({date})", "UNIX_MICROS({timestamp})", "UNIX_MILLIS({timestamp})", "UNIX_SECONDS({timestamp})",
        "SAFE_ADD({int}, {int})", "SAFE_SUBTRACT({int}, {int})", "SAFE_MULTIPLY({int}, {int})", "SAFE_NEGATE({int})", "{int} + {int}", "{int} - {int}", "{int} * {int}",
        "-{int}", "CAST({text} AS INT64)", "CAST({float} AS INT64)", "SAFE_CAST({text} AS INT64)", "CAST({numeric} AS INT64)", "SAFE.DIV({int}, {int})",
        "{ints}[OFFSET({int})]", "{ints}[SAFE_ORDINAL({int})]", "CASE WHEN {bool} THEN {int} ELSE {int} END", "(SELECT SUM(x) FROM UNNEST({ints}) AS x)",
        "(SELECT COUNT(DISTINCT x) FROM UNNEST({ints}) AS x)", "(SELECT COUNTIF(x > {int}) FROM UNNEST({ints}) AS x)", "(SELECT BIT_AND(x) FROM UNNEST({ints}) AS x)",
        "(SELECT BIT_OR(x) FROM UNNEST({ints}) AS x)", "(SELECT BIT_XOR(x) FROM UNNEST({ints}) AS x)", "(SELECT APPROX_COUNT_DISTINCT(x) FROM UNNEST({ints}) AS x)",
        "(SELECT ANY_VALUE(x) FROM UNNEST({ints}) AS x)", "(SELECT MAX(x) FROM UNNEST({ints}) AS x)", "(SELECT MIN(x) FROM UNNEST({ints}) AS x)",
        "(SELECT MAX_BY(x, -x) FROM UNNEST({ints}) AS x)", "(SELECT MIN_BY(x, x) FROM UNNEST({ints}) AS x)", "(SELECT GROUPING(x) FROM UNNEST({ints}) AS x GROUP BY ROLLUP(x) LIMIT 1)",
        "(SELECT APPROX_QUANTILES(x, 3)[OFFSET({int})] FROM UNNEST({ints}) AS x)",
        "(SELECT ROW_NUMBER() OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)", "(SELECT RANK() OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)",
        "(SELECT DENSE_RANK() OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)", "(SELECT NTILE({int}) OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)",
        "(SELECT LAG(x, {int}, {int}) OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)", "(SELECT LEAD(x, {int}) OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)",
        "(SELECT FIRST_VALUE(x) OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)", "(SELECT LAST_VALUE(x) OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)",
        "(SELECT NTH_VALUE(x, {int}) OVER (ORDER BY x) FROM UNNEST({ints}) AS x LIMIT 1)", "(SELECT PERCENTILE_DISC(x, {float}) OVER () FROM UNNEST({ints}) AS x LIMIT 1)",
        "(SELECT SUM(x) OVER (ORDER BY x RANGE BETWEEN {int} PRECEDING AND {int} FOLLOWING) FROM UNNEST({ints}) AS x LIMIT 1)",
        "(SELECT SUM(x) OVER (ORDER BY x ROWS BETWEEN {int} PRECEDING AND {int} FOLLOWING) FROM UNNEST({ints}) AS x LIMIT 1)",
    ]),
    ("float", &["0.0", "-0.0", "1.5", "-2.5", "1e308", "-1e308", "5e-324", "0.1", "90.0", "-180.0", "9007199254740993.0", "CAST('nan' AS FLOAT64)", "CAST('-inf' AS FLOAT64)", "NULL"], &[
        "ACOS({float})", "ASIN({float})", "ATAN({float})", "ATAN2({float}, {float})", "CBRT({float})", "CEIL({float})", "CEILING({numeric})", "COS({float})", "COSH({float})",
        "EXP({float})", "FLOOR({float})", "IEEE_DIVIDE({float}, {float})", "LN({float})", "LOG({float}, {float})", "LOG10({float})", "POW({float}, {float})", "POWER({float}, {int})",
        "ROUND({float}, {int})", "TRUNC({float}, {int})", "SAFE_DIVIDE({float}, {float})", "SIGN({float})", "SIN({float})", "SINH({float})", "SQRT({float})", "TAN({float})", "TANH({float})",
        "ST_DISTANCE({point}, {point})", "ST_X({point})", "ST_Y({point})", "{float} / {float}", "{int} / {int}", "{float} * {float}", "MOD({float}, {int})", "ABS({float})",
        "GREATEST({float}, {int})", "LEAST({float}, {float})", "CAST({int} AS FLOAT64)", "CAST({text} AS FLOAT64)", "CAST({numeric} AS FLOAT64)",
        "(SELECT AVG(x) FROM UNNEST({floats}) AS x)", "(SELECT CORR(x, -x) FROM UNNEST({floats}) AS x)", "(SELECT COVAR_POP(x, x) FROM UNNEST({floats}) AS x)",
        "(SELECT COVAR_SAMP(x, x) FROM UNNEST({floats}) AS x)", "(SELECT STDDEV(x) FROM UNNEST({floats}) AS x)", "(SELECT STDDEV_POP(x) FROM UNNEST({ints}) AS x)",
        "(SELECT STDDEV_SAMP(x) FROM UNNEST({floats}) AS x)", "(SELECT VAR_POP(x) FROM UNNEST({floats}) AS x)", "(SELECT VAR_SAMP(x) FROM UNNEST({floats}) AS x)",
        "(SELECT VARIANCE(x) FROM UNNEST({ints}) AS x)", "(SELECT PERCENTILE_CONT(x, {float}) OVER () FROM UNNEST({floats}) AS x LIMIT 1)",
        "(SELECT CUME_DIST() OVER (ORDER BY x) FROM UNNEST({floats}) AS x LIMIT 1)", "(SELECT PERCENT_RANK() OVER (ORDER BY x) FROM UNNEST({floats}) AS x LIMIT 1)",
    ]),
    ("numeric", &["NUMERIC '0'", "NUMERIC '0.000000001'", "NUMERIC '-99999999999999999999999999999.999999999'", "NUMERIC '99999999999999999999999999999.999999999'", "NUMERIC '2.5'", "NULL"], &[
        "{numeric} / {numeric}", "{numeric} * {numeric}", "{numeric} + {numeric}", "{numeric} - {int}", "ROUND({numeric}, {int})", "TRUNC({numeric}, {int})", "FLOOR({numeric})",
        "CEIL({numeric})", "MOD({numeric}, {numeric})", "ABS({numeric})", "SIGN({numeric})", "CAST({text} AS NUMERIC)", "CAST({float} AS NUMERIC)", "CAST({int} AS NUMERIC)",
        "SAFE_DIVIDE({numeric}, {numeric})", "(SELECT SUM(CAST(x AS NUMERIC)) FROM UNNEST({ints}) AS x)", "-{numeric}",
    ]),
    ("text", &["''", "'a'", "'A b-c_d'", "'é'", "'\\u{10FFFF}x'", "'\\U0001F600\\u0301'", "'ß'", "' \\t\\n'", "'2024-02-29'", "'12:34:56.789 PM'", "'-9223372036854775808'", "'1e400'", "'0x1F'", "'%'", "'{\"a\":[1,{\"b\":\"c\"}]}'", "'aaaaaaaaaaaaaaaaaaaaaaaa'", "'+05:30'", "NULL"], &[
        "CHR({int})", "CONCAT({text}, {text})", "{text} || {text}", "FORMAT({printf}, {int})", "FORMAT({printf}, {float})", "FORMAT({printf}, {text})", "FORMAT('%t %t', {date}, {numeric})",
        "FORMAT_DATE({format}, {date})", "FORMAT_DATETIME({format}, {datetime})", "FORMAT_TIMESTAMP({format}, {timestamp}, {zone})", "INITCAP({text}, {text})",
        "JSON_VALUE({text}, {path})", "JSON_EXTRACT_SCALAR({text}, {path})", "LEFT({text}, {int})", "RIGHT({text}, {int})", "LOWER({text})", "UPPER({text})", "LPAD({text}, {int}, {text})",
        "RPAD({text}, {int})", "LTRIM({text}, {text})", "RTRIM({text})", "TRIM({text}, {text})", "REGEXP_EXTRACT({text}, {regex}, {int}, {int})", "REGEXP_SUBSTR({text}, {regex})",
        "REGEXP_REPLACE({text}, {regex}, {text})", "REPEAT({text}, {int})", "REPLACE({text}, {text}, {text})", "REVERSE({text})", "STRING({timestamp}, {zone})", "STRING({date})",
        "SUBSTR({text}, {int}, {int})", "SUBSTRING({text}, {int})", "TO_HEX({bytes})", "TRANSLATE({text}, {text}, {text})", "ARRAY_TO_STRING({texts}, {text}, {text})", "CAST({int} AS STRING)",
        "CAST({float} AS STRING)", "CAST({timestamp} AS STRING)", "CAST({datetime} AS STRING)", "CAST({bytes} AS STRING)", "CAST({numeric} AS STRING)", "ST_ASTEXT({point})",
        "SPLIT({text}, {text})[SAFE_OFFSET({int})]", "(SELECT STRING_AGG(x, {text}) FROM UNNEST({texts}) AS x)", "SAFE.SUBSTR({text}, {int}, {int})", "GREATEST({text}, {text})",
    ]),
    ("bytes", &["b''", "b'\\xff\\x00'", "b'abc'", "NULL"], &["CAST({text} AS BYTES)", "MD5({text})", "SHA256({text})", "FROM_HEX({text})", "MD5({bytes})"]),
    ("bool", &["TRUE", "FALSE", "NULL"], &[
        "CONTAINS_SUBSTR({text}, {text})", "STARTS_WITH({text}, {text})", "ENDS_WITH({text}, {text})", "IS_INF({float})", "IS_NAN({float})", "REGEXP_CONTAINS({text}, {regex})",
        "ST_DWITHIN({point}, {point}, {float})", "{int} IN UNNEST({ints})", "{int} BETWEEN {int} AND {int}", "{date} < {date}", "{timestamp} >= {timestamp}", "{text} LIKE {text}",
        "NOT {bool}", "{bool} AND {bool}", "{float} IS NULL", "CAST({text} AS BOOL)", "(SELECT LOGICAL_AND(x > 0) FROM UNNEST({ints}) AS x)",
        "(SELECT LOGICAL_OR(x > 0) FROM UNNEST({ints}) AS x)", "{int} IN ({int}, {int})",
    ]),
    ("date", &["DATE '0001-01-01'", "DATE '9999-12-31'", "DATE '2024-02-29'", "DATE '1970-01-01'", "DATE '1969-12-31'", "DATE '2020-12-31'", "DATE '9999-01-01'", "NULL"], &[
        "CURRENT_DATE()", "DATE({int}, {int}, {int})", "DATE({timestamp}, {zone})", "DATE({datetime})", "DATE_ADD({date}, INTERVAL {int} {part})", "DATE_SUB({date}, INTERVAL {int} {part})",
        "DATE_FROM_UNIX_DATE({int})", "DATE_TRUNC({date}, {part})", "LAST_DAY({date}, {part})", "LAST_DAY({datetime})", "PARSE_DATE({format}, {text})", "PARSE_DATE('%Y-%m-%d', {text})",
        "{date} + {int}", "{date} - {int}", "CAST({text} AS DATE)", "CAST({timestamp} AS DATE)", "SAFE.DATE_ADD({date}, INTERVAL {int} {part})", "GREATEST({date}, {date})",
    ]),
    ("datetime", &["DATETIME '0001-01-01 00:00:00'", "DATETIME '9999-12-31 23:59:59.999999'", "DATETIME '2024-03-31 02:30:00'", "NULL"], &[
        "CURRENT_DATETIME()", "DATETIME({int}, {int}, {int}, {int}, {int}, {int})", "DATETIME({timestamp}, {zone})", "DATETIME({date})", "DATETIME_ADD({datetime}, INTERVAL {int} {part})",
        "DATETIME_SUB({datetime}, INTERVAL {int} {part})", "DATETIME_TRUNC({datetime}, {part})", "PARSE_DATETIME({format}, {text})", "CAST({text} AS DATETIME)",
        "{date} + INTERVAL {int} {part}", "{datetime} - INTERVAL {int} {part}",
    ]),
    ("timestamp", &["TIMESTAMP '0001-01-01 00:00:00+00'", "TIMESTAMP '9999-12-31 23:59:59.999999+00'", "TIMESTAMP '2024-03-31 02:30:00 Europe/Berlin'", "TIMESTAMP '1969-12-31 23:59:59.999999Z'", "NULL"], &[
        "CURRENT_TIMESTAMP()", "TIMESTAMP({text}, {zone})", "TIMESTAMP({date}, {zone})", "TIMESTAMP({datetime}, {zone})", "TIMESTAMP_ADD({timestamp}, INTERVAL {int} {part})",
        "TIMESTAMP_SUB({timestamp}, INTERVAL {int} {part})", "TIMESTAMP_TRUNC({timestamp}, {part}, {zone})", "TIMESTAMP_SECONDS({int})", "TIMESTAMP_MILLIS({int})",
        "TIMESTAMP_MICROS({int})", "PARSE_TIMESTAMP({format}, {text}, {zone})", "PARSE_TIMESTAMP('%s', {text})", "CAST({text} AS TIMESTAMP)", "{timestamp} + INTERVAL {int} {part}",
    ]),
    ("part", &["DAY", "MONTH", "YEAR", "QUARTER", "WEEK", "WEEK(MONDAY)", "ISOWEEK", "ISOYEAR", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND", "DAYOFWEEK", "DAYOFYEAR"], &[]),
    ("zone", &["'UTC'", "'+14:00'", "'-12:59'", "'America/Los_Angeles'", "'Asia/Kathmandu'", "'Antarctica/Troll'", "'UTC+3'", "'é'", "'+é:0'", "NULL"], &[]),
    ("format", &["'%Y-%m-%d'", "'%F %T'", "'%c %D %e %j %U %V %W'", "'%G%g%C%y%Q'", "'%I:%M %p %Z%z'", "'%s'", "'%B %b %A %a é'", "'%E4Y'", "'%'", "'%j %Y'", "'%H:%M:%S'", "'%y%m%d%k%l'"], &["{text}"]),
    ("printf", &["'%d'", "'%1000d'", "'%.1000f'", "'%e'", "'%g'", "'%G'", "'%x'", "'%o'", "'%s'", "'%.3s'", "'%t'", "'%'", "'%-10d|'", "\"%'+d\"", "'%0100.100d'", "'%999999999999d'"], &["{text}"]),
    ("regex", &["''", "'a'", "'(a|b)*c'", "'(a{1000}){1000}'", "'[é-ß]'", "'.'", "r'\\d+'", "'('", "'^$'", "'(?i)A'", "'a()'"], &["{text}"]),
    ("path", &["'$'", "'$.a'", "'$.a[1].b'", "'$[18446744073709551616]'", "\"$['a']\"", "'$.'", "'$.é'", "'x'"], &["{text}"]),
    ("point", &["ST_GEOGPOINT(0, 0)", "ST_GEOGPOINT(180, 90)", "NULL"], &["ST_GEOGPOINT({float}, {float})"]),
    ("ints", &["[1, 2, 3]", "[NULL, 1]", "CAST(NULL AS ARRAY<INT64>)", "ARRAY<INT64>[]"], &[
        "GENERATE_ARRAY({int}, {int}, {int})", "[{int}, {int}]", "ARRAY_CONCAT({ints}, {ints})", "ARRAY_REVERSE({ints})", "(SELECT ARRAY_AGG(x ORDER BY x LIMIT 3) FROM UNNEST({ints}) AS x)",
        "(SELECT ARRAY_AGG(DATE_DIFF(x, {date}, DAY)) FROM UNNEST(GENERATE_DATE_ARRAY({date}, {date}, INTERVAL {int} {part})) AS x)",
        "(SELECT ARRAY_AGG(UNIX_MICROS(x)) FROM UNNEST(GENERATE_TIMESTAMP_ARRAY({timestamp}, {timestamp}, INTERVAL {int} {part})) AS x)",
    ]),
    ("floats", &["[1.5, -2.0]", "[1e308, 1e308]"], &["[{float}, {float}]", "GENERATE_ARRAY({float}, {float}, {float})"]),
    ("texts", &["['a', 'é']", "[NULL, '']"], &["SPLIT({text}, {text})", "[{text}, {text}]", "REGEXP_EXTRACT_ALL({text}, {regex})"]),
];

/// All templates: between `{` and `}` stands the kind of an argument.
pub fn templates() -> impl Iterator<Item = &'static str> {
    KINDS.iter().flat_map(|(_, _, templates)| *templates).copied()
}

/// A query of one expression, as the bytes choose it.
pub fn query(data: &[u8]) -> String {
    format!("SELECT {} AS x", expression(&mut Choices::new(data)))
}

fn expression(choices: &mut Choices<'_>) -> String {
    // The first nine kinds are those of values; the others stand only where a function wants them.
    let kind = choices.below(9);
    one(&KINDS[kind], choices, 0)
}

fn one((_, constants, templates): &Kind, choices: &mut Choices<'_>, depth: usize) -> String {
    let constant = templates.is_empty() || depth > 3 || (depth > 0 && choices.below(depth + 2) > 0);
    let template = if constant { choices.of(constants) } else { choices.of(templates) };
    let mut out = String::new();
    let mut rest = *template;
    while let Some((before, name, after)) = hole(rest) {
        out.push_str(before);
        match KINDS.iter().find(|(kind, ..)| *kind == name) {
            Some(kind) => {
                let argument = one(kind, choices, depth + 1);
                // Operators bind as written.
                let bracket = argument.contains(' ') && !matches!(name, "part" | "text" | "ints" | "point");
                out.push_str(&if bracket { format!("({argument})") } else { argument });
            }
            None => out.push_str(&format!("{{{name}}}")),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The first hole of a template: what stands before it, its name, what stands after it.
fn hole(template: &str) -> Option<(&str, &str, &str)> {
    template.match_indices('{').find_map(|(at, _)| {
        let (name, after) = template[at + 1..].split_once('}')?;
        KINDS.iter().any(|(kind, ..)| *kind == name).then_some((&template[..at], name, after))
    })
}
