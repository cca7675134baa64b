use super::*;

fn at(text: &str) -> Timestamp {
    timestamp(text).unwrap()
}

fn refused(ask: &Ask, attempt: u32, status: u16, body: &str) -> Refusal {
    let cursor = Cursor { watermark: at("2025-07-23T12:00:00Z"), seen: Vec::new() };
    let headers = HeaderMap::new();
    let status = StatusCode::from_u16(status).unwrap();
    Usgs.refused(ask, Some(&cursor), attempt, &Refused { status, headers: &headers, body })
}

#[test]
fn magnitude_bands_have_stated_edges() {
    let bands = [(-0.01, "below 0"), (0.0, "0-1"), (0.99, "0-1"), (1.0, "1-2"), (9.5, "9-10"), (10.0, "9-10")];
    for (mag, band) in bands {
        assert_eq!(mag_cluster(mag), band, "{mag}");
    }
    assert_eq!(mag_cluster(10.1), "above 10");
    assert_eq!(mag_cluster(-0.0), "0-1");
}

#[test]
fn a_tick_asks_for_all_changes_since_two_hours_before_the_cursor() {
    let cursor = Cursor { watermark: at("2025-07-23T12:00:00Z"), seen: Vec::new() };
    let plan = Usgs.plan(&Ask::Tick { days: 30, sweep: false }, Some(&cursor), None);
    let Plan::Query { questions, again } = plan else { panic!() };
    let Plan::Query { questions: same, .. } = Usgs.plan(&again, None, None) else { panic!() };
    assert_eq!(questions, same);
    let sent = |question: &Question| {
        let pairs = question.query.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        (question.form.name, pairs.collect::<Vec<_>>().join("&"))
    };
    let window = "starttime=1600-01-01T00:00:00&updatedafter=2025-07-23T10:00:00&orderby=time-asc";
    assert_eq!(
        questions.iter().map(sent).collect::<Vec<_>>(),
        [
            ("details", format!("format=geojson&{window}")),
            ("events", format!("format=csv&{window}")),
            ("deleted", format!("format=geojson&{window}&includedeleted=only")),
        ]
    );
}

#[test]
fn a_sweep_reads_a_week_of_updates_and_the_sources_own_list_again() {
    let cursor = Cursor { watermark: at("2025-07-23T12:00:00Z"), seen: Vec::new() };
    let plan = Usgs.plan(&Ask::Tick { days: 30, sweep: true }, Some(&cursor), None);
    let since = at("2025-07-16T12:00:00Z");
    assert_eq!(plan, Plan::Split(vec![Ask::Updates { since, start: beginning(), end: None }, Ask::Recent], None));
    let Plan::Query { questions, .. } = Usgs.plan(&Ask::Recent, None, None) else { panic!() };
    let asked: Vec<_> = questions.iter().map(|question| question.query.path.as_str()).collect();
    let list = "/earthquakes/feed/v1.0/summary/all_month";
    assert_eq!(asked, [format!("{list}.geojson"), format!("{list}.csv")]);
}

#[test]
fn a_feature_is_read_like_a_row() {
    let feature = r#"{"features":[{"type":"Feature","properties":{"mag":-0.5,"place":"8 km W of Cobb","time":1753283520123,
        "updated":1753283620000,"status":"deleted","tsunami":0,"sig":3,"felt":null,"cdi":null,"alert":null,"net":"nc",
        "ids":",nc1,","url":"https://x/nc1","nst":7,"magType":"md","type":""},
        "geometry":{"type":"Point","coordinates":[-122.8,38.8,null]},"id":"nc1"}]}"#;
    let dataset = Earthquakes::default();
    let mut seen = Vec::new();
    for form in [DELETED_FORM, DETAILS_FORM] {
        let mut check = form.check();
        check
            .feed(feature.as_bytes(), |record| {
                assert_eq!(dataset.changed_at(form, record), Some(at("2025-07-23T15:13:40Z")));
                let mut values = Vec::new();
                if form.has_rows() {
                    dataset.read(form, record, &mut values).unwrap();
                } else {
                    let details = dataset.details(form, record).unwrap();
                    assert_eq!(details.key, "nc1");
                    values = details.values;
                }
                seen.push(values);
            })
            .unwrap();
    }
    let row: std::collections::BTreeMap<_, _> =
        TABLE.columns.iter().map(|column| column.name).zip(seen[0].clone()).collect();
    assert_eq!(row["time"], Value::Timestamp(at("2025-07-23T15:12:00.123Z")));
    assert_eq!((&row["mag"], &row["mag_cluster"]), (&Value::Float(-0.5), &Value::Text("below 0".into())));
    assert_eq!((&row["depth"], &row["type"], &row["nst"]), (&Value::Null, &Value::Null, &Value::Integer(7)));
    assert_eq!((&row["horizontalError"], &row["status"]), (&Value::Null, &Value::Text("deleted".into())));
    assert_eq!(&seen[0][DETAILS], seen[1]);
    assert_eq!(seen[1][0], Value::Text(",nc1,".into()));
}

#[test]
fn a_first_tick_counts_its_days_by_the_clock_of_the_source() {
    let ask = Ask::Tick { days: 30, sweep: false };
    assert!(matches!(Usgs.plan(&ask, None, None), Plan::NeedsClock));
    let now = at("2025-07-23T15:12:00Z");
    let first = Ask::Range { start: at("2025-06-23T15:12:00Z"), end: now };
    assert!(matches!(Usgs.plan(&ask, None, Some(now)), Plan::Query { again, .. } if again == first));
    let year = Ask::Tick { days: 365, sweep: false };
    assert!(matches!(Usgs.plan(&year, None, Some(now)), Plan::Split(parts, Some(_)) if parts.len() == 12));
}

#[test]
fn parts_of_a_range_share_their_boundary_and_cover_it() {
    let (start, end) = (at("1600-01-01T00:00:00Z"), at("2025-07-23T00:00:00Z"));
    let Plan::Split(parts, None) = Usgs.plan(&Ask::Range { start, end }, None, None) else { panic!() };
    let mut reached = start;
    for part in parts {
        let Ask::Range { start, end } = part else { panic!() };
        assert_eq!(start, reached);
        assert!(end - start <= longest(start));
        reached = end;
    }
    assert_eq!(reached, end);
}

#[test]
fn times_at_the_ends_of_the_calendar_are_planned_in_a_bounded_number_of_parts() {
    let (first, last) = (Timestamp::MIN_UTC, Timestamp::MAX_UTC);
    let Plan::Split(parts, None) = Usgs.plan(&Ask::Range { start: first, end: last }, None, None) else { panic!() };
    assert!(parts.len() < 100_000);
    let tick = Ask::Tick { days: u32::MAX, sweep: false };
    let now = at("2025-07-23T15:12:00Z");
    let Plan::Split(parts, Some(_)) = Usgs.plan(&tick, None, Some(now)) else { panic!() };
    assert!(matches!(parts[0], Ask::Range { start, .. } if start == beginning()));
    let cursor = Cursor { watermark: first, seen: Vec::new() };
    assert!(matches!(Usgs.plan(&tick, Some(&cursor), None), Plan::Query { .. }));
    let most = u64::MAX;
    let body = format!("{most} matching events exceeds search limit of {most}.");
    for since in [first, last] {
        for start in [first, last] {
            refused(&Ask::Updates { since, start, end: None }, 1, 400, &body);
        }
    }
    let ask = Ask::Range { start: first, end: last };
    let Refusal::Split(parts) = refused(&ask, 1, 400, &body) else { panic!() };
    assert!(parts.len() <= 4097);
}

#[test]
fn too_many_events_split_by_the_count_that_the_service_reports() {
    let ask = Ask::Range { start: at("2024-01-01T00:00:00Z"), end: at("2025-01-01T00:00:00Z") };
    let body = "Error 400: Bad Request\n\n119000 matching events exceeds search limit of 20000. Modify the search.\n";
    let Refusal::Split(parts) = refused(&ask, 1, 400, body) else { panic!() };
    assert_eq!(parts.len(), 8);
    assert_eq!(refused(&ask, 1, 400, "Error 400: bad starttime"), Refusal::Never);
    let second = Ask::Range { start: at("2024-01-01T00:00:00Z"), end: at("2024-01-01T00:00:01Z") };
    assert_eq!(refused(&second, 1, 400, body), Refusal::Never);
}

#[test]
fn time_outs_halve_and_overloads_wait_out_the_error_cache_first() {
    let ask = Ask::Range { start: at("2024-01-01T00:00:00Z"), end: at("2024-01-31T00:00:00Z") };
    assert!(matches!(refused(&ask, 1, 504, ""), Refusal::Split(parts) if parts.len() == 2));
    assert_eq!(refused(&ask, 1, 503, ""), Refusal::Later(Duration::from_secs(60)));
    assert!(matches!(refused(&ask, 2, 503, ""), Refusal::Split(_)));
    let day = Ask::Range { start: at("2024-01-01T00:00:00Z"), end: at("2024-01-02T00:00:00Z") };
    assert_eq!(refused(&day, 3, 504, ""), Refusal::Later(Duration::from_secs(60)));
    assert_eq!(refused(&day, 2, 429, ""), Refusal::Later(Duration::from_secs(120)));
}

#[test]
fn a_tick_that_is_too_large_splits_until_its_parts_are_small() {
    let tick = Ask::Tick { days: 30, sweep: false };
    let body = "90000 matching events exceeds search limit of 20000. Modify the search to match fewer events.";
    let Refusal::Split(parts) = refused(&tick, 1, 400, body) else { panic!() };
    let [Ask::Updates { end: Some(end), .. }, recent @ Ask::Updates { start, end: None, .. }] = &parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(start, end);
    let mut rounds = 0;
    let mut endless = recent.clone();
    while let Refusal::Split(parts) = refused(&endless, 1, 400, body) {
        endless = parts.last().unwrap().clone();
        rounds += 1;
        assert!(rounds < 10, "an endless range must stop splitting");
    }
}

#[test]
fn the_time_of_an_answer_is_the_one_the_server_states() {
    let mut headers = HeaderMap::new();
    headers.insert(header::DATE, "Wed, 23 Jul 2025 15:13:00 GMT".parse().unwrap());
    assert_eq!(Usgs.observed_at(&headers), Some(at("2025-07-23T15:13:00Z")));
    headers.insert(header::LAST_MODIFIED, "Wed, 23 Jul 2025 15:12:00 GMT".parse().unwrap());
    assert_eq!(Usgs.observed_at(&headers), Some(at("2025-07-23T15:12:00Z")));
}
