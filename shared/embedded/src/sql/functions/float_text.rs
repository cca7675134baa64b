//! FLOAT64 and NUMERIC as BigQuery's text.

/// The shortest text that reads back as the same FLOAT64, in the manner of C's `%g`.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // Fifteen digits are enough for most numbers, seventeen for all.
    let shortest = format!("{value:e}");
    let digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let precision: i32 = if digits <= 15 { 15 } else { 17 };
    let scientific = if digits <= 15 { shortest } else { format!("{value:.16e}") };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let after_point = usize::try_from(precision - 1 - exponent).unwrap_or(0);
    let plain = format!("{value:.after_point$}");
    if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.').to_owned() } else { plain }
}

/// A NUMERIC of scale nine without the zeros at its end.
pub(crate) fn numeric(units: i128) -> String {
    const SCALE: u128 = 1_000_000_000;
    let sign = if units < 0 { "-" } else { "" };
    let whole = units.unsigned_abs() / SCALE;
    let part = units.unsigned_abs() % SCALE;
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let part = format!("{part:09}");
    format!("{sign}{whole}.{}", part.trim_end_matches('0'))
}
