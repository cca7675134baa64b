//! PARSE_DATE, PARSE_DATETIME and PARSE_TIMESTAMP.
//!
//! Invariant: the whole text is read, and a field that the format does not name is that of
//! 1970-01-01 00:00:00.

use super::calendar::{DAY, days, in_range, midnight};
use super::format_time::{MONTHS, WEEKDAYS, date_of};
use super::zone::Zone;

/// The elements that [`parse`] knows, after the `%`.
pub(crate) const ELEMENTS: &str = "AaBbhDdeFHIjkklMmnPpRSsTtYyXxzZ%";

struct Fields {
    year: i32,
    month: u32,
    day: u32,
    ordinal: Option<u32>,
    hour: i64,
    minute: i64,
    second: i64,
    afternoon: Option<bool>,
    half: bool,
    seconds: Option<i64>,
    zone: Zone,
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn number(&mut self, most: usize) -> Option<i64> {
        self.rest = self.rest.trim_start();
        let length = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        digits.parse().ok()
    }

    fn between(&mut self, most: usize, low: i64, high: i64) -> Option<i64> {
        self.number(most).filter(|value| (low..=high).contains(value))
    }

    fn literal(&mut self, letter: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(letter)?;
        Some(())
    }

    /// A name in full or by its first three letters.
    fn name(&mut self, names: &[&str]) -> Option<usize> {
        for (place, name) in names.iter().enumerate() {
            for length in [name.len(), 3] {
                if self.rest.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(&name[..length])) {
                    self.rest = &self.rest[length..];
                    return Some(place);
                }
            }
        }
        None
    }

    fn word(&mut self, ends: fn(char) -> bool) -> &'a str {
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }
}

/// The instant that `text` says in the words of `format`, on the clock of `zone`.
pub(crate) fn parse(format: &str, text: &str, zone: Zone) -> Result<i64, String> {
    let mut fields = Fields {
        year: 1970,
        month: 1,
        day: 1,
        ordinal: None,
        hour: 0,
        minute: 0,
        second: 0,
        afternoon: None,
        half: false,
        seconds: None,
        zone,
    };
    let mut reader = Reader { rest: text };
    let unread = || format!("'{text}' does not fit the format '{format}'");
    read(format, &mut reader, &mut fields)?.ok_or_else(unread)?;
    if !reader.rest.trim_start().is_empty() {
        return Err(unread());
    }
    if let Some(seconds) = fields.seconds {
        return in_range(seconds.checked_mul(1_000_000));
    }
    if fields.half {
        fields.hour = fields.hour % 12 + if fields.afternoon == Some(true) { 12 } else { 0 };
    }
    let day = match fields.ordinal {
        Some(ordinal) => {
            let day = days(date_of(fields.year, 1, 1)?)? + i32::try_from(ordinal).map_err(|_| unread())? - 1;
            if day > days(date_of(fields.year, 12, 31)?)? {
                return Err(unread());
            }
            day
        }
        None => days(date_of(fields.year, fields.month, fields.day).map_err(|_| unread())?)?,
    };
    // A leap second is read as the first second of the next minute.
    let time = (fields.hour * 3_600 + fields.minute * 60 + fields.second) * 1_000_000;
    debug_assert!(time <= DAY);
    in_range(Some(fields.zone.to_instant(midnight(day) + time)?))
}

/// `Ok(None)` where the text does not fit; an error where the format itself is not supported.
fn read(format: &str, reader: &mut Reader<'_>, fields: &mut Fields) -> Result<Option<()>, String> {
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        let fits = if letter.is_whitespace() {
            reader.rest = reader.rest.trim_start();
            Some(())
        } else if letter != '%' {
            reader.literal(letter)
        } else {
            let element = letters.next().ok_or("a format ends in a single %")?;
            let compound = match element {
                'F' => Some("%Y-%m-%d"),
                'T' | 'X' => Some("%H:%M:%S"),
                'R' => Some("%H:%M"),
                'D' | 'x' => Some("%m/%d/%y"),
                _ => None,
            };
            match compound {
                Some(parts) => read(parts, reader, fields)?,
                None if ELEMENTS.contains(element) => read_element(element, reader, fields),
                None => return Err(format!("the format element %{element} is not supported in parsing")),
            }
        };
        if fits.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

fn read_element(element: char, reader: &mut Reader<'_>, fields: &mut Fields) -> Option<()> {
    match element {
        'Y' => fields.year = i32::try_from(reader.between(4, 1, 9999)?).ok()?,
        'y' => {
            let year = i32::try_from(reader.number(2)?).ok()?;
            fields.year = if year < 69 { 2000 + year } else { 1900 + year };
        }
        'm' => fields.month = u32::try_from(reader.between(2, 1, 12)?).ok()?,
        'B' | 'b' | 'h' => fields.month = u32::try_from(reader.name(&MONTHS)?).ok()? + 1,
        'd' | 'e' => fields.day = u32::try_from(reader.between(2, 1, 31)?).ok()?,
        'j' => fields.ordinal = Some(u32::try_from(reader.between(3, 1, 366)?).ok()?),
        'A' | 'a' => {
            reader.name(&WEEKDAYS)?;
        }
        'H' | 'k' => {
            fields.hour = reader.between(2, 0, 23)?;
            fields.half = false;
        }
        'I' | 'l' => {
            fields.hour = reader.between(2, 1, 12)?;
            fields.half = true;
        }
        'M' => fields.minute = reader.between(2, 0, 59)?,
        'S' => fields.second = reader.between(2, 0, 60)?,
        'P' | 'p' => {
            let half = reader.rest.get(..2)?.to_ascii_lowercase();
            fields.afternoon = Some(match half.as_str() {
                "am" => false,
                "pm" => true,
                _ => return None,
            });
            reader.rest = &reader.rest[2..];
        }
        's' => {
            let negative = reader.literal('-').is_some();
            let seconds = reader.number(19)?;
            fields.seconds = Some(if negative { -seconds } else { seconds });
        }
        'z' => {
            let word = reader.word(char::is_whitespace);
            let digits = word.get(1..)?.replace(':', "");
            if digits.len() != 4 {
                return None;
            }
            fields.zone = Zone::parse(&format!("{}{}:{}", &word[..1], digits.get(..2)?, digits.get(2..)?)).ok()?;
        }
        'Z' => fields.zone = Zone::parse(reader.word(char::is_whitespace)).ok()?,
        'n' | 't' => reader.rest = reader.rest.trim_start(),
        '%' => reader.literal('%')?,
        _ => return None,
    }
    Some(())
}
