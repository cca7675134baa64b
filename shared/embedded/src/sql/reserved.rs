//! BigQuery's reserved words: the parser takes some of them as names, BigQuery does not.

use datafusion::sql::sqlparser::ast::Ident;

/// BigQuery's reserved words, which the parser takes as names in places.
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#reserved_keywords>
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "assert_rows_modified",
    "at",
    "between",
    "by",
    "case",
    "cast",
    "collate",
    "contains",
    "create",
    "cross",
    "cube",
    "current",
    "default",
    "define",
    "desc",
    "distinct",
    "else",
    "end",
    "enum",
    "escape",
    "except",
    "exclude",
    "exists",
    "extract",
    "false",
    "fetch",
    "following",
    "for",
    "from",
    "full",
    "group",
    "grouping",
    "groups",
    "hash",
    "having",
    "if",
    "ignore",
    "in",
    "inner",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "lateral",
    "left",
    "like",
    "limit",
    "lookup",
    "merge",
    "natural",
    "new",
    "no",
    "not",
    "null",
    "nulls",
    "of",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "preceding",
    "proto",
    "qualify",
    "range",
    "recursive",
    "respect",
    "right",
    "rollup",
    "rows",
    "select",
    "set",
    "some",
    "struct",
    "tablesample",
    "then",
    "to",
    "treat",
    "true",
    "unbounded",
    "union",
    "unnest",
    "using",
    "when",
    "where",
    "window",
    "with",
    "within",
];

/// What is wrong with a name, if it is a reserved word without backticks.
pub(crate) fn refused_name(name: &Ident) -> Option<String> {
    let lower = name.value.to_lowercase();
    (name.quote_style.is_none() && RESERVED.binary_search(&lower.as_str()).is_ok()).then(|| {
        format!("{} is a reserved word of BigQuery's: write it in backticks or use another name", lower.to_uppercase())
    })
}

#[cfg(test)]
mod tests {
    use super::RESERVED;

    #[test]
    fn the_words_are_in_order() {
        assert!(RESERVED.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
