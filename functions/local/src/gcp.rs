//! The operator's commands in an environment on Google Cloud.
//!
//! What asks for work is published, as on a laptop, and the services of the environment do it; nobody waits here. Only
//! `build` works from here: it is the service transform, handed one message.
//!
//! Invariant: before anything is asked of Google, the command is checked, and agreed to where it costs.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use chrono::{NaiveDate, NaiveTime};
use cloud::config::{Emulators, Environment, PROJECT};
use cloud::{BigQuery, Bucket, PubSub, RETRIES};
use shared::bus::{self, Bus};
use shared::clock::Timestamp;
use shared::dataset::Dataset;
use shared::function::{Function, Received};
use shared::message::{Message, Mode, PartitionsLanded};
use shared::store::Store;
use shared::trace::Trace;
use shared::warehouse::{Cost, Origin, Warehouse};
use transform::Transform;

use crate::ask::{agree, say};
use crate::cli::{Command, From, Place, Seekable};
use crate::pipeline::{Data, Parts};
use crate::problem::Problem;
use crate::report::{Report, charge, thousands};
use crate::status::{self, Counting};
use crate::{docs, operate, replay, rows};

/// A query that reads more bytes than this is asked about: a GiB, half a cent.
const MANY_BYTES: u64 = 1 << 30;

/// Does what the command line says.
///
/// # Errors
/// [`Problem::Usage`] for what only the laptop can do, for a project that is not named, and for what must be agreed to
/// where nobody can be asked.
pub async fn run(command: Command, place: &Place, parts: &Parts, out: &mut impl Write) -> Result<(), Problem> {
    if let Some(reason) = not_here(&command) {
        return Err(Problem::Usage(reason.to_owned()));
    }
    let known = |dataset: &str| parts.datasets.get(dataset).map(|dataset| &**dataset);
    let cloud = Cloud::new(place, parts, |name| std::env::var(name).ok())?;
    match command {
        Command::Tick { dataset, sweep } => {
            cloud.publish([operate::tick_request(known(&dataset)?.name(), sweep)], out).await?;
            follow()
        }
        Command::Backfill { dataset, start, end, gaps } => {
            let dataset = known(&dataset)?.name();
            operate::check_range(start, end)?;
            cloud.backfill(dataset, (start, end), gaps, out).await?;
            follow()
        }
        Command::Replay { dataset, day, from, seek } => {
            let dataset = known(&dataset)?;
            match seek {
                Some(service) => cloud.seek(service, day, out).await?,
                None => cloud.replay(dataset, day, from, out).await?,
            }
            follow()
        }
        Command::Build { dataset, full_refresh, .. } => {
            let datasets = operate::chosen(&parts.datasets, dataset.as_deref())?;
            cloud.build(&datasets, full_refresh, out).await
        }
        Command::Test { dataset } => {
            let datasets = operate::chosen(&parts.datasets, dataset.as_deref())?;
            let (named, limit) = (datasets.join(", "), cloud.limit());
            let what = format!("the tests read every table of {named} in a query each, which {limit}");
            agree(cloud.yes, &what).await?;
            let (errors, cost) = operate::test(&cloud.data().await?.runner, &datasets, out).await?;
            billed(cost)?;
            operate::passed(errors)
        }
        Command::Query { sql, format } => {
            let (warehouse, origin) = (cloud.bigquery(cloud.store().await?).await?, Origin::new("query"));
            let bytes = warehouse.estimate(&sql, &origin).await?;
            if bytes > MANY_BYTES {
                agree(cloud.yes, &format!("this query reads {} bytes, which are billed", thousands(bytes))).await?;
            }
            let answer = warehouse.query(&sql, &origin).await?;
            rows::print(&answer, format, out)?;
            billed(answer.cost)
        }
        Command::Status { completeness, format } => {
            let counting = match completeness {
                Some(days) => {
                    let client = fetch::Client::new(parts.client.clone()).map_err(Problem::Failed)?;
                    Some(Counting { days, client })
                }
                None => None,
            };
            let data = cloud.data().await?;
            status::print(cloud.place(), &data, &parts.datasets, counting.as_ref(), format, out).await
        }
        Command::Docs { out: folder } => {
            docs::write(&parts.project, Some(&*cloud.data().await?.warehouse), &folder, out).await
        }
        Command::Up(_) | Command::Ingest { .. } => Err(Problem::Failed("this command has no cloud".to_owned())),
    }
}

/// Why a command is no command for the cloud, and what to do instead.
fn not_here(command: &Command) -> Option<&'static str> {
    match command {
        Command::Up(_) => Some(
            "up runs the services on this machine; on Google Cloud `terraform apply` makes them and their schedule, and \
             `strata tick DATASET --target gcp` asks for a run now",
        ),
        Command::Ingest { .. } => Some(
            "ingest does not reach the cloud yet: `strata backfill --target gcp` asks the source for a range instead",
        ),
        Command::Build { compare: true, .. } => Some(
            "--compare reads every table twice, which BigQuery bills: compare on this machine, without --target gcp",
        ),
        _ => None,
    }
}

/// An environment, and who works on it.
struct Cloud<'a> {
    environment: Environment,
    parts: &'a Parts,
    yes: bool,
}

impl<'a> Cloud<'a> {
    fn new(place: &Place, parts: &'a Parts, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let Some(project) = place.project.as_deref().filter(|project| !project.is_empty()) else {
            return Err(Problem::Usage(format!("--target gcp needs --project PROJECT, or {PROJECT} set to it")));
        };
        let emulators = Emulators::from_variables(&variable)?;
        let environment = Environment::new(project, &place.env, emulators)?.with_limits(&variable)?;
        Ok(Self { environment, parts, yes: place.yes })
    }

    async fn store(&self) -> Result<Arc<dyn Store>, Problem> {
        let Environment { bucket, emulators, .. } = &self.environment;
        Ok(Arc::new(Bucket::connect(bucket.clone(), emulators, RETRIES).await?))
    }

    async fn bus(&self) -> Result<Arc<dyn Bus>, Problem> {
        let Environment { topics, emulators, .. } = &self.environment;
        Ok(Arc::new(PubSub::connect(topics.clone(), emulators, RETRIES).await?))
    }

    async fn bigquery(&self, store: Arc<dyn Store>) -> Result<BigQuery, Problem> {
        let clock = Arc::clone(&self.parts.clock);
        Ok(BigQuery::connect(&self.environment, store, clock, RETRIES).await?)
    }

    async fn data(&self) -> Result<Data, Problem> {
        let store = self.store().await?;
        let warehouse = self.bigquery(Arc::clone(&store)).await?;
        Ok(Data::of(store, Arc::new(warehouse), self.parts))
    }

    /// What a query may bill.
    fn limit(&self) -> String {
        format!("may bill up to {} bytes", thousands(self.environment.max_bytes_billed))
    }

    fn place(&self) -> status::Place {
        status::Place::Cloud {
            project: self.environment.project.clone(),
            environment: self.environment.name.clone(),
            bucket: self.environment.bucket.to_string(),
            dead_letter_subscription: self.environment.subscription("dead-letters"),
        }
    }

    /// Publishes messages, each the begin of a run, and prints what they are found by.
    async fn publish<M: Message>(
        &self,
        messages: impl IntoIterator<Item = M>,
        out: &mut impl Write,
    ) -> Result<(), Problem> {
        let bus = self.bus().await?;
        let topic = self.environment.topics.path(M::TOPIC);
        for message in messages {
            let trace = Trace::start(&*self.parts.clock);
            let id = bus::publish(&*bus, &message, trace).await?;
            writeln!(out, "published    {topic} message {id} run {}", trace.run())?;
        }
        Ok(())
    }

    async fn backfill(
        &self,
        dataset: &str,
        range: (Timestamp, Timestamp),
        gaps: bool,
        out: &mut impl Write,
    ) -> Result<(), Problem> {
        let days = thousands((range.1 - range.0).num_days().unsigned_abs());
        let what = format!("this asks the source of {dataset} for {days} days, and stores and builds them");
        agree(self.yes, &what).await?;
        let store = self.store().await?;
        let mut requests = Vec::from_iter(operate::first_tick(&*store, dataset).await?);
        requests.extend(operate::range_requests(&*store, dataset, range, gaps).await?);
        if requests.is_empty() {
            writeln!(out, "published    nothing: all of the range was fetched before")?;
            return Ok(());
        }
        self.publish(requests, out).await
    }

    async fn replay(
        &self,
        dataset: &dyn Dataset,
        day: NaiveDate,
        from: From,
        out: &mut impl Write,
    ) -> Result<(), Problem> {
        let (name, limit) = (dataset.name(), self.limit());
        agree(self.yes, &format!("this loads {day} of {name} again and runs its models; each query {limit}")).await?;
        if from == From::Source {
            return self.publish([operate::day_request(dataset.name(), day)], out).await;
        }
        let store = self.store().await?;
        if from == From::Raw {
            self.publish(replay::captures_to_land(&*store, dataset, day).await?, out).await?;
            if !replay::bronze_has(&*store, dataset, day).await? {
                // What lands makes the partition anew, and loads it.
                return Ok(());
            }
        }
        self.publish([replay::partition_to_load(&*store, dataset, day).await?], out).await
    }

    async fn seek(&self, service: Seekable, day: NaiveDate, out: &mut impl Write) -> Result<(), Problem> {
        let to = day.and_time(NaiveTime::MIN).and_utc();
        let hours = (self.parts.clock.now() - to).num_hours();
        if hours < 0 {
            return Err(Problem::Usage(format!(
                "{day} has not begun: a seek into the future would drop every message that waits"
            )));
        }
        let subscription = self.environment.subscription(service.name());
        let hours = thousands(hours.unsigned_abs());
        let what = format!(
            "Pub/Sub delivers again what it still retains of the last {hours} hours of {subscription}, of all datasets, \
             and drops what was published before {day} and still waits"
        );
        agree(self.yes, &what).await?;
        cloud::seek(&self.environment, service.name(), to, RETRIES).await?;
        writeln!(out, "sought       {subscription} to {}", to.format("%Y-%m-%dT%H:%M:%SZ"))?;
        Ok(())
    }

    /// Builds by handing the service transform the message that would ask for it, so that the ledger and those who wait
    /// for gold hear of it.
    async fn build(&self, datasets: &[String], full_refresh: bool, out: &mut impl Write) -> Result<(), Problem> {
        let what = if full_refresh { "a full refresh reads all of raw for every model" } else { "this runs models" };
        agree(self.yes, &format!("{what} of {}; each query {}", datasets.join(", "), self.limit())).await?;
        let began = Instant::now();
        let (data, bus, clock) = (self.data().await?, self.bus().await?, &self.parts.clock);
        let transform = Transform::new(data.runner.clone(), Arc::clone(&data.store), bus, Arc::clone(clock));
        let since = clock.now();
        let mode = if full_refresh { Mode::FullRefresh } else { Mode::Changed };
        let mut runs = std::collections::BTreeSet::new();
        for dataset in datasets {
            let trace = Trace::start(&**clock);
            runs.insert(trace.run());
            let message = Received {
                body: PartitionsLanded { dataset: dataset.clone(), partitions: Vec::new(), mode },
                id: format!("build-{}", trace.run()),
                published_at: clock.now(),
                attempt: 1,
                trace,
            };
            transform.handle(message).await?;
        }
        let report = Report::read(&data, datasets, &runs, Some(since.date_naive())).await?;
        let place = format!("project {}, environment {}", self.environment.project, self.environment.name);
        writeln!(out, "{}", report.text(&place, began.elapsed()))?;
        match report.sums.failed_tests.as_slice() {
            [] => Ok(()),
            failed => Err(Problem::Failed(format!("data tests fail: {}", failed.join("; ")))),
        }
    }
}

fn follow() -> Result<(), Problem> {
    say("`strata status --target gcp` shows what becomes of it")
}

fn billed(cost: Cost) -> Result<(), Problem> {
    say(&format!("billed {}", charge(cost)))
}
