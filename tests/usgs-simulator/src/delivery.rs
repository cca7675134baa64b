//! Sending an answer: headers, compression, and the ways a body can fail to arrive.
//!
//! Invariant: a request counts as in flight until its last byte is handed over or the client has left.

use std::{io, io::Write, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::{Compression, write::GzEncoder};
use futures::stream;
use tokio::sync::watch;

use crate::{
    answer::{Answer, CSV},
    fault::Delivery,
    requests::InFlight,
};

/// Turns an answer into a response of the simulated now. `closing` ends bodies that would not end by themselves.
pub(crate) fn response(
    answer: &Answer,
    delivery: Delivery,
    gzip: bool,
    now: DateTime<Utc>,
    in_flight: InFlight,
    closing: watch::Receiver<bool>,
) -> io::Result<Response<Body>> {
    let endless = delivery == Delivery::Endless;
    let gzip = gzip && !endless && !answer.body.is_empty();
    let bytes = if gzip { compressed(&answer.body)? } else { answer.body.clone() };
    let length = bytes.len();
    let body = match delivery {
        Delivery::Endless => endless_body(answer, in_flight, closing),
        Delivery::Slow { chunk, delay } => slow_body(bytes, chunk, delay, in_flight, closing),
        Delivery::Broken { after } => broken_body(bytes.slice(..after.min(length.saturating_sub(1))), in_flight),
        Delivery::Whole | Delivery::Never => whole_body(bytes, in_flight),
    };
    let made = DateTime::<Utc>::from_timestamp_millis(answer.made).unwrap_or_default();
    let mut response = Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, answer.content_type)
        .header(header::CACHE_CONTROL, "public, max-age=60")
        // The server would add the real date, which is none of the simulated world.
        .header(header::DATE, http_date(now))
        .header(header::LAST_MODIFIED, http_date(made));
    if let Some(retry_after) = answer.retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        response = response.header(header::RETRY_AFTER, retry_after);
    }
    if gzip {
        response = response.header(header::CONTENT_ENCODING, "gzip").header(header::VARY, "Accept-Encoding");
    }
    if !endless && answer.status != 204 {
        response = response.header(header::CONTENT_LENGTH, length);
    }
    response.body(body).map_err(io::Error::other)
}

fn http_date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Whether an Accept-Encoding header asks for gzip.
pub(crate) fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let codings = accept_encoding.unwrap_or_default().split(',');
    codings.into_iter().any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        named && !parts.any(|weight| weight.replace(' ', "").trim_end_matches(['0', '.']) == "q=")
    })
}

fn compressed(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

fn whole_body(bytes: Bytes, in_flight: InFlight) -> Body {
    Body::from_stream(stream::once(async move {
        // Ended before the bytes go out, so that a client's next request never meets this one.
        drop(in_flight);
        Ok::<_, io::Error>(bytes)
    }))
}

fn slow_body(bytes: Bytes, chunk: usize, delay: Duration, in_flight: InFlight, closing: watch::Receiver<bool>) -> Body {
    let start = (bytes, Some(in_flight), closing);
    Body::from_stream(stream::unfold(start, move |(mut rest, mut in_flight, mut closing)| async move {
        if rest.is_empty() {
            return None;
        }
        let closed = tokio::select! {
            () = tokio::time::sleep(delay) => false,
            _ = closing.wait_for(|&closing| closing) => true,
        };
        if closed {
            return Some((Err(gone()), (Bytes::new(), None, closing)));
        }
        let part = rest.split_to(chunk.min(rest.len()));
        if rest.is_empty() {
            in_flight = None;
        }
        Some((Ok(part), (rest, in_flight, closing)))
    }))
}

fn broken_body(part: Bytes, in_flight: InFlight) -> Body {
    let start = (Some(part), in_flight);
    Body::from_stream(stream::unfold(start, |(part, in_flight)| async move {
        if let Some(part) = part {
            return Some((Ok(part), (None, in_flight)));
        }
        // Lets the server send the first part before it learns of the failure.
        tokio::task::yield_now().await;
        Some((Err(gone()), (None, in_flight)))
    }))
}

fn endless_body(answer: &Answer, in_flight: InFlight, closing: watch::Receiver<bool>) -> Body {
    const ROWS: u64 = 500;
    let csv = answer.content_type == CSV;
    // Up to where the first event stands; its own rows follow, each with an id of its own.
    let marker: &[u8] = if csv { b"\n" } else { b"\"features\":[" };
    let head = answer.body.windows(marker.len()).position(|window| window == marker).map_or(0, |at| at + marker.len());
    let start = (Some(answer.body.slice(..head)), 0_u64, in_flight, closing);
    Body::from_stream(stream::unfold(start, move |(head, number, in_flight, closing)| async move {
        if *closing.borrow() {
            return None;
        }
        if let Some(head) = head {
            return Some((Ok::<_, io::Error>(head), (None, 0, in_flight, closing)));
        }
        let rows: String =
            (number..number + ROWS).map(|number| if csv { row(number) } else { feature(number) }).collect();
        Some((Ok(rows.into()), (None, number + ROWS, in_flight, closing)))
    }))
}

fn row(number: u64) -> String {
    format!(
        "2000-01-01T00:00:00.000Z,0,0,10,1,ml,,,,,xx,xx{number:012},2000-01-01T00:00:00.000Z,\"Nowhere\",earthquake,,,,,\
         automatic,xx,xx\n"
    )
}

fn feature(number: u64) -> String {
    format!(
        "{{\"type\":\"Feature\",\"properties\":{{\"mag\":1,\"place\":\"Nowhere\",\"time\":946684800000,\
         \"updated\":946684800000}},\"geometry\":{{\"type\":\"Point\",\"coordinates\":[0,0,10]}},\
         \"id\":\"xx{number:012}\"}},\n"
    )
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_only_when_asked_for() {
        for yes in ["gzip", "gzip, br", "br;q=1.0, gzip;q=0.8", "*"] {
            assert!(accepts_gzip(Some(yes)), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip; q=0.0", "identity"] {
            assert!(!accepts_gzip(Some(no)), "{no}");
        }
        assert!(!accepts_gzip(None));
    }
}
