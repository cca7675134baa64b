//! BigQuery as far as loads see it: an id starts one job for ever, and a job that was started reads its object at some
//! later time and takes effect later still, whatever has become of the process that wanted it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use cloud::bigquery::job::{Ended, Job, Jobs, Trouble, Work};
use futures::FutureExt;
use shared::partition::Partition;
use shared::store::{Generation, Memory, Store};
use shared::table::TableName;
use shared::warehouse::{Cost, WarehouseError};

use super::super::turns::{Kind, Seat, Verdict};
use super::process::rows_of;

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) object: String,
    pub(crate) generation: Generation,
    pub(crate) rows: u64,
}

struct Started {
    job: Job,
    /// Of a load, what it has read.
    read: Option<Content>,
    ended: Option<Ended>,
}

/// One table, and all jobs that there ever were.
pub(crate) struct BigQuery {
    store: Memory,
    jobs: BTreeMap<String, Started>,
    /// Requests whose senders no longer wait for an answer. They may still arrive.
    pub(crate) posted: Vec<Job>,
    /// `None` when there is no table.
    pub(crate) table: Option<BTreeMap<Partition, Content>>,
    /// Of all that a partition has ever held of an object, the newest.
    shown: BTreeMap<(Partition, String), Generation>,
    /// The partitions whose content changed, in order.
    pub(crate) changes: Vec<Partition>,
    /// What must not be, and was.
    pub(crate) violation: Option<String>,
}

/// How a statement begins that drops partitions.
const DROP: &str = "delete from ";

fn done() -> Ended {
    Ended::Done { cost: Cost::default(), affected: 0 }
}

impl BigQuery {
    pub(crate) fn new(store: Memory) -> Self {
        Self {
            store,
            jobs: BTreeMap::new(),
            posted: Vec::new(),
            table: None,
            shown: BTreeMap::new(),
            changes: Vec::new(),
            violation: None,
        }
    }

    /// A request to start a job arrives. One whose id was used before is refused.
    pub(crate) fn start(&mut self, job: Job) {
        match self.jobs.get(&job.id) {
            None => {
                self.jobs.insert(job.id.clone(), Started { job, read: None, ended: None });
            }
            Some(started) if started.job.work == job.work => (),
            Some(_) => self.violation = Some(format!("the job id {} stands for two things", job.id)),
        }
    }

    /// The jobs that are at work.
    pub(crate) fn running(&self) -> Vec<String> {
        self.jobs.iter().filter(|(_, job)| job.ended.is_none()).map(|(id, _)| id.clone()).collect()
    }

    /// Whether a job is to drop partitions.
    pub(crate) fn drops(&self, id: &str) -> bool {
        matches!(&self.jobs[id].job.work, Work::Statement(statement) if statement.sql.starts_with(DROP))
    }

    /// A job goes on: a load first reads and then writes, a statement does all at once.
    pub(crate) fn advance(&mut self, id: &str, fails: bool) -> &'static str {
        let started = &self.jobs[id];
        let (ended, said) = match (&started.job.work, &started.read) {
            _ if fails => {
                let said = if self.drops(id) { "drops nothing" } else { "fails" };
                (Ended::Failed(Trouble::Transient("simulated".to_owned())), said)
            }
            (Work::Load { object, .. }, None) => {
                let found = self.store.get(object).now_or_never().unwrap().unwrap().unwrap();
                let rows = rows_of(&found.bytes);
                let content = Content { object: object.clone(), generation: found.generation, rows };
                self.jobs.get_mut(id).unwrap().read = Some(content);
                return "reads";
            }
            (Work::Load { partition: Some(partition), .. }, Some(content)) => {
                (self.replace(*partition, content.clone()), "takes effect")
            }
            (Work::Statement(statement), _) => (self.execute(&statement.sql.clone()), "takes effect"),
            (Work::Load { partition: None, .. }, _) => unreachable!("only seeds are loaded whole"),
        };
        self.jobs.get_mut(id).unwrap().ended = Some(ended);
        said
    }

    fn replace(&mut self, partition: Partition, content: Content) -> Ended {
        let Some(table) = &mut self.table else {
            return Ended::Failed(Trouble::Gone("there is no table".to_owned()));
        };
        let shown = self.shown.entry((partition, content.object.clone())).or_insert(content.generation);
        if content.generation < *shown {
            let (object, from, to) = (&content.object, *shown, content.generation);
            self.violation = Some(format!("{partition} goes back from generation {from} of {object} to {to}"));
        }
        *shown = content.generation;
        if table.insert(partition, content.clone()) != Some(content) {
            self.changes.push(partition);
        }
        done()
    }

    fn execute(&mut self, sql: &str) -> Ended {
        if sql.starts_with("create or replace table ") {
            self.changes.extend(self.table.replace(BTreeMap::new()).unwrap_or_default().into_keys());
        } else if sql.starts_with("create table if not exists ") {
            self.table.get_or_insert_default();
        } else if sql.starts_with(DROP) {
            let Some(table) = &mut self.table else {
                return Ended::Failed(Trouble::Gone("there is no table".to_owned()));
            };
            let named = |partition: &Partition| sql.contains(&format!("'{partition}'"));
            self.changes.extend(table.extract_if(.., |partition, _| named(partition)).map(|(partition, _)| partition));
        } else {
            self.violation = Some(format!("a statement that nobody expects: {sql}"));
        }
        done()
    }
}

/// BigQuery as one process has it.
pub(crate) struct Asked {
    pub(crate) seat: Seat,
    pub(crate) bigquery: Arc<Mutex<BigQuery>>,
    /// Whether the ids of jobs come without the number of the attempt.
    pub(crate) numberless: bool,
}

impl Asked {
    fn there(&self) -> MutexGuard<'_, BigQuery> {
        self.bigquery.lock().unwrap()
    }

    async fn start(&self, job: &Job) -> Result<(), WarehouseError> {
        let lost = || Err(WarehouseError::Transient("no answer".to_owned()));
        match self.seat.turn(Kind::Write, format!("start {}", job.id)).await {
            Verdict::FailBefore => {
                self.there().posted.push(job.clone());
                lost()
            }
            verdict => {
                self.there().start(job.clone());
                match verdict {
                    Verdict::DieAfter => self.seat.die().await,
                    Verdict::FailAfter => lost(),
                    _ => Ok(()),
                }
            }
        }
    }
}

#[async_trait]
impl Jobs for Asked {
    async fn run(&self, _: &TableName, job: &Job) -> Result<Ended, WarehouseError> {
        let mut job = job.clone();
        if self.numberless {
            job.id.truncate(job.id.rfind('-').unwrap());
        }
        self.start(&job).await?;
        let lost = || WarehouseError::Transient("it takes too long".to_owned());
        loop {
            let look = async { Ok(self.there().jobs[&job.id].ended.clone()) };
            let what = format!("wait for {}", job.id);
            if let Some(ended) = self.seat.around(Kind::Read, what, look, lost, lost).await? {
                return Ok(ended);
            }
        }
    }

    async fn rows(&self, table: &TableName) -> Result<Option<u64>, WarehouseError> {
        let lost = || WarehouseError::Transient("no answer".to_owned());
        let count = async {
            let there = self.there();
            Ok(there.table.as_ref().map(|partitions| partitions.values().map(|content| content.rows).sum()))
        };
        self.seat.around(Kind::Read, format!("count the rows of {table}"), count, lost, lost).await
    }
}
