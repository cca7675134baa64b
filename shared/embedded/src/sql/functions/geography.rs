//! Points on the globe, kept as BigQuery shows them: well-known text, longitude first.
//!
//! Distances are on the sphere of radius 6,371,010 m that BigQuery's S2 library uses
//! (`S2Earth::RadiusMeters`, <https://github.com/google/s2geometry/blob/master/src/s2/s2earth.h>).

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, StringArray};
use datafusion::common::Result;

use super::float_text;
use super::rows::{each, map1, map2, map3};
use super::signature::{Call, Kind, Spec, boolean, float, text};

use Kind::{Float, Text};

const RADIUS_METRES: f64 = 6_371_010.0;

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("st_geogpoint", &[Float, Float], text, |call| {
        map2::<_, _, _, StringArray>(call, call.floats(0)?, call.floats(1)?, |longitude, latitude| {
            let (longitude, latitude) = point(longitude, latitude)?;
            Ok(Some(format!("POINT({} {})", float_text::float(longitude), float_text::float(latitude))))
        })
    }),
    Spec::new("st_distance", &[Text, Text], float, |call| {
        map2::<_, _, _, Float64Array>(call, call.texts(0)?, call.texts(1)?, |a, b| {
            Ok(Some(distance(read(a)?, read(b)?)))
        })
    }),
    Spec::new("st_dwithin", &[Text, Text, Float], boolean, |call| {
        map3::<_, _, _, _, BooleanArray>(call, call.texts(0)?, call.texts(1)?, call.floats(2)?, |a, b, metres| {
            Ok(Some(distance(read(a)?, read(b)?) <= metres))
        })
    }),
    Spec::new("st_x", &[Text], float, |call| coordinate(call, |(longitude, _)| longitude)),
    Spec::new("st_y", &[Text], float, |call| coordinate(call, |(_, latitude)| latitude)),
    Spec::new("st_astext", &[Text], text, |call| {
        map1::<_, _, StringArray>(call, call.texts(0)?, |value: &str| read(value).map(|_| Some(value.to_owned())))
    }),
    Spec::new("great_circle", &[Float, Float, Float, Float], float, great_circle),
];

/// The point, its longitude brought between -180 and 180.
fn point(longitude: f64, latitude: f64) -> Result<(f64, f64), String> {
    if !(-90.0..=90.0).contains(&latitude) {
        return Err(format!("latitude must be between -90 and 90 degrees, not {latitude}"));
    }
    if !longitude.is_finite() {
        return Err(format!("longitude must be finite, not {longitude}"));
    }
    let turned =
        if (-180.0..=180.0).contains(&longitude) { longitude } else { (longitude + 180.0).rem_euclid(360.0) - 180.0 };
    Ok((turned, latitude))
}

fn read(value: &str) -> Result<(f64, f64), String> {
    let numbers = value
        .trim()
        .strip_prefix("POINT")
        .and_then(|rest| rest.trim_start().strip_prefix('('))
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|rest| rest.trim().split_once(' '));
    match numbers {
        Some((longitude, latitude)) => {
            let number = |text: &str| text.trim().parse::<f64>().map_err(|_| format!("'{value}' is not a point"));
            point(number(longitude)?, number(latitude)?)
        }
        None => Err(format!("'{value}' is not a point: only points are supported")),
    }
}

/// Metres along the great circle, by Vincenty's formula for a sphere, which holds at any distance.
fn distance((lon_a, lat_a): (f64, f64), (lon_b, lat_b): (f64, f64)) -> f64 {
    let (sin_a, cos_a) = lat_a.to_radians().sin_cos();
    let (sin_b, cos_b) = lat_b.to_radians().sin_cos();
    let (sin_d, cos_d) = (lon_b - lon_a).to_radians().sin_cos();
    let across = (cos_b * sin_d).hypot(cos_a * sin_b - sin_a * cos_b * cos_d);
    let along = sin_a * sin_b + cos_a * cos_b * cos_d;
    RADIUS_METRES * across.atan2(along)
}

fn coordinate(call: &Call<'_>, f: fn((f64, f64)) -> f64) -> Result<ArrayRef> {
    map1::<_, _, Float64Array>(call, call.texts(0)?, |value| read(value).map(|point| Some(f(point))))
}

/// ST_DISTANCE of two ST_GEOGPOINTs without the text in between.
fn great_circle(call: &Call<'_>) -> Result<ArrayRef> {
    let (lon_a, lat_a, lon_b, lat_b) = (call.floats(0)?, call.floats(1)?, call.floats(2)?, call.floats(3)?);
    each::<_, Float64Array>(call, |row| {
        if [lon_a, lat_a, lon_b, lat_b].iter().any(|array| array.is_null(row)) {
            return Ok(None);
        }
        let a = point(lon_a.value(row), lat_a.value(row))?;
        let b = point(lon_b.value(row), lat_b.value(row))?;
        Ok(Some(distance(a, b)))
    })
}
