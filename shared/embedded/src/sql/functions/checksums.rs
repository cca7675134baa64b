//! Fingerprints, digests and encodings.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::fingerprint::fingerprint;
use super::rows::{each, map1};
use super::signature::{Call, Kind, Spec, bytes, int, text};

use Kind::{Bytes, Text, TextOrBytes};

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("farm_fingerprint", &[TextOrBytes], int, |call| {
        let array = &call.args[0];
        each::<_, Int64Array>(call, |row| {
            if array.is_null(row) {
                return Ok(None);
            }
            Ok(Some(match array.data_type() {
                DataType::Utf8 => fingerprint(array.as_string::<i32>().value(row).as_bytes()),
                _ => fingerprint(array.as_binary::<i32>().value(row)),
            }))
        })
    }),
    Spec::new("to_hex", &[Bytes], text, to_hex),
    Spec::new("from_hex", &[Text], bytes, |call| {
        map1::<_, _, BinaryArray>(call, call.texts(0)?, |value: &str| from_hex(value).map(Some))
    }),
];

fn to_hex(call: &Call<'_>) -> Result<ArrayRef> {
    map1::<_, _, StringArray>(call, call.bytes(0)?, |value: &[u8]| {
        let mut out = String::with_capacity(value.len() * 2);
        for byte in value {
            write!(out, "{byte:02x}").map_err(|error| error.to_string())?;
        }
        Ok(Some(out))
    })
}

fn from_hex(value: &str) -> Result<Vec<u8>, String> {
    let digits = value
        .chars()
        .map(|letter| letter.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| format!("'{value}' is not hexadecimal"))?;
    // An odd number of digits has an implied zero before the first.
    let padded: Vec<u8> = std::iter::repeat_n(0, digits.len() % 2).chain(digits).collect();
    Ok(padded.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}
