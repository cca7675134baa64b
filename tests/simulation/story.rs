//! What happens at the source and around the pipeline in a schedule: a catalogue of event versions over some days, and
//! the acts that the schedule weaves between the effects.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use shared::dataset::Dataset;
use shared::datasets::Earthquakes;
use usgs_simulator::{Catalogue, Column, Event, Fault, HEADER, HeaderFault, Tombstone};

use super::chance::Chance;
use super::rows::{Row, each_record};

/// Changes that leave the row's update time more than the tick's two hours behind. A tick asks by update time alone, so
/// only a sweep sees them.
pub(crate) const CHANGES_WITHOUT_UPDATE: bool = true;
/// Deletions.
pub(crate) const DELETIONS: bool = true;
/// An answer that ends after a whole row although more were to come. Fetch tells by the details,
/// and believes it in its third attempt all the same, since the source may have lost a row between the two answers.
pub(crate) const CUTS_BETWEEN_ROWS: bool = false;

/// A tick reaches two hours back; what is published is at most so long older.
const LATEST_NEWS: i64 = 100 * 60;

/// What land cannot read as a number of stations.
pub(crate) const UNREADABLE: &str = "many";

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Time passes at the source, milliseconds; then a scheduled run.
    Tick(i64),
    /// All that was published before is delivered first.
    Rest,
    /// Two scheduled runs at once.
    TwoTicks(i64),
    /// A daily re-read.
    Sweep,
    /// A range of the past: hours back from now, and how many.
    Backfill(i64, i64),
    /// A stored capture is sent again.
    ReplayRaw,
    /// A partition of bronze is loaded again.
    ReplayBronze,
    /// Everything is built from nothing.
    Rebuild,
    /// The cursor's object is put back to what it once was.
    RollBackCursor,
    /// The cursor's object is lost.
    LoseCursor,
    /// The stored answer of a capture is torn or emptied.
    Damage,
    /// The source refuses or spoils its next answers.
    Refuse(Fault, usize),
    /// A message that can never succeed.
    Poison,
}

/// A row of the source.
pub(crate) struct Version {
    /// From when it is there, milliseconds since 1970; a later one of the same event replaces it.
    pub(crate) from: i64,
    pub(crate) event: Event,
    /// Of the row that the source has from then on.
    pub(crate) hash: i64,
    /// Whether no tick can see the change.
    pub(crate) silent: bool,
    /// Whether the event is gone from then on.
    pub(crate) gone: bool,
}

impl Version {
    /// Whether this row shows it. The hash of a row is also that of its details, of which the story says nothing.
    pub(crate) fn is(&self, row: &Row) -> bool {
        let time = |column| parse(self.event.get(column));
        (row.time, row.updated) == (time(Column::Time), time(Column::Updated))
            && row.place == self.event.get(Column::Place)
            && !row.deleted
    }
}

/// A schedule's own story.
pub(crate) struct Story {
    /// When the source's clock begins.
    pub(crate) start: DateTime<Utc>,
    pub(crate) acts: Vec<Act>,
    /// When everything has been published.
    pub(crate) end: DateTime<Utc>,
    pub(crate) versions: Vec<Version>,
    catalogue: Catalogue,
}

impl Story {
    /// A story by chance; with `ties`, a short one whose events all change in the second of a run; with `merges`, one in
    /// which an event may become a part of another.
    pub(crate) fn new(chance: &mut Chance, ties: bool, merges: bool) -> Self {
        let first_day: DateTime<Utc> = "2025-07-20T00:00:00Z".parse().unwrap();
        let start = first_day + TimeDelta::hours(30) + TimeDelta::minutes(chance.between(0, 17 * 60));
        let acts = acts(chance, ties);
        let mut now = start.timestamp_millis();
        let mut ticks = Vec::new();
        for act in &acts {
            if let Act::Tick(after) | Act::TwoTicks(after) = act {
                now += after;
                ticks.push(now);
            }
        }
        let last = now;
        let mut story = Self {
            start,
            acts,
            // Beyond a second of any tick, and within reach of the last cursor.
            end: DateTime::from_timestamp_millis(last + 3_600_000).unwrap(),
            versions: Vec::new(),
            catalogue: Catalogue::empty(),
        };
        for number in 0..chance.between(3, 9) {
            story.event(chance, number, first_day.timestamp_millis(), &ticks, ties);
        }
        story.departures(chance, merges);
        story
    }

    pub(crate) fn take_catalogue(&mut self) -> Catalogue {
        std::mem::replace(&mut self.catalogue, Catalogue::empty())
    }

    fn event(&mut self, chance: &mut Chance, number: i64, first: i64, ticks: &[i64], ties: bool) {
        let (start, end) = (self.start.timestamp_millis(), self.end.timestamp_millis() - 1_800_000);
        // Half of them are there before the first run.
        let span = if chance.one_in(2) { start - first } else { end - first };
        let mut time = first + chance.between(0, span - 1);
        let late = chance.one_in(4);
        let mut from = time + chance.between(60_000, if late { 36_000_000 } else { 1_200_000 });
        let mut updated = None::<i64>;
        let mut rows: Vec<Event> = Vec::new();
        let revisions = chance.pick(if ties { &[1, 2] } else { &[0, 0, 1, 1, 2, 3] });
        for revision in 0..=revisions {
            if revision > 0 {
                from = next_change(chance, from, end, ticks, ties);
            }
            if from > end {
                return;
            }
            from = from.max(first) / 1000 * 1000 + if from % 1000 == 500 { 500 } else { 0 };
            let tied = from % 1000 == 500;
            let earliest = (from - LATEST_NEWS * 1000).max(time);
            // Rewritten without a word, said to be older than it was, or as it should be.
            let unsaid = CHANGES_WITHOUT_UPDATE && revision > 0 && !tied && chance.one_in(6);
            let said = match updated {
                _ if tied => from,
                Some(before) if before >= earliest && chance.one_in(4) => before,
                Some(before) if unsaid => before,
                _ => from - chance.between(0, from - earliest),
            };
            let returns = revision > 1 && !tied && chance.one_in(4);
            if revision > 0 && chance.one_in(3) {
                // The origin moves, perhaps over midnight, but not into the future.
                time = (time + chance.between(-40_000_000, 40_000_000)).clamp(first, said.max(first));
            }
            let mut event = Event::new(&format!("ak{number}"), millis(time))
                .updated(millis(said))
                .with(Column::Place, format!("state {revision} of event {number}"));
            if chance.one_in(20) {
                // Land cannot read this.
                event = event.with(Column::Nst, UNREADABLE);
            }
            if returns {
                let older = rows[rows.len() - 2].clone();
                if parse(older.get(Column::Updated)) >= earliest {
                    event = older;
                }
            }
            updated = Some(said);
            time = parse(event.get(Column::Time));
            self.catalogue.add(event.clone(), millis(from)).unwrap();
            let silent = said < earliest;
            self.versions.push(Version { from, hash: hash(&event), silent, event: event.clone(), gone: false });
            rows.push(event);
        }
    }

    /// Events that leave, each after its last version: deleted, or merged into another.
    fn departures(&mut self, chance: &mut Chance, merges: bool) {
        let end = self.end.timestamp_millis() - 1_800_000;
        let last: BTreeMap<String, i64> =
            self.shown(end).into_iter().map(|(id, version)| (id.to_owned(), version.from)).collect();
        let ids: Vec<String> = last.keys().cloned().collect();
        if DELETIONS && chance.one_in(2) && !ids.is_empty() {
            let id = chance.pick(&ids);
            let at = chance.between(last[&id] + 1000, end + 1_000_000) / 1000 * 1000;
            self.catalogue.delete(&id, millis(at), Tombstone::default()).unwrap();
            self.leaves(&id, at, false);
        }
        if !merges {
            return;
        }
        // What is one earthquake is of one day or of two that are neighbours.
        let day = 86_400_000;
        let near = |(one, other): &(String, String)| {
            let time = |id: &String| parse(self.shown(end)[id.as_str()].event.get(Column::Time));
            let readable = self.shown(end)[other.as_str()].event.get(Column::Nst) != UNREADABLE;
            one != other && readable && (time(one) - time(other)).abs() < day
        };
        let left: Vec<String> = self.shown(end).into_keys().map(str::to_owned).collect();
        let pairs = left.iter().flat_map(|one| left.iter().map(|other| (one.clone(), other.clone())));
        let pairs: Vec<_> = pairs.filter(near).collect();
        if pairs.is_empty() {
            return;
        }
        let (child, survivor) = chance.pick(&pairs);
        let at = chance.between(last[&child].max(last[&survivor]) + 1000, end + 1_500_000) / 1000 * 1000;
        if self.catalogue.merge(&child, &survivor, millis(at)).is_ok() {
            // No answer says so but by what the survivor is also called.
            self.leaves(&child, at, true);
            let kept = self.catalogue.latest(&survivor).unwrap();
            self.versions.push(Version { from: at, hash: hash(&kept), silent: false, event: kept, gone: false });
        }
    }

    fn leaves(&mut self, id: &str, at: i64, silent: bool) {
        let event = self.shown(at)[id].event.clone();
        // As at the source, what was to come of it after that never does: what is merged is not deleted later.
        self.versions.retain(|version| version.event.id() != id || version.from <= at);
        // No CSV has a row of it any more.
        self.versions.push(Version { from: at, hash: 0, silent, event, gone: true });
    }

    /// The row that the source shows of each event at a time.
    pub(crate) fn shown(&self, at: i64) -> BTreeMap<&str, &Version> {
        let mut shown = self.at(at);
        shown.retain(|_, version| !version.gone);
        shown
    }

    /// This version and the later ones of the same event.
    pub(crate) fn since(&self, version: &Version) -> impl Iterator<Item = &Version> {
        let (id, from) = (version.event.id().to_owned(), version.from);
        self.versions.iter().filter(move |version| version.event.id() == id && version.from >= from)
    }

    /// What each event is at a time, be it gone.
    pub(crate) fn at(&self, at: i64) -> BTreeMap<&str, &Version> {
        let mut shown: BTreeMap<&str, &Version> = BTreeMap::new();
        for version in self.versions.iter().filter(|version| version.from <= at) {
            let known = shown.entry(version.event.id()).or_insert(version);
            if known.from <= version.from {
                *known = version;
            }
        }
        shown
    }
}

fn hash(event: &Event) -> i64 {
    let text = format!("{HEADER}\n{}\n", event.to_row());
    let mut hash = None;
    each_record(&Earthquakes::default().forms()[0], text.as_bytes(), |record| hash = Some(record.hash()));
    hash.unwrap()
}

/// When an event changes next: any time later, or in the middle of the second of a run.
fn next_change(chance: &mut Chance, from: i64, end: i64, ticks: &[i64], tied: bool) -> i64 {
    let later: Vec<i64> = ticks.iter().copied().filter(|tick| tick / 1000 > from / 1000).collect();
    if !later.is_empty() && (tied || chance.one_in(3)) {
        return chance.pick(&later) / 1000 * 1000 + 500;
    }
    from + 1000 + chance.between(0, (end - from).max(1000))
}

fn millis(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap()
}

fn parse(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
}

fn acts(chance: &mut Chance, ties: bool) -> Vec<Act> {
    let mut acts = vec![Act::Tick(0)];
    if ties {
        // Two answers of one second, the first of which has landed before the second is asked for.
        acts.extend([Act::Tick(3_600_000), Act::Rest, Act::Tick(700), Act::Rest]);
        return acts;
    }
    for _ in 0..chance.between(3, 9) {
        let after = chance.between(1, 180) * 60_000;
        let act = match chance.below(22) {
            0..=6 => Act::Tick(after),
            7 => Act::TwoTicks(after),
            8 | 9 => Act::Backfill(chance.between(2, 60), chance.between(1, 40)),
            10 | 11 => Act::ReplayRaw,
            12 => Act::ReplayBronze,
            13 => Act::Rebuild,
            14 => Act::RollBackCursor,
            15 if chance.one_in(3) => Act::LoseCursor,
            16 => Act::Damage,
            18 if chance.one_in(2) => Act::Sweep,
            17 => Act::Poison,
            _ => Act::Refuse(fault(chance), chance.pick(&[1, 1, 2, 3])),
        };
        acts.push(act);
        // Another answer of the same second of the source.
        if matches!(acts.last(), Some(Act::Tick(_))) && chance.one_in(4) {
            acts.extend([Act::Rest, Act::Tick(700)]);
        }
    }
    acts
}

fn fault(chance: &mut Chance) -> Fault {
    // The header and its end: an answer without rows.
    let whole = HEADER.len() + 1;
    let cut = match chance.below(220) {
        _ if CUTS_BETWEEN_ROWS => whole,
        cut if cut == whole => 0,
        cut => cut,
    };
    match chance.below(9) {
        0 | 1 => Fault::status(503),
        2 => Fault::status(504),
        3 => Fault::status(500),
        4 => Fault::too_many_requests(None),
        5 => Fault::HtmlWith200,
        // Within the header or the first row.
        6 => Fault::Truncated { bytes: cut },
        7 => chance.pick(&[
            Fault::ErrorTextAppended,
            Fault::WrongHeader(Column::Depth, HeaderFault::Missing),
            Fault::WrongHeader(Column::Mag, HeaderFault::Renamed("magnitude".to_owned())),
        ]),
        _ => Fault::ConnectionReset { after: chance.below(200) },
    }
}

#[test]
fn the_source_shows_what_the_story_tells() {
    let (mut merged, mut deleted) = (0, 0);
    for seed in 0..300 {
        let mut story = Story::new(&mut Chance::new(seed), false, true);
        let catalogue = story.take_catalogue();
        for at in story.versions.iter().map(|version| version.from).chain([story.end.timestamp_millis()]) {
            let told: BTreeMap<_, _> =
                story.shown(at).into_iter().map(|(id, version)| (id.to_owned(), version.event.to_row())).collect();
            let live = catalogue.live(millis(at));
            let shown: BTreeMap<_, _> = live.iter().map(|event| (event.id().to_owned(), event.to_row())).collect();
            assert_eq!(shown, told, "seed {seed} at {at}");
            let gone = story.at(at).into_iter().filter(|(_, version)| version.gone);
            let (absorbed, told): (BTreeMap<_, _>, BTreeMap<_, _>) = gone.partition(|(_, version)| version.silent);
            let tombstones = catalogue.deleted(millis(at));
            let shown: Vec<_> = tombstones.iter().map(Event::id).collect();
            assert_eq!(shown, told.into_keys().collect::<Vec<_>>(), "tombstones of seed {seed} at {at}");
            (merged, deleted) = (merged + absorbed.len(), deleted + shown.len());
        }
    }
    assert!(merged > 0 && deleted > 0, "{merged} merged, {deleted} deleted");
}
