//! The functions of strings.
//!
//! Invariant: a STRING is counted in characters and a BYTES in bytes.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::casts::cell_text;
use super::rows::{each, map1, map2, map3, within_longest};
use super::signature::{Call, Kind, Spec, boolean, int, text, texts, type_name};

use Kind::{Any, Int, Text, TextOrBytes};

/// The longest text that LPAD, RPAD and REPEAT make, in characters.
const LONGEST: i64 = 1 << 20;

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("length", &[TextOrBytes], int, length),
    Spec::new("byte_length", &[TextOrBytes], int, byte_length),
    Spec::new("lower", &[Text], text, |call| one(call, |a| Ok(a.to_lowercase()))),
    Spec::new("upper", &[Text], text, |call| one(call, |a| Ok(a.to_uppercase()))),
    Spec::new("reverse", &[Text], text, |call| one(call, |a| Ok(a.chars().rev().collect()))),
    Spec::new("initcap", &[Text, Text], text, |call| {
        let delimiters = call.texts_or(1, " []()}{/|\n\t<>!?@\"^#$&~_,.:;*%+-")?;
        map2::<_, _, _, StringArray>(call, call.texts(0)?, &delimiters, |a, d| Ok(Some(initcap(a, d))))
    })
    .needs(1),
    Spec::new("trim", &[Text, Text], text, |call| trim(call, true, true)).needs(1),
    Spec::new("ltrim", &[Text, Text], text, |call| trim(call, true, false)).needs(1),
    Spec::new("rtrim", &[Text, Text], text, |call| trim(call, false, true)).needs(1),
    Spec::new("left", &[Text, Int], text, |call| counted(call, "LEFT", |a, count| a.chars().take(count).collect())),
    Spec::new("right", &[Text, Int], text, |call| {
        counted(call, "RIGHT", |a, count| a.chars().skip(a.chars().count().saturating_sub(count)).collect())
    }),
    Spec::new("repeat", &[Text, Int], text, |call| {
        map2::<_, _, _, StringArray>(call, call.texts(0)?, call.ints(1)?, |a, count| {
            let wide = i64::try_from(a.len()).unwrap_or(i64::MAX).saturating_mul(count);
            if count < 0 || wide > LONGEST {
                return Err(format!("REPEAT does not take {count} as a number of repetitions"));
            }
            Ok(Some(a.repeat(usize::try_from(count).unwrap_or(0))))
        })
    }),
    Spec::new("replace", &[Text, Text, Text], text, |call| {
        map3::<_, _, _, _, StringArray>(call, call.texts(0)?, call.texts(1)?, call.texts(2)?, |a, from, to| {
            if from.is_empty() {
                return Ok(Some(a.to_owned()));
            }
            if to.len() > from.len() {
                within_longest(a.len().saturating_add(a.matches(from).count().saturating_mul(to.len())))?;
            }
            Ok(Some(a.replace(from, to)))
        })
    }),
    Spec::new("translate", &[Text, Text, Text], text, |call| {
        map3::<_, _, _, _, StringArray>(call, call.texts(0)?, call.texts(1)?, call.texts(2)?, |a, from, to| {
            let mut swaps: HashMap<char, Option<char>> = HashMap::new();
            let mut to = to.chars();
            for letter in from.chars() {
                if swaps.insert(letter, to.next()).is_some() {
                    return Err(format!("TRANSLATE takes '{letter}' only once"));
                }
            }
            let swap = |letter: char| swaps.get(&letter).copied().unwrap_or(Some(letter));
            Ok(Some(a.chars().filter_map(swap).collect::<String>()))
        })
    }),
    Spec::new("substr", &[Text, Int, Int], text, substr).needs(2),
    Spec::new("strpos", &[Text, Text], int, |call| {
        map2::<_, _, _, Int64Array>(call, call.texts(0)?, call.texts(1)?, |a, b| Ok(Some(find(a, b, 1, 1))))
    }),
    Spec::new("instr", &[Text, Text, Int, Int], int, instr).needs(2),
    Spec::new("lpad", &[Text, Int, Text], text, |call| pad(call, true)).needs(2),
    Spec::new("rpad", &[Text, Int, Text], text, |call| pad(call, false)).needs(2),
    Spec::new("concat", &[Any], text, concat).repeats(),
    Spec::new("starts_with", &[Text, Text], boolean, |call| two(call, |a, b| a.starts_with(b))),
    Spec::new("ends_with", &[Text, Text], boolean, |call| two(call, |a, b| a.ends_with(b))),
    Spec::new("contains_substr", &[Any, Text], boolean, contains_substr),
    Spec::new("split", &[Text, Text], texts, split).needs(1),
    Spec::new("ascii", &[Text], int, |call| {
        map1::<_, _, Int64Array>(call, call.texts(0)?, |a: &str| match a.chars().next() {
            Some(letter) if letter.is_ascii() => Ok(Some(i64::from(u32::from(letter)))),
            Some(letter) => Err(format!("ASCII does not take '{letter}'")),
            None => Ok(Some(0)),
        })
    }),
    Spec::new("unicode", &[Text], int, |call| {
        map1::<_, _, Int64Array>(call, call.texts(0)?, |a: &str| {
            Ok(Some(a.chars().next().map_or(0, |letter| i64::from(u32::from(letter)))))
        })
    }),
    Spec::new("chr", &[Int], text, |call| {
        map1::<_, _, StringArray>(call, call.ints(0)?, |code| match u32::try_from(code).ok().and_then(char::from_u32) {
            Some('\0') => Ok(Some(String::new())),
            Some(letter) => Ok(Some(letter.to_string())),
            None => Err(format!("{code} is not a code point")),
        })
    }),
];

fn one(call: &Call<'_>, f: impl Fn(&str) -> Result<String, String>) -> Result<ArrayRef> {
    map1::<_, _, StringArray>(call, call.texts(0)?, |a| f(a).map(Some))
}

fn two(call: &Call<'_>, f: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    map2::<_, _, _, BooleanArray>(call, call.texts(0)?, call.texts(1)?, |a, b| Ok(Some(f(a, b))))
}

fn length(call: &Call<'_>) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Utf8 => {
            map1::<_, _, Int64Array>(call, call.texts(0)?, |a: &str| Ok(i64::try_from(a.chars().count()).ok()))
        }
        _ => byte_length(call),
    }
}

fn byte_length(call: &Call<'_>) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Utf8 => map1::<_, _, Int64Array>(call, call.texts(0)?, |a: &str| Ok(i64::try_from(a.len()).ok())),
        _ => map1::<_, _, Int64Array>(call, call.bytes(0)?, |a: &[u8]| Ok(i64::try_from(a.len()).ok())),
    }
}

fn initcap(text: &str, delimiters: &str) -> String {
    let mut fresh = true;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if fresh {
            out.extend(letter.to_uppercase());
        } else {
            out.extend(letter.to_lowercase());
        }
        fresh = delimiters.contains(letter);
    }
    out
}

fn trim(call: &Call<'_>, start: bool, end: bool) -> Result<ArrayRef> {
    let plain = !call.has(1);
    let sets = call.texts_or(1, " ")?;
    map2::<_, _, _, StringArray>(call, call.texts(0)?, &sets, |text, set| {
        // Without a set of its own, what Unicode calls white space goes.
        let goes = |letter: char| if plain { letter.is_whitespace() } else { set.contains(letter) };
        let text = if start { text.trim_start_matches(goes) } else { text };
        Ok(Some(if end { text.trim_end_matches(goes) } else { text }.to_owned()))
    })
}

fn counted(call: &Call<'_>, name: &str, f: impl Fn(&str, usize) -> String) -> Result<ArrayRef> {
    map2::<_, _, _, StringArray>(call, call.texts(0)?, call.ints(1)?, |a, count| {
        let count = usize::try_from(count).map_err(|_| format!("{name} does not take {count} as a length"))?;
        Ok(Some(f(a, count)))
    })
}

/// Positions count from one; a negative one counts from the end; zero is read as one.
fn substr(call: &Call<'_>) -> Result<ArrayRef> {
    let cut = |text: &str, position: i64, length: i64| {
        if length < 0 {
            return Err(format!("SUBSTR does not take {length} as a length"));
        }
        let count = if position < 0 { i64::try_from(text.chars().count()).unwrap_or(i64::MAX) } else { 0 };
        let skip = match position {
            0 => 0,
            position if position > 0 => position - 1,
            position => count.saturating_add(position).max(0),
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let take = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some(text.chars().skip(skip).take(take).collect::<String>()))
    };
    if call.has(2) {
        return map3::<_, _, _, _, StringArray>(call, call.texts(0)?, call.ints(1)?, call.ints(2)?, cut);
    }
    map2::<_, _, _, StringArray>(call, call.texts(0)?, call.ints(1)?, |text, position| cut(text, position, i64::MAX))
}

/// The place of the `occurrence`th `needle` at or after character `from`; from the end where
/// `from` is negative; zero where there is none.
fn find(text: &str, needle: &str, from: i64, occurrence: usize) -> i64 {
    let letters: Vec<char> = text.chars().collect();
    let needle: Vec<char> = needle.chars().collect();
    if needle.len() > letters.len() {
        return 0;
    }
    let mut places = places(&letters, &needle).into_iter();
    let found = if from > 0 {
        let first = usize::try_from(from - 1).unwrap_or(usize::MAX);
        places.filter(|place| *place >= first).nth(occurrence - 1)
    } else {
        let back = usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX);
        match letters.len().checked_sub(back) {
            Some(end) => places
                .rfind(|place| *place <= end)
                .and_then(|last| if occurrence == 1 { Some(last) } else { places.rev().nth(occurrence - 2) }),
            None => None,
        }
    };
    found.and_then(|place| i64::try_from(place + 1).ok()).unwrap_or(0)
}

/// Where `needle` begins in `letters`, overlaps included, in a time that grows with both lengths and not their product:
/// Knuth, Morris and Pratt, Fast pattern matching in strings, 1977.
fn places(letters: &[char], needle: &[char]) -> Vec<usize> {
    if needle.is_empty() {
        return (0..=letters.len()).collect();
    }
    // Of each start of the needle, how much of its end is a start of the needle too.
    let mut again = vec![0; needle.len()];
    let mut fits = 0;
    for place in 1..needle.len() {
        while fits > 0 && needle[place] != needle[fits] {
            fits = again[fits - 1];
        }
        fits += usize::from(needle[place] == needle[fits]);
        again[place] = fits;
    }
    let mut found = Vec::new();
    fits = 0;
    for (place, letter) in letters.iter().enumerate() {
        while fits > 0 && (fits == needle.len() || *letter != needle[fits]) {
            fits = again[fits - 1];
        }
        fits += usize::from(*letter == needle[fits]);
        if fits == needle.len() {
            found.push(place + 1 - fits);
        }
    }
    found
}

fn instr(call: &Call<'_>) -> Result<ArrayRef> {
    let ones = Int64Array::from(vec![1; call.rows]);
    let from = if call.has(2) { call.ints(2)? } else { &ones };
    let occurrence = if call.has(3) { call.ints(3)? } else { &ones };
    let (text, needle) = (call.texts(0)?, call.texts(1)?);
    each::<_, Int64Array>(call, |row| {
        if text.is_null(row) || needle.is_null(row) || from.is_null(row) || occurrence.is_null(row) {
            return Ok(None);
        }
        match (from.value(row), usize::try_from(occurrence.value(row))) {
            (0, _) | (_, Ok(0) | Err(_)) => Err("INSTR takes no position 0 and no occurrence below 1".into()),
            (from, Ok(nth)) => Ok(Some(find(text.value(row), needle.value(row), from, nth))),
        }
    })
}

fn pad(call: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let pads = call.texts_or(2, " ")?;
    map3::<_, _, _, _, StringArray>(call, call.texts(0)?, call.ints(1)?, &pads, |text, width, pad| {
        if !(0..=LONGEST).contains(&width) || pad.is_empty() {
            return Err(format!("a text cannot be padded to {width} with '{pad}'"));
        }
        let width = usize::try_from(width).unwrap_or(0);
        let count = text.chars().count();
        if count >= width {
            return Ok(Some(text.chars().take(width).collect()));
        }
        let fill: String = pad.chars().cycle().take(width - count).collect();
        Ok(Some(if left { fill + text } else { text.to_owned() + &fill }))
    })
}

/// NULL where any argument is NULL.
fn concat(call: &Call<'_>) -> Result<ArrayRef> {
    each::<_, StringArray>(call, |row| {
        let mut out = String::new();
        for array in call.args {
            match cell_text(array, row) {
                Some(Ok(Some(text))) => {
                    within_longest(out.len() + text.len())?;
                    out.push_str(&text);
                }
                Some(Ok(None)) => return Ok(None),
                Some(Err(message)) => return Err(message),
                None => return Err(format!("CONCAT does not take {}", type_name(array.data_type()))),
            }
        }
        Ok(Some(out))
    })
}

/// Case does not count.
fn contains_substr(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[0];
    let needles = call.texts(1)?;
    each::<_, BooleanArray>(call, |row| {
        if needles.is_null(row) {
            return Err("CONTAINS_SUBSTR takes no NULL to look for".into());
        }
        match cell_text(values, row) {
            Some(text) => Ok(text?.map(|text| text.to_lowercase().contains(&needles.value(row).to_lowercase()))),
            None => Err(format!("CONTAINS_SUBSTR does not take {}", type_name(values.data_type()))),
        }
    })
}

/// An empty delimiter separates characters; an empty text is one empty part.
fn split(call: &Call<'_>) -> Result<ArrayRef> {
    let delimiters = call.texts_or(1, ",")?;
    let texts = call.args[0].as_string::<i32>();
    let mut parts = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        if texts.is_null(row) || delimiters.is_null(row) {
            parts.append_null();
            continue;
        }
        let (text, delimiter) = (texts.value(row), delimiters.value(row));
        if delimiter.is_empty() && !text.is_empty() {
            for letter in text.chars() {
                parts.values().append_value(letter.to_string());
            }
        } else if delimiter.is_empty() {
            parts.values().append_value("");
        } else {
            for part in text.split(delimiter) {
                parts.values().append_value(part);
            }
        }
        parts.append(true);
    }
    Ok(std::sync::Arc::new(parts.finish()))
}
