//! The invariants see what the safeguards prevent: with any one of them taken away, a schedule ends in a violation.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use transform::project::Project;

use super::ports::Sabotage;
use super::turns::Verdict;
use super::world::{Models, Setup};
use super::{first_violation, report, shipped};

/// The project that the program ships with.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/transform");

/// One of so many schedules must end in a violation that says one of these, and none of any other kind.
fn caught(schedules: u64, setup: &Setup, expected: &[&str]) {
    let (Some((seed, (violation, trace))), _) = first_violation(0..schedules, |_| setup.clone()) else {
        panic!("none of {schedules} schedules misses the safeguard: {:?}", setup.sabotage);
    };
    assert!(expected.iter().any(|text| violation.contains(text)), "{}", report(seed, &violation, &trace));
}

fn without(sabotage: Sabotage, models: Models) -> Setup {
    Setup { sabotage: Some(sabotage), ..Setup::whole(models) }
}

#[test]
fn without_preconditions_concurrent_writers_lose_rows() {
    let setup = without(Sabotage::NoPreconditions, Models::Light);
    caught(500, &setup, &["bronze", "raw", "the source shows", "the ledger", "the cursor goes back"]);
}

#[test]
fn without_reading_back_after_a_conflict_a_lost_race_passes_for_a_write() {
    let setup = without(Sabotage::NoReadBack, Models::Light);
    caught(500, &setup, &["bronze", "raw", "there is no capture", "no capture has what"]);
}

#[test]
fn a_read_back_that_does_not_see_the_echo_of_its_write_damages_a_table() {
    let setup = Setup { only: Some(Verdict::Echo), ..without(Sabotage::BlindReadBack, shipped()) };
    caught(20, &setup, &["is damaged"]);
}

#[test]
fn a_cursor_that_moves_before_the_message_is_published_loses_rows() {
    caught(500, &without(Sabotage::CursorBeforeMessage, Models::Light), &["no capture has what"]);
}

#[test]
fn a_cursor_that_moves_before_the_manifest_is_stored_loses_rows() {
    let setup = without(Sabotage::CursorBeforeManifest, Models::Light);
    caught(500, &setup, &["no capture has what", "there is no capture"]);
}

#[test]
fn without_the_tie_break_the_tables_depend_on_the_order_of_arrival() {
    let setup = Setup { ties: true, ..Setup::whole(without_tie_break()) };
    caught(40, &setup, &["stg_earthquakes", "fct_earthquakes", "the source shows"]);
}

/// The shipped project, where of two versions of the same observation time any one is current.
fn without_tie_break() -> Models {
    changed(
        "macros/versions.sql",
        "order by observed_at desc, updated_at desc, row_hash desc",
        "order by observed_at desc",
    )
}

#[test]
fn without_hiding_what_the_source_has_deleted_gold_shows_it() {
    let shown = changed(
        "models/earthquakes/gold/fct_earthquakes.sql",
        "and coalesce(stg_earthquakes.review_status, 'automatic') != 'deleted'",
        "",
    );
    caught(40, &Setup::whole(shown), &["fct_earthquakes", "gold shows"]);
}

#[test]
fn without_the_alias_table_gold_shows_an_earthquake_twice() {
    let model = "models/earthquakes/silver/superseded_events.sql";
    let none = changed(model, "select * from final", "select * from final where event_id is null");
    caught(40, &Setup::whole(none), &["gold shows"]);
}

#[test]
fn without_its_neighbours_a_day_misses_what_an_event_of_the_next_has_absorbed() {
    let model = "models/earthquakes/silver/superseded_events.sql";
    let alone = changed(model, "meta={'neighbour_days': 1}", "meta={'neighbour_days': 0}");
    caught(200, &Setup::whole(alone), &["gold shows", "before and after a rebuild"]);
}

/// The shipped project with other words in one of its files.
fn changed(name: &str, words: &str, others: &str) -> Models {
    let temp = tempfile::tempdir().unwrap();
    copy(Path::new(PROJECT), temp.path(), &["dbt_project.yml", "models", "seeds", "macros"]);
    let file = temp.path().join(name);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(words), "{name} has changed: change it here too");
    fs::write(&file, text.replace(words, others)).unwrap();
    Models::Embedded(Arc::new(Project::from_dir(temp.path()).unwrap()))
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    for name in names {
        let (from, to) = (from.join(name), to.join(name));
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            let inside = fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let inside: Vec<String> = inside.collect();
            copy(&from, &to, &inside.iter().map(String::as_str).collect::<Vec<_>>());
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}
