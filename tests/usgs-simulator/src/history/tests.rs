use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Two events of one earthquake, published at noon and ten past.
fn pair() -> Catalogue {
    let mut catalogue = Catalogue::empty();
    let time = at("2025-07-20T11:58:00Z");
    catalogue.add(Event::new("us7000x", time).magnitude(4.5, "mb"), at("2025-07-20T12:00:00Z")).unwrap();
    catalogue.add(Event::new("ak0y", time), at("2025-07-20T12:10:00Z")).unwrap();
    catalogue
}

fn row(catalogue: &Catalogue, id: &str, now: &str) -> Option<String> {
    let version = catalogue.visible(catalogue.find(id)?, at(now).timestamp_millis())?;
    Some(version.text.as_str().to_owned())
}

fn ids(catalogue: &Catalogue, id: &str, now: &str) -> Vec<String> {
    let event = catalogue.find(id).unwrap();
    catalogue.ids(event, at(now).timestamp_millis()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_version_is_there_from_its_publication_to_the_next() {
    let mut catalogue = pair();
    let revised = catalogue.latest("us7000x").unwrap().magnitude(4.7, "mww");
    catalogue.add(revised.clone(), at("2025-07-20T13:00:00Z")).unwrap();
    assert_eq!(row(&catalogue, "us7000x", "2025-07-20T11:59:59.999Z"), None);
    assert!(row(&catalogue, "us7000x", "2025-07-20T12:59:59.999Z").unwrap().contains(",4.5,mb,"));
    assert_eq!(row(&catalogue, "us7000x", "2025-07-20T13:00:00Z"), Some(revised.to_row()));
}

#[test]
fn a_later_edit_of_the_same_instant_wins_though_its_updated_is_older() {
    let mut catalogue = pair();
    let older = catalogue.latest("ak0y").unwrap().updated(at("2020-01-01T00:00:00Z"));
    catalogue.add(older.clone(), at("2025-07-20T12:10:00Z")).unwrap();
    assert_eq!(row(&catalogue, "ak0y", "2025-07-20T12:10:00Z"), Some(older.to_row()));
}

#[test]
fn a_tombstone_keeps_the_values_and_loses_the_type() {
    let mut catalogue = pair();
    let last = catalogue.latest("us7000x").unwrap();
    let later = at("2025-07-21T00:00:00Z");
    catalogue.add(last.clone(), later).unwrap();
    catalogue.delete("us7000x", at("2025-07-20T14:00:00Z"), Tombstone::WithId).unwrap();
    let expected = last.updated(at("2025-07-20T14:00:00Z")).with(Column::Type, "").with(Column::Status, "deleted");
    assert_eq!(row(&catalogue, "us7000x", "2025-07-20T14:00:00Z"), Some(expected.to_row()));
    assert_eq!(row(&catalogue, "us7000x", "2025-07-22T00:00:00Z"), Some(expected.to_row()), "stays deleted");
    assert_eq!(
        catalogue.delete("us7000x", later, Tombstone::WithId),
        Err(EditError::NotThere { id: "us7000x".into(), at: later })
    );
}

#[test]
fn a_blank_tombstone_has_neither_id_nor_network() {
    let mut catalogue = pair();
    catalogue.delete("ak0y", at("2025-07-20T14:00:00Z"), Tombstone::BlankId).unwrap();
    let row = row(&catalogue, "ak0y", "2025-07-20T14:00:00Z").unwrap();
    assert!(row.contains(",,,2025-07-20T14:00:00.000Z,"), "{row}");
}

#[test]
fn a_merge_leaves_one_row_with_both_ids() {
    let mut catalogue = pair();
    catalogue.merge("ak0y", "us7000x", at("2025-07-20T15:00:00Z")).unwrap();
    assert!(row(&catalogue, "ak0y", "2025-07-20T14:59:59Z").is_some());
    assert_eq!(row(&catalogue, "ak0y", "2025-07-20T15:00:00Z"), None);
    assert_eq!(ids(&catalogue, "us7000x", "2025-07-20T14:59:59Z"), ["us7000x"]);
    assert_eq!(ids(&catalogue, "us7000x", "2025-07-20T15:00:00Z"), ["ak0y", "us7000x"]);
    let survivor = catalogue.known_as("ak0y", at("2025-07-20T15:00:00Z").timestamp_millis()).unwrap();
    assert!(survivor.text.as_str().contains(",us7000x,2025-07-20T15:00:00.000Z,"));
}

#[test]
fn a_split_brings_the_child_back_with_its_old_timestamps() {
    let mut catalogue = pair();
    let child = catalogue.latest("ak0y").unwrap();
    catalogue.merge("ak0y", "us7000x", at("2025-07-20T15:00:00Z")).unwrap();
    catalogue.split("us7000x", child.clone(), at("2025-07-20T16:00:00Z")).unwrap();
    assert_eq!(row(&catalogue, "ak0y", "2025-07-20T15:59:59Z"), None);
    assert_eq!(row(&catalogue, "ak0y", "2025-07-20T16:00:00Z"), Some(child.to_row()));
    assert_eq!(ids(&catalogue, "us7000x", "2025-07-20T16:00:00Z"), ["us7000x"]);
}

#[test]
fn what_is_not_there_cannot_be_edited() {
    let mut catalogue = pair();
    let early = at("2025-07-20T12:05:00Z");
    assert_eq!(catalogue.vanish("nope", early), Err(EditError::Unknown("nope".into())));
    assert_eq!(catalogue.merge("ak0y", "us7000x", early), Err(EditError::NotThere { id: "ak0y".into(), at: early }));
    let unreadable = Event::new("us1", early).with(Column::Mag, "big");
    assert!(matches!(catalogue.add(unreadable, early), Err(EditError::Row(RowError::Number { .. }))));
}

#[test]
fn a_child_that_is_published_again_is_its_own_event_and_can_absorb_its_survivor() {
    let mut catalogue = pair();
    let child = catalogue.latest("ak0y").unwrap();
    catalogue.merge("ak0y", "us7000x", at("2025-07-20T15:00:00Z")).unwrap();
    catalogue.add(child, at("2025-07-20T16:00:00Z")).unwrap();
    catalogue.merge("us7000x", "ak0y", at("2025-07-20T17:00:00Z")).unwrap();
    assert_eq!(ids(&catalogue, "us7000x", "2025-07-20T16:00:00Z"), ["us7000x"]);
    assert_eq!(ids(&catalogue, "ak0y", "2025-07-20T17:00:00Z"), ["us7000x", "ak0y"]);
    catalogue.vanish("ak0y", at("2025-07-20T18:00:00Z")).unwrap();
    assert!(catalogue.known_as("us7000x", at("2025-07-20T18:00:00Z").timestamp_millis()).is_none());
}
