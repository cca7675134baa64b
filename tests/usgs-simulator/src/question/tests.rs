use super::*;

const NOW: i64 = 1_753_283_580_500;

fn ask(query: &str) -> Result<Question, Refusal> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    });
    Question::parse(&pairs.collect::<Vec<_>>(), NOW, 20_000)
}

fn refused(query: &str) -> String {
    ask(query).unwrap_err().message
}

#[test]
fn without_parameters_it_is_thirty_days_of_quakeml() {
    let asked = ask("").unwrap();
    assert_eq!(asked.start, 1_753_283_580_000 - 30 * 86_400_000);
    assert_eq!((asked.end, asked.limit, asked.offset), (None, None, 1));
    assert_eq!((asked.format, asked.order, asked.deleted), (Format::QuakeMl, Order::Time, Deleted::No));
}

#[test]
fn fractions_of_seconds_are_cut_off() {
    let asked = ask("starttime=2025-07-01T00:00:01.999&endtime=2025-07-02&updatedafter=1600-01-01T00:00:00").unwrap();
    assert_eq!(asked.start, parse_time("2025-07-01T00:00:01").unwrap());
    assert_eq!(asked.end, parse_time("2025-07-02T00:00:00"));
    assert_eq!(asked.updated_after, parse_time("1600-01-01"));
}

#[test]
fn names_are_case_sensitive_and_unknown_ones_are_refused() {
    assert_eq!(refused("startTime=2025-07-01"), "Unknown parameter \"startTime\".");
    assert_eq!(refused("colour=red"), "Unknown parameter \"colour\".");
    assert_eq!(refused("minsig=600"), "parameter \"minsig\" is not simulated");
    assert!(ask("colour=").is_ok(), "empty values are skipped");
}

#[test]
fn bad_values_are_named_as_the_service_names_them() {
    assert_eq!(
        refused("starttime=yesterday"),
        "Bad starttime value \"yesterday\". Valid values are ISO-8601 timestamps."
    );
    assert_eq!(refused("limit=20001"), "Bad limit value \"20001\". Valid values are 0 <= limit <= 20000");
    assert_eq!(refused("offset=0"), "Bad offset value \"0\". Valid values are 1 <= offset");
    assert_eq!(refused("minmagnitude=big"), "Bad minmagnitude value \"big\". Valid values are numeric");
    assert_eq!(refused("minlatitude=91"), "Bad minlatitude value \"91\". Valid values are -90 <= minlatitude <= 90");
    assert_eq!(
        refused("orderby=place"),
        "Bad orderby value \"place\". Valid values are: \"time\", \"time-asc\", \"magnitude\", \"magnitude-asc\"."
    );
    assert_eq!(refused("format=cap"), "format \"cap\" is not simulated");
    assert!(refused("format=atom").starts_with("Bad format value"));
    assert!(refused("includedeleted=maybe").starts_with("Bad includedeleted value"));
}

#[test]
fn deleted_events_are_for_csv_and_geojson_without_types() {
    assert_eq!(ask("format=csv&includedeleted=only").unwrap().deleted, Deleted::Only);
    assert_eq!(ask("format=csv&includedeleted=TRUE").unwrap().deleted, Deleted::Included);
    assert_eq!(ask("includedeleted=true").unwrap_err().status, 400);
    assert_eq!(ask("format=csv&includedeleted=only&eventtype=earthquake").unwrap_err().status, 503);
}

#[test]
fn live_and_deleted_together_time_out_beyond_a_day() {
    let day = Some(Duration::from_secs(86_400));
    let times_out = |query: &str| ask(query).unwrap().times_out(NOW, day);
    assert!(times_out("format=csv&includedeleted=true&starttime=2025-07-01"));
    assert!(!times_out("format=csv&includedeleted=true&starttime=2025-07-01&endtime=2025-07-02"));
    assert!(!times_out("format=csv&includedeleted=only&starttime=2025-07-01"));
    assert!(!times_out("format=csv&includedeleted=true&eventid=us1"));
}

#[test]
fn boxes_can_cross_the_date_line() {
    let asked = ask("minlongitude=170&maxlongitude=190").unwrap();
    assert!(asked.holds_longitude(175.0) && asked.holds_longitude(-175.0) && !asked.holds_longitude(0.0));
    let asked = ask("minlongitude=-190&maxlongitude=-170").unwrap();
    assert!(asked.holds_longitude(175.0) && asked.holds_longitude(-175.0) && !asked.holds_longitude(0.0));
    assert!(refused("minlongitude=-190").contains("cross dateline"));
    assert!(refused("minlongitude=10&maxlongitude=5").contains("less than"));
    assert!(refused("latitude=1&longitude=2").contains("maxradius"));
}
