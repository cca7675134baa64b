//! The reader of GeoJSON, and what a dataset makes of a feature.

use serde_json::Value;
use shared::dataset::Dataset;
use shared::datasets::Earthquakes;
use shared::form::Syntax;

use crate::csv::check;

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\\"",
    "\n",
    "null",
    "true",
    "1e999",
    "-0",
    "9223372036854775808",
    "\"features\":[",
    "\"metadata\":{\"count\":1}",
    "\"properties\":{",
    "\"geometry\":null",
    "\"id\":\"ak1\"",
    "\"time\":1753283520123",
    "\"ids\":\",ak1,us2,\"",
    "\u{feff}",
    "\u{ff}",
    "Error 500: timeout",
];

/// The same records and refusals however the bytes arrive; what is taken is JSON, with as many features as records.
pub fn geojson(data: &[u8]) {
    let forms = Earthquakes::default().forms();
    for form in forms.iter().filter(|form| matches!(form.syntax, Syntax::GeoJson(_))) {
        let whole = check(form, data, usize::MAX);
        for largest in [1, 2, 7] {
            assert_eq!(check(form, data, largest), whole, "in chunks of at most {largest}");
        }
        // What lies outside of the features and their metadata is not read, so it need not be JSON.
        if let (Ok(whole), Ok(document)) = (whole.0, serde_json::from_slice::<Value>(data)) {
            let features = document["features"].as_array().map_or(0, Vec::len) as u64;
            assert!(whole.rows <= features, "{} records of {features} features", whole.rows);
        }
    }
}
