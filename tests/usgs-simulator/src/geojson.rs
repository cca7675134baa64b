//! GeoJSON answers, byte for byte as the service writes them: its order of keys, its numbers, its line breaks.

use std::{fmt::Write, sync::Arc};

use crate::{
    answer::{HOST, SERVICE},
    catalogue::{Catalogue, Kind, Version},
    row::Column,
};

/// Whose links a feature carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Of a query.
    Service,
    /// Of a feed.
    Feed,
    /// None, for it is the detail itself. Its `products` are left empty: the simulator has none.
    Detail,
}

pub(crate) struct Metadata<'a> {
    /// Milliseconds since 1970.
    pub(crate) generated: i64,
    pub(crate) target: &'a str,
    pub(crate) title: &'a str,
    pub(crate) version: &'a str,
    /// `limit` and `offset`, when asked for.
    pub(crate) page: Option<(usize, usize)>,
}

/// A whole answer of many features.
pub(crate) fn collection(
    catalogue: &Catalogue,
    found: &[&Version],
    metadata: &Metadata<'_>,
    links: Links,
    now: i64,
) -> String {
    let mut out = String::with_capacity(600 + found.len() * 800);
    let page = metadata.page.map(|(limit, offset)| format!("\"limit\":{limit},\"offset\":{offset},"));
    put(
        &mut out,
        format_args!(
            "{{\"type\":\"FeatureCollection\",\"metadata\":{{\"generated\":{},\"url\":{},\"title\":{},\"status\":200,\
         \"api\":{},{}\"count\":{}}},\"features\":[",
            metadata.generated,
            quoted(&format!("{HOST}{}", metadata.target)),
            quoted(metadata.title),
            quoted(metadata.version),
            page.unwrap_or_default(),
            found.len(),
        ),
    );
    for (index, version) in found.iter().enumerate() {
        if index > 0 {
            out.push_str(",\n");
        }
        feature(&mut out, catalogue, version, links, now);
    }
    out.push(']');
    let (west, east) = extent(found.iter().map(|version| version.longitude));
    let (south, north) = extent(found.iter().map(|version| version.latitude));
    let (top, bottom) = extent(found.iter().map(|version| version.depth));
    if west < east && south < north && top < bottom {
        let corners = [west, south, top, east, north, bottom].map(fourteen_digits).join(",");
        put(&mut out, format_args!(",\"bbox\":[{corners}]"));
    }
    out.push('}');
    out
}

/// One feature.
pub(crate) fn feature(out: &mut String, catalogue: &Catalogue, version: &Version, links: Links, now: i64) {
    let fields = version.fields();
    let value = |column| fields.value(column);
    let text = |column| {
        if fields.raw(column).is_empty() { "null".to_owned() } else { quoted(&value(column)) }
    };
    let number = |column| fields.number(column).ok().flatten().map_or_else(|| "null".to_owned(), |n| n.to_string());
    let (id, net) = (value(Column::Id), value(Column::Net));
    let code = id.strip_prefix(net.as_ref()).unwrap_or(&id);
    let defaults = crate::Extras::default();
    let extras = version.extras.as_deref().unwrap_or(&defaults);
    let (ids, sources) = names(catalogue, version, now);
    let types = extras.types.clone().unwrap_or_else(|| vec!["origin".into(), "phase-data".into()]);
    let kind = Some(value(Column::Type)).filter(|kind| !kind.is_empty()).unwrap_or("earthquake".into());
    let detail = match links {
        Links::Service => {
            format!("\"detail\":\"{HOST}{SERVICE}/query?eventid={id}&format=geojson\",")
        }
        Links::Feed => format!("\"detail\":\"{HOST}/earthquakes/feed/v1.0/detail/{id}.geojson\","),
        Links::Detail => String::new(),
    };
    put(
        out,
        format_args!(
            "{{\"type\":\"Feature\",\"properties\":{{\"mag\":{},\"place\":{},\"time\":{},\"updated\":{},\"tz\":null,\
         \"url\":\"{HOST}/earthquakes/eventpage/{id}\",{detail}\"felt\":{},\"cdi\":{},\"mmi\":{},\"alert\":{},\
         \"status\":{},\"tsunami\":{},\"sig\":{},\"net\":{},\"code\":{},\"ids\":{},\"sources\":{},\"types\":{},\
         \"nst\":{},\"dmin\":{},\"rms\":{},\"gap\":{},\"magType\":{},\"type\":{},\"title\":{}{}}},\
         \"geometry\":{{\"type\":\"Point\",\"coordinates\":[{},{},{}]}},\"id\":{}}}",
            number(Column::Mag),
            text(Column::Place),
            version.time,
            version.updated,
            or_null(extras.felt.map(|felt| felt.to_string())),
            or_null(extras.cdi.map(|cdi| cdi.to_string())),
            or_null(extras.mmi.map(|mmi| mmi.to_string())),
            or_null(extras.alert.as_deref().map(quoted)),
            text(Column::Status),
            u8::from(extras.tsunami),
            or_null(significance(version).map(|sig| sig.to_string())),
            quoted(&net),
            quoted(code),
            wrapped(&ids),
            wrapped(&sources),
            wrapped(&types),
            number(Column::Nst),
            number(Column::Dmin),
            number(Column::Rms),
            number(Column::Gap),
            text(Column::MagType),
            quoted(&kind),
            quoted(&title(version.magnitude, &kind, &value(Column::Place))),
            if links == Links::Detail { ",\"products\":{}" } else { "" },
            number(Column::Longitude),
            number(Column::Latitude),
            number(Column::Depth),
            quoted(&id),
        ),
    );
}

/// How much an event matters, as the service reckons it from the magnitude alone.
pub(crate) fn significance(version: &Version) -> Option<i64> {
    if let Some(sig) = version.extras.as_deref().and_then(|extras| extras.sig) {
        return Some(sig);
    }
    let magnitude = if version.magnitude.is_nan() { 0.0 } else { version.magnitude };
    // Far below the limits of an i64 for any magnitude.
    Some((magnitude * 100.0 * (magnitude.abs() / 6.5)).round() as i64)
}

/// The ids of an event and their networks. A tombstone without an id names none.
fn names(catalogue: &Catalogue, version: &Version, now: i64) -> (Vec<String>, Vec<String>) {
    if version.kind == Kind::Deleted && version.field(Column::Id).is_empty() {
        return (Vec::new(), Vec::new());
    }
    let absorbed = catalogue.ids(version.event as usize, now);
    let extras = version.extras.as_deref();
    let ids = match extras.and_then(|extras| extras.ids.clone()) {
        Some(mut ids) => {
            let missing: Vec<&Arc<str>> =
                absorbed.iter().filter(|id| !ids.iter().any(|known| **known == ***id)).collect();
            ids.extend(missing.into_iter().map(ToString::to_string));
            ids
        }
        None => absorbed.iter().map(ToString::to_string).collect(),
    };
    let sources = extras.and_then(|extras| extras.sources.clone()).unwrap_or_else(|| {
        let net = |id: &String| match catalogue.net(id) {
            "" => id.chars().take(2).collect(),
            net => net.to_owned(),
        };
        ids.iter().map(net).collect()
    });
    (ids, sources)
}

fn wrapped(names: &[String]) -> String {
    if names.is_empty() { "null".to_owned() } else { quoted(&format!(",{},", names.join(","))) }
}

/// `M 4.7 - place`, or `M 1.2 Quarry Blast - place`.
fn title(magnitude: f64, kind: &str, place: &str) -> String {
    // The service rounds halves up, in decimals; the default formatting would round 0.85 down.
    let tenths = (magnitude * 10.0).round();
    let magnitude = if tenths.is_nan() { "?".to_owned() } else { format!("{:.1}", (tenths + 0.0) / 10.0) };
    let kind = match kind.to_lowercase().as_str() {
        "earthquake" => String::new(),
        "quarry" => " Quarry Blast".to_owned(),
        _ => kind.split(' ').map(capitalized).collect(),
    };
    format!("M {magnitude}{kind} - {place}")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| format!(" {}{}", first.to_uppercase(), letters.as_str()))
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

/// The box is written with fourteen significant digits.
fn fourteen_digits(value: f64) -> String {
    format!("{value:.13e}").parse::<f64>().unwrap_or(value).to_string()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn or_null(text: Option<String>) -> String {
    text.unwrap_or_else(|| "null".to_owned())
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_round_and_name_what_is_no_earthquake() {
        assert_eq!(title(4.65, "earthquake", "4 km NW of Cobb, CA"), "M 4.7 - 4 km NW of Cobb, CA");
        assert_eq!(title(0.85, "earthquake", "x"), "M 0.9 - x");
        assert_eq!(title(-0.04, "earthquake", "x"), "M 0.0 - x");
        assert_eq!(title(f64::NAN, "ice quake", "x"), "M ? Ice Quake - x");
    }

    #[test]
    fn corners_have_fourteen_digits() {
        assert_eq!(fourteen_digits(-122.756333333333), "-122.75633333333");
        assert_eq!(fourteen_digits(10.0), "10");
    }
}
