//! FORMAT, in the manner of C's `printf`.

use std::iter::Peekable;
use std::str::Chars;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::common::Result;

use super::casts::cell_text;
use super::float_text;
use super::rows::{Row, each, within_longest};
use super::signature::{Call, Kind, Spec, text, type_name};

pub(crate) static SPECS: &[Spec] = &[Spec::new("format", &[Kind::Text, Kind::Any], text, run).needs(1).repeats()];

/// `%[flags][width][.precision]specifier`.
#[derive(Default)]
struct Directive {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    grouped: bool,
    width: usize,
    precision: Option<usize>,
}

fn run(call: &Call<'_>) -> Result<ArrayRef> {
    let formats = call.texts(0)?;
    let rest = call.args.get(1..).unwrap_or_default();
    each::<_, StringArray>(call, |row| {
        if formats.is_null(row) {
            return Ok(None);
        }
        format(formats.value(row), rest, row)
    })
}

fn format(format: &str, args: &[ArrayRef], row: usize) -> Row<String> {
    let mut out = String::new();
    let mut letters = format.chars().peekable();
    let mut next = 0;
    let mut take = || -> Result<&ArrayRef, String> {
        next += 1;
        args.get(next - 1).ok_or_else(|| "FORMAT has fewer arguments than its text asks for".to_owned())
    };
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = letters.peek() {
            match flag {
                '-' => directive.left = true,
                '+' => directive.plus = true,
                ' ' => directive.space = true,
                '0' => directive.zero = true,
                '\'' => directive.grouped = true,
                _ => break,
            }
            letters.next();
        }
        directive.width = number(&mut letters)?.unwrap_or(0);
        if letters.next_if_eq(&'.').is_some() {
            directive.precision = Some(number(&mut letters)?.unwrap_or(0));
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some(specifier) => match one(&directive, specifier, take()?, row)? {
                Some(text) => {
                    within_longest(out.len() + text.len())?;
                    out.push_str(&text);
                }
                None => return Ok(None),
            },
            None => return Err("FORMAT's text ends in a single %".into()),
        }
    }
    if next < args.len() {
        return Err("FORMAT has more arguments than its text asks for".into());
    }
    Ok(Some(out))
}

fn number(letters: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, String> {
    let mut digits = String::new();
    while let Some(digit) = letters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    if digits.is_empty() {
        return Ok(None);
    }
    match digits.parse::<usize>() {
        Ok(number) if number <= 1_000 => Ok(Some(number)),
        _ => Err(format!("a width or precision of {digits} is not supported")),
    }
}

fn one(directive: &Directive, specifier: char, array: &ArrayRef, row: usize) -> Row<String> {
    let unfit = || format!("FORMAT's %{specifier} does not take {}", type_name(array.data_type()));
    if array.is_null(row) && specifier != 't' {
        return Ok(None);
    }
    Ok(Some(match specifier {
        't' => pad(directive, &cell_text(array, row).ok_or_else(unfit)??.unwrap_or_else(|| "NULL".into())),
        's' => match array.data_type() {
            DataType::Utf8 => {
                let text = array.as_string::<i32>().value(row);
                match directive.precision {
                    Some(most) => pad(directive, &text.chars().take(most).collect::<String>()),
                    None => pad(directive, text),
                }
            }
            _ => return Err(unfit()),
        },
        'd' | 'i' => match array.data_type() {
            DataType::Int64 => {
                let value = array.as_primitive::<Int64Type>().value(row);
                let digits = format!("{:0>1$}", value.unsigned_abs(), directive.precision.unwrap_or(1));
                signed(directive, value < 0, &digits, directive.precision.is_none())
            }
            _ => return Err(unfit()),
        },
        'x' | 'X' | 'o' => match array.data_type() {
            DataType::Int64 => {
                let value = array.as_primitive::<Int64Type>().value(row);
                let magnitude = value.unsigned_abs();
                let digits = match specifier {
                    'x' => format!("{magnitude:x}"),
                    'X' => format!("{magnitude:X}"),
                    _ => format!("{magnitude:o}"),
                };
                signed(directive, value < 0, &digits, true)
            }
            _ => return Err(unfit()),
        },
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
            let value = match array.data_type() {
                DataType::Float64 => array.as_primitive::<Float64Type>().value(row),
                DataType::Decimal128(..) => {
                    let units = array.as_primitive::<Decimal128Type>().value(row);
                    float_text::numeric(units).parse().map_err(|_| unfit())?
                }
                _ => return Err(unfit()),
            };
            if !value.is_finite() {
                return Ok(Some(pad(directive, &float_text::float(value).to_lowercase())));
            }
            let precision = directive.precision.unwrap_or(6);
            let digits = match specifier.to_ascii_lowercase() {
                'f' => format!("{:.precision$}", value.abs()),
                'e' => exponential(value.abs(), precision),
                _ => general(value.abs(), precision.max(1)),
            };
            let digits = if specifier.is_uppercase() { digits.to_uppercase() } else { digits };
            signed(directive, value.is_sign_negative(), &digits, true)
        }
        other => return Err(format!("FORMAT's %{other} is not supported")),
    }))
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn general(value: f64, precision: usize) -> String {
    let rounded = format!("{value:.*e}", precision - 1);
    let exponent: i32 = rounded.split_once('e').and_then(|(_, digits)| digits.parse().ok()).unwrap_or(0);
    let most = i32::try_from(precision).unwrap_or(i32::MAX);
    let text = if exponent < -4 || exponent >= most {
        exponential(value, precision - 1)
    } else {
        format!("{value:.*}", usize::try_from(most - 1 - exponent).unwrap_or(0))
    };
    let (mantissa, tail) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, format!("e{exponent}")),
        None => (text.as_str(), String::new()),
    };
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    format!("{mantissa}{tail}")
}

fn signed(directive: &Directive, negative: bool, digits: &str, zeros: bool) -> String {
    let sign = match (negative, directive.plus, directive.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    };
    let grouped = if directive.grouped { group(digits) } else { digits.to_owned() };
    if directive.zero && !directive.left && zeros {
        let width = directive.width.saturating_sub(sign.len());
        return format!("{sign}{grouped:0>width$}");
    }
    pad(directive, &format!("{sign}{grouped}"))
}

/// Commas between thousands.
fn group(digits: &str) -> String {
    let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = digits.split_at(whole);
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

fn pad(directive: &Directive, text: &str) -> String {
    let width = directive.width;
    if directive.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}
