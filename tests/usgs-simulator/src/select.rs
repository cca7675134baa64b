//! Finding the versions that a question asks for, as of an instant.

use std::cmp::Ordering;

use crate::{
    catalogue::{Catalogue, Kind, Version},
    question::{Deleted, Order, Question},
    row::Column,
};

impl Catalogue {
    /// The matching versions in the order asked for, `limit` and `offset` applied. An id alone decides when one is
    /// given: the service ignores the other filters then.
    pub(crate) fn select(&self, asked: &Question, now: i64) -> Vec<&Version> {
        let mut found: Vec<&Version> = match &asked.event_id {
            Some(id) => self.known_as(id, now).filter(|version| wanted(version, asked.deleted)).into_iter().collect(),
            None => {
                let matching = self
                    .between(asked.start, asked.end.unwrap_or(i64::MAX))
                    .filter(|version| version.visible(now) && matches(version, asked));
                if asked.order == Order::Time { matching.rev().collect() } else { matching.collect() }
            }
        };
        // A missing magnitude is the smallest, as in the service's database.
        let smaller = |a: &Version, b: &Version| match (a.magnitude.is_nan(), b.magnitude.is_nan()) {
            (false, false) => a.magnitude.total_cmp(&b.magnitude),
            (a, b) => b.cmp(&a),
        };
        match asked.order {
            Order::Time | Order::TimeAscending => {}
            Order::MagnitudeAscending => found.sort_by(|a, b| smaller(a, b)),
            Order::Magnitude => found.sort_by(|a, b| Ordering::reverse(smaller(a, b))),
        }
        if let Some(limit) = asked.limit {
            found = found.into_iter().skip(asked.offset - 1).take(limit).collect();
        }
        found
    }
}

fn wanted(version: &Version, deleted: Deleted) -> bool {
    match deleted {
        Deleted::No => version.kind == Kind::Live,
        Deleted::Only => version.kind == Kind::Deleted,
        Deleted::Included => true,
    }
}

/// All filters but the origin time.
fn matches(version: &Version, asked: &Question) -> bool {
    wanted(version, asked.deleted)
        && asked.updated_after.is_none_or(|after| version.updated >= after)
        && asked.magnitude.hold(version.magnitude)
        && asked.latitude.hold(version.latitude)
        && asked.depth.hold(version.depth)
        && asked.holds_longitude(version.longitude)
        && asked.circle.is_none_or(|(latitude, longitude, radius)| {
            radius.hold(degrees_between(latitude, longitude, version.latitude, version.longitude))
        })
        && asked.catalog.as_deref().is_none_or(|net| version.field(Column::Net) == net)
        && asked.magnitude_type.as_deref().is_none_or(|kind| version.field(Column::MagType).eq_ignore_ascii_case(kind))
        && asked.review.as_deref().is_none_or(|status| version.field(Column::Status) == status)
        && (asked.event_types.is_empty()
            || asked.event_types.iter().any(|kind| version.field(Column::Type).eq_ignore_ascii_case(kind)))
}

/// Great-circle distance in degrees, by the haversine formula.
pub(crate) fn degrees_between(latitude: f64, longitude: f64, other_latitude: f64, other_longitude: f64) -> f64 {
    let (first, second) = (latitude.to_radians(), other_latitude.to_radians());
    let square = |angle: f64| (angle / 2.0).sin().powi(2);
    let turned = (other_longitude - longitude).to_radians();
    let a = square(second - first) + first.cos() * second.cos() * square(turned);
    (2.0 * a.sqrt().min(1.0).asin()).to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_globe_is_ninety_degrees() {
        assert!((degrees_between(0.0, 0.0, 90.0, 33.0) - 90.0).abs() < 1e-9);
        assert!((degrees_between(0.0, 179.0, 0.0, -179.0) - 2.0).abs() < 1e-9);
    }
}
