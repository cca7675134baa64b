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
    /// whoever made it anew did not know of them. Until they are loaded, what it holds must not pass for the whole.
    #[serde(default)]
    pub owed: BTreeSet<Partition>,
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
        // What a load drops is removed by the last of its statements, which runs beside the loads of partitions.
        let states = |job: &Job| matches!(job.work, Work::Statement(_));
        let ran = outcomes.len() == steps.iter().map(Vec::len).sum::<usize>();
        let gone = ran && outcomes.iter().all(|(job, ended)| !states(job) || matches!(ended, Ended::Done { .. }));
        let dropped = if gone { effect.dropped } else { BTreeSet::new() };
        let first = steps.first().map_or(0, Vec::len);
        let began = outcomes.iter().take(first).all(|(_, ended)| matches!(ended, Ended::Done { .. }));
        let all = settled.trouble.is_none();
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
        self.owed.retain(|partition| !self.loaded.contains_key(partition));
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
        self.ended.push(settled);
        let known = self.ended.len().saturating_sub(REMEMBERED);
        self.ended.drain(..known);
        self
    }
}
