//! The load record: the one mutable object of a table, in the lake. It says what the table holds, and which jobs are
//! at work on it.
//!
//! Invariants. Only jobs that a record names change a table, and a record names the jobs of one commit at a time: the
//! next are named when those have ended. So a job that comes late, of whoever was slow or has died, is one that was
//! waited for, and an older generation is never the last that is loaded. A job's id holds a number that grows with every
//! commit of the table, so no id is used twice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::partition::Partition;
use shared::store::Generation;
use shared::table::TableName;
use shared::warehouse::{Commit, Cost, Extent, Loading, TableState};

use super::columns::Column;
use super::job::{Ended, Job, Trouble, Work};

/// The folder of all records in the lake.
pub(crate) const FOLDER: &str = "warehouse/";
const RECORD: &str = "/record.json";
/// How many commits are remembered for those who began them and learn late how they ended.
const REMEMBERED: usize = 16;

/// The object that holds a table's record.
pub(crate) fn object(table: &TableName) -> String {
    format!("{FOLDER}{}/{}{RECORD}", table.schema, table.table)
}

/// The table whose record an object is.
pub(crate) fn table_of(object: &str) -> Option<TableName> {
    let (schema, table) = object.strip_prefix(FOLDER)?.strip_suffix(RECORD)?.split_once('/')?;
    (!table.contains('/')).then(|| TableName::new(schema, table))
}

/// A table's record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the table is; `None` before its first commit has ended well.
    pub state: Option<TableState>,
    /// How it is partitioned and clustered; `None` for a view.
    pub layout: Option<String>,
    /// For a raw table, its columns.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// For a raw table, what each partition was loaded from.
    #[serde(default)]
    pub loaded: BTreeMap<Partition, Loading>,
    /// For a raw table whose rows add up, the partitions that it lacks since it was made: their loads did not end well, or
    /// whoever made it anew did not know of them; each with the generation that it had or was to have. Until they are
    /// loaded, what it holds must not pass for the whole.
    #[serde(default)]
    pub owed: BTreeMap<Partition, Generation>,
    /// The number of the latest commit that was begun.
    pub attempt: u64,
    /// What is at work.
    #[serde(default)]
    pub running: Option<Running>,
    /// How the latest commits ended, oldest first.
    #[serde(default)]
    pub ended: Vec<Settled>,
}

/// A commit under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Random.
    pub commit: String,
    /// Its jobs. Those of a step run at once, when all of the step before did well.
    pub steps: Vec<Vec<Job>>,
    /// What the table is when they have.
    pub effect: Effect,
}

/// What a commit makes of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Hash of the model, seed or columns.
    pub definition: String,
    /// The versions of its inputs that it consumes.
    pub inputs: BTreeMap<TableName, u64>,
    /// What it touches, where all goes well; of a load, what of this was loaded or dropped.
    pub extent: Extent,
    /// The capture or run.
    pub cause: String,
    /// Whether the table is made anew before it is loaded.
    pub afresh: bool,
    /// How it is partitioned and clustered; `None` for a view.
    pub layout: Option<String>,
    /// For a raw table, its columns.
    pub columns: Vec<Column>,
    /// The partitions that go.
    pub dropped: BTreeSet<Partition>,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which.
    pub commit: String,
    /// What was touched.
    pub extent: Extent,
    /// What it cost.
    pub cost: Cost,
    /// The rows that its statements changed.
    pub affected: u64,
    /// What went wrong first.
    pub trouble: Option<Trouble>,
}

impl Record {
    /// The number of the next commit. The first is the time, so that a record that was lost and is written anew does not
    /// use a number again.
    pub fn next_attempt(&self, now: Timestamp) -> u64 {
        match self.attempt {
            0 => u64::try_from(now.timestamp_millis()).unwrap_or(1),
            attempt => attempt + 1,
        }
    }

    /// The record with these jobs at work.
    #[must_use]
    pub fn begin(mut self, running: Running, attempt: u64) -> Self {
        self.attempt = attempt;
        self.running = Some(running);
        self
    }

    /// How the commit of a random name ended, as far as that is remembered.
    pub fn how_ended(&self, commit: &str) -> Option<&Settled> {
        self.ended.iter().find(|settled| settled.commit == commit)
    }

    /// The record when the jobs have ended as `outcomes` say, one for each job that ran, in order. `rows` is what the
    /// table holds then.
    #[must_use]
    pub fn settle(mut self, outcomes: &[(Job, Ended)], rows: Option<u64>, now: Timestamp) -> Self {
        let Some(Running { commit, steps, effect }) = self.running.take() else { return self };
        let mut settled =
            Settled { commit, extent: Extent::nothing(), cost: Cost::default(), affected: 0, trouble: None };
        let mut loaded: BTreeMap<Partition, Generation> = BTreeMap::new();
        for (job, ended) in outcomes {
            match ended {
                Ended::Done { cost, affected } => {
                    settled.cost += *cost;
                    settled.affected += affected;
                    if let Work::Load { partition: Some(partition), generation, .. } = &job.work {
                        loaded.insert(*partition, *generation);
                    }
                }
                Ended::Failed(trouble) => settled.trouble = settled.trouble.or_else(|| Some(trouble.clone())),
            }
        }
        // What a load drops is removed by the last of its statements, before partitions are loaded.
        let states = |job: &Job| matches!(job.work, Work::Statement(_));
        let ran = outcomes.len() == steps.iter().map(Vec::len).sum::<usize>();
        let gone = ran && outcomes.iter().all(|(job, ended)| !states(job) || matches!(ended, Ended::Done { .. }));
        let dropped = if gone { effect.dropped } else { BTreeSet::new() };
        let first = steps.first().map_or(0, Vec::len);
        let began = outcomes.iter().take(first).all(|(_, ended)| matches!(ended, Ended::Done { .. }));
        let all = settled.trouble.is_none();
        // A raw table is made before it is loaded, and a failed load leaves it there.
        let lost = effect.afresh && began && effect.columns.is_empty();
        settled.extent = match effect.extent {
            // The table was made anew, whatever came of the loads into it.
            _ if effect.afresh && began => Extent::Whole,
            extent if all => extent,
            _ => Extent::Partitions(loaded.keys().chain(&dropped).copied().collect()),
        };
        if effect.afresh && began {
            self.loaded.clear();
        }
        self.loaded.retain(|partition, _| !dropped.contains(partition));
        self.loaded.extend(
            loaded
                .into_iter()
                .map(|(partition, generation)| (partition, Loading { generation, cause: effect.cause.clone() })),
        );
        self.owed.retain(|partition, _| !self.loaded.contains_key(partition));
        if all || !settled.extent.is_nothing() {
            let commit = Commit {
                definition: effect.definition,
                inputs: effect.inputs,
                extent: settled.extent.clone(),
                cause: &effect.cause,
            };
            let state = TableState::after(self.state.as_ref(), commit, now);
            self.state = Some(TableState { rows: rows.filter(|_| effect.layout.is_some()), ..state });
            self.columns = effect.columns;
            self.layout = effect.layout;
        }
        if !all && lost {
            // Its layout was to be another, and the new table was not made: there is none now.
            self.state = None;
            self.layout = None;
        }
        self.ended.push(settled);
        let known = self.ended.len().saturating_sub(REMEMBERED);
        self.ended.drain(..known);
        self
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::job::Statement;
    use super::*;

    fn year(year: i32) -> Partition {
        Partition::Year(year)
    }

    fn load(at: i32, generation: i64) -> Job {
        let work = Work::Load {
            object: format!("bronze/{at}"),
            generation: Generation(generation),
            partition: Some(year(at)),
            columns: Vec::new(),
        };
        Job { id: format!("load-{at}-{generation}"), work }
    }

    fn statement(sql: &str) -> Job {
        Job { id: sql.to_owned(), work: Work::Statement(Statement::ours(sql.to_owned())) }
    }

    /// A table of some partitions, each of generation 1, after a commit whose jobs ended well where `well` says so.
    fn settled(held: &[i32], steps: &[Vec<Job>], effect: Effect, well: impl Fn(&Job) -> bool) -> Record {
        let now = DateTime::UNIX_EPOCH;
        let loading = Loading { generation: Generation(1), cause: "before".to_owned() };
        let before = Commit {
            definition: String::new(),
            inputs: BTreeMap::new(),
            extent: Extent::Partitions(held.iter().copied().map(year).collect()),
            cause: "before",
        };
        let record = Record {
            state: Some(TableState { version: 7, ..TableState::after(None, before, now) }),
            loaded: held.iter().map(|&at| (year(at), loading.clone())).collect(),
            ..Record::default()
        };
        let mut outcomes = Vec::new();
        for step in steps {
            let ended = |job: &Job| {
                if well(job) {
                    Ended::Done { cost: Cost::default(), affected: 0 }
                } else {
                    Ended::Failed(Trouble::Transient("simulated".to_owned()))
                }
            };
            outcomes.extend(step.iter().map(|job| (job.clone(), ended(job))));
            if !step.iter().all(&well) {
                break;
            }
        }
        let running = Running { commit: "c".to_owned(), steps: steps.to_vec(), effect };
        record.begin(running, 1).settle(&outcomes, Some(0), now)
    }

    fn effect(extent: Extent, afresh: bool, dropped: &[i32]) -> Effect {
        Effect {
            definition: String::new(),
            inputs: BTreeMap::new(),
            extent,
            cause: "now".to_owned(),
            afresh,
            layout: Some(String::new()),
            columns: vec![Column { name: "year".to_owned(), kind: "INT64".to_owned() }],
            dropped: dropped.iter().copied().map(year).collect(),
        }
    }

    fn years(years: &[i32]) -> Extent {
        Extent::Partitions(years.iter().copied().map(year).collect())
    }

    fn generations(record: &Record) -> Vec<(Partition, i64)> {
        record.loaded.iter().map(|(partition, loading)| (*partition, loading.generation.0)).collect()
    }

    fn version(record: &Record) -> u64 {
        record.state.as_ref().unwrap().version
    }

    fn since(record: &Record) -> Extent {
        record.state.as_ref().unwrap().changed_since(7)
    }

    #[test]
    fn of_a_load_that_fails_in_part_the_rest_is_told() {
        let steps = [vec![load(2001, 2), load(2002, 2)]];
        let record =
            settled(&[2001, 2002], &steps, effect(years(&[2001, 2002]), false, &[]), |job| job.id != "load-2002-2");
        assert_eq!(generations(&record), [(year(2001), 2), (year(2002), 1)]);
        assert_eq!((version(&record), since(&record)), (8, years(&[2001])));
        assert!(record.how_ended("c").unwrap().trouble.is_some());
    }

    #[test]
    fn a_load_of_which_all_fails_is_no_version() {
        let record = settled(&[2001], &[vec![load(2001, 2)]], effect(years(&[2001]), false, &[]), |_| false);
        assert_eq!(generations(&record), [(year(2001), 1)]);
        assert_eq!(version(&record), 7);
    }

    #[test]
    fn a_table_whose_making_failed_is_as_it_was() {
        let steps = [vec![statement("create")], vec![load(2001, 2)]];
        let record = settled(&[2001, 2002], &steps, effect(Extent::Whole, true, &[]), |_| false);
        assert_eq!(generations(&record), [(year(2001), 1), (year(2002), 1)]);
        assert_eq!(version(&record), 7);
    }

    #[test]
    fn a_table_that_was_removed_and_not_made_holds_nothing() {
        let steps = [vec![statement("drop")], vec![statement("create")], vec![load(2001, 2)]];
        let record = settled(&[2001, 2002], &steps, effect(Extent::Whole, true, &[]), |job| job.id == "drop");
        assert_eq!(generations(&record), []);
        assert_eq!((version(&record), since(&record)), (8, Extent::Whole));
    }

    #[test]
    fn a_model_whose_table_was_removed_for_another_layout_and_not_made_is_none() {
        let steps = [vec![statement("drop")], vec![statement("create")]];
        let made = Effect { columns: Vec::new(), ..effect(Extent::Whole, true, &[]) };
        assert_eq!(settled(&[], &steps, made.clone(), |job| job.id == "drop").state, None);
        assert!(settled(&[], &steps, made.clone(), |_| false).state.is_some(), "the old one is there yet");
        assert_eq!(version(&settled(&[], &steps, made, |_| true)), 8);
    }

    #[test]
    fn what_is_dropped_is_told_although_a_load_after_it_failed() {
        let steps = [vec![statement("delete")], vec![load(2001, 2)]];
        let record =
            settled(&[2001, 2002], &steps, effect(years(&[2001, 2002]), false, &[2002]), |job| job.id == "delete");
        assert_eq!(generations(&record), [(year(2001), 1)]);
        assert_eq!((version(&record), since(&record)), (8, years(&[2002])));
    }

    #[test]
    fn what_could_not_be_dropped_stays_and_nothing_is_loaded() {
        let steps = [vec![statement("delete")], vec![load(2001, 2)]];
        let record =
            settled(&[2001, 2002], &steps, effect(years(&[2001, 2002]), false, &[2002]), |job| job.id != "delete");
        assert_eq!(generations(&record), [(year(2001), 1), (year(2002), 1)]);
        assert_eq!(version(&record), 7, "nothing was loaded either");
    }
}
