//! Rows that cannot be read: set aside with line, text and reason, and every other row kept.

use shared::dataset::Ask;
use shared::store::Store;
use tests::{GLITCH, World};
use usgs_simulator::{Catalogue, Fault};

/// The file, its rows, and how many of them say no time.
const FILES: [(&str, u64, u64); 4] = [
    ("all_day_2024-10-07T131609Z_hous.csv", 204, 0),
    ("all_day_2024-10-07T132724Z_alph.csv", 202, 202),
    ("all_day_2024-10-08T174136Z_alph.csv", 250, 250),
    ("all_day_2024-10-08T175112Z_hous.csv", 250, 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_hours_without_times_end_in_quarantine_and_every_other_row_is_kept() {
    let world = World::new(Catalogue::empty()).await.unwrap();
    let day =
        Ask::Range { start: "2024-10-07T00:00:00Z".parse().unwrap(), end: "2024-10-08T00:00:00Z".parse().unwrap() };
    for (file, rows, unreadable) in FILES {
        let bytes = std::fs::read(format!("{GLITCH}/{file}")).unwrap();
        world.handle().fault(Fault::RawBody(bytes.into()).when(|it| it.target.contains("format=csv")));
        world.ask(day.clone()).await.unwrap();
        let record = world.ledger("earthquakes").await.unwrap().into_iter().rfind(|it| it.stage == "land").unwrap();
        let counts = (record.rows_in, record.rows_kept, record.rows_quarantined);
        assert_eq!(counts, (rows, rows - unreadable, unreadable), "{file}");
        if unreadable == 0 {
            continue;
        }
        let capture = record.capture.unwrap();
        let object = world.store.get(&capture.quarantine("earthquakes")).await.unwrap().unwrap();
        let lines: Vec<serde_json::Value> = object
            .bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len() as u64, unreadable);
        let text = std::fs::read_to_string(format!("{GLITCH}/{file}")).unwrap();
        for line in &lines {
            let number = usize::try_from(line["line"].as_u64().unwrap()).unwrap();
            assert_eq!(line["raw"], text.lines().nth(number - 1).unwrap());
            assert_eq!(line["column"], "time");
            assert!(line["reason"].as_str().unwrap().contains("2147483648"), "{line}");
        }
    }
    // Two files hold the same day twice with different digits; no event is lost or doubled by that.
    let kept = world.query("select count(distinct event_id), count(*) from fct_earthquakes").await.unwrap();
    assert_eq!(kept, ["454,454"]);
}
