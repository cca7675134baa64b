//! Building a model: one statement makes its query's rows the next version of its table.
//!
//! What an incremental build touches is known without another query: the rows of a merge are first made a table of
//! their own, whose rows are listed free of charge, and an overwrite touches what it was told to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};

use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use shared::partition::Partition;
use shared::store::Precondition;
use shared::table::TableName;
use shared::warehouse::{Built, Cost, Extent, Materialization, ModelRun, SeedRun, WarehouseError};
use twox_hash::XxHash3_64;

use super::BigQuery;
use super::columns::columns;
use super::job::{Ended, Job, Jobs, Statement, Trouble, Work};
use super::record::{Effect, Record, Settled};
use super::settle::Found;
use super::sql;

/// The rows of a merge, in a table of their own.
struct Delta {
    rows: u64,
    /// Where its rows go, and where those come from that they replace.
    partitions: BTreeSet<Option<Partition>>,
    cost: Cost,
}

impl BigQuery {
    pub(crate) async fn build_model(&self, model: &ModelRun) -> Result<Built, WarehouseError> {
        let table = &model.table;
        let found = self.tables.find(table).await?;
        let whole = matches!(model.materialization, Materialization::Table | Materialization::View);
        // Built whole, a table whose record is damaged is well again.
        let record = if whole { &found.record } else { found.readable(table)? };
        if found.readable(table).is_ok() && record.state.as_ref().map(|state| state.version) != model.expected {
            return Err(WarehouseError::Conflict(table.clone()));
        }
        match &model.materialization {
            Materialization::Merge { unique_key } if record.state.is_some() => {
                self.merge(model, found, unique_key).await
            }
            Materialization::Overwrite { partitions } if record.state.is_some() => {
                self.overwrite(model, found, partitions).await
            }
            Materialization::View => {
                let before = format!("create or replace view {} as", sql::name(table));
                let statement = Statement::around(&before, &model.sql, "", &model.origin);
                let same = record.state.as_ref().is_some_and(|state| {
                    state.definition == model.definition && state.inputs == model.inputs && state.rows.is_none()
                });
                let extent = if same { Extent::nothing() } else { Extent::Whole };
                let (settled, record) = self.commit(model, found, statement, extent).await?;
                built(table, settled, &record, |_| 0)
            }
            _ => {
                let layout = sql::layout(&model.layout);
                let before = format!("create or replace table {}{layout} as", sql::name(table));
                let statement = Statement::around(&before, &model.sql, "", &model.origin);
                let (settled, record) = self.commit(model, found, statement, Extent::Whole).await?;
                built(table, settled, &record, rows)
            }
        }
    }

    async fn merge(&self, model: &ModelRun, found: Found, key: &[String]) -> Result<Built, WarehouseError> {
        let of = &model.table;
        let random = self.clock.random();
        let table = TableName::new(&of.schema, format!("{}{}{random:032x}", of.table, sql::DELTA));
        let merged = self.merge_through(&table, model, found, key).await;
        // Where it is not known how the merge ended, somebody may still need the rows.
        let unknown =
            matches!(merged, Err(WarehouseError::Transient(_) | WarehouseError::Blocked(_) | WarehouseError::Store(_)));
        if !unknown {
            self.drop_delta(&table, &model.cause).await;
        }
        merged
    }

    async fn merge_through(
        &self,
        through: &TableName,
        model: &ModelRun,
        found: Found,
        key: &[String],
    ) -> Result<Built, WarehouseError> {
        let table = &model.table;
        let delta = self.delta(through, model, key).await?;
        if delta.rows == 0 {
            return self.nothing(model, found, delta.cost).await;
        }
        let columns = self.columns(table).await?;
        let comes: Vec<String> = self.columns(through).await?;
        let ours = [sql::TO, sql::FROM, sql::THERE];
        if !comes.iter().filter(|name| !ours.contains(&name.as_str())).eq(columns.iter()) {
            let reason = "its columns are others than when it was built: build it in full".to_owned();
            return Err(WarehouseError::Rows { table: table.clone(), reason });
        }
        let by = model.layout.partition_by.as_ref();
        let touched: BTreeSet<Partition> = delta.partitions.iter().copied().flatten().collect();
        let pruned = by.map(|by| {
            let known = sql::in_partitions(by, "strata_there.", &touched);
            let unknown = delta.partitions.contains(&None);
            if unknown { format!("({known} or strata_there.{} is null)", sql::quoted(&by.field)) } else { known }
        });
        let text = sql::merge(table, through, &columns, key, pruned.as_deref());
        // What is without a partition has none that could be named.
        let extent = match by {
            Some(_) if !delta.partitions.contains(&None) => Extent::Partitions(touched),
            _ => Extent::Whole,
        };
        let (settled, record) = self.commit(model, found, Statement::ours(text), extent).await?;
        let mut built = built(table, settled, &record, |_| delta.rows)?;
        built.cost += delta.cost;
        Ok(built)
    }

    /// Makes the rows of a merge a table, and lists what they touch.
    async fn delta(&self, table: &TableName, model: &ModelRun, key: &[String]) -> Result<Delta, WarehouseError> {
        let of = &model.table;
        let by = model.layout.partition_by.as_ref();
        let (before, after) = sql::delta(table, of, by, key);
        let statement = Statement::around(&before, &model.sql, &after, &model.origin);
        let job = Job { id: self.job_id(table, &model.cause, "delta"), work: Work::Statement(statement) };
        let cost = match self.client.run(of, &job).await? {
            Ended::Done { cost, .. } => cost,
            Ended::Failed(trouble) => return Err(trouble.of(of)),
        };
        let mut names: Vec<&str> = key.iter().map(String::as_str).collect();
        names.extend([sql::TO, sql::FROM, sql::THERE]);
        let mut delta = Delta { rows: 0, partitions: BTreeSet::new(), cost };
        let (mut keys, mut twice) = (HashSet::new(), None);
        let listed = self.client.list(table, &names, |row| {
            delta.rows += 1;
            let [named @ .., to, from, there] = row.as_slice() else { return };
            // What has no key is nobody's successor.
            if named.iter().all(Option::is_some) && !keys.insert(fingerprint(named)) {
                twice.get_or_insert_with(|| named.iter().flatten().cloned().collect::<Vec<_>>().join(", "));
            }
            if by.is_some() {
                let parsed = |text: &Option<String>| text.as_ref().and_then(|text| padded(text).parse().ok());
                delta.partitions.insert(parsed(to));
                if there.as_deref() == Some("true") {
                    delta.partitions.insert(parsed(from));
                }
            }
        });
        listed.await.map_err(|refusal| refusal.into_error(of))?;
        match twice {
            None => Ok(delta),
            Some(key) => {
                let reason = format!("the model gives more than one row with the key {key}");
                Err(WarehouseError::Rows { table: of.clone(), reason })
            }
        }
    }

    /// Removes a delta. It would go by itself within a day.
    async fn drop_delta(&self, delta: &TableName, cause: &str) {
        let id = self.job_id(delta, cause, "drop");
        let statement = Statement::ours(sql::drop(delta, Some("")));
        match self.client.run(delta, &Job { id, work: Work::Statement(statement) }).await {
            Ok(Ended::Done { .. }) => (),
            outcome => tracing::warn!(table = %delta, ?outcome, "a temporary table stays for a day"),
        }
    }

    async fn overwrite(
        &self,
        model: &ModelRun,
        found: Found,
        partitions: &BTreeSet<Partition>,
    ) -> Result<Built, WarehouseError> {
        let table = &model.table;
        let Some(by) = &model.layout.partition_by else {
            let reason = "it has no partitions that could be overwritten".to_owned();
            return Err(WarehouseError::Rows { table: table.clone(), reason });
        };
        if partitions.is_empty() {
            return self.nothing(model, found, Cost::default()).await;
        }
        let before = found.record.state.as_ref().and_then(|state| state.rows).unwrap_or(0);
        let columns = self.columns(table).await?;
        let (head, tail) = sql::overwrite(table, &columns, by, partitions);
        let statement = Statement::around(&head, &model.sql, &tail, &model.origin);
        let (settled, record) = self.commit(model, found, statement, Extent::Partitions(partitions.clone())).await?;
        let affected = settled.affected;
        // Rows that came and rows that went add up to those affected, and differ by what the table has grown.
        built(table, settled, &record, |record| (affected + rows(record)).saturating_sub(before) / 2)
    }

    /// Notes that a model has consumed its inputs, and that nothing in it changes.
    async fn nothing(&self, model: &ModelRun, found: Found, cost: Cost) -> Result<Built, WarehouseError> {
        let record = match &found.record.state {
            Some(state) if state.inputs == model.inputs => found.record,
            _ => self.tables.note(&model.table, found, effect(model, Extent::nothing())).await?,
        };
        let state = record.state.ok_or_else(|| WarehouseError::Conflict(model.table.clone()))?;
        Ok(Built { rows: 0, state, extent: Extent::nothing(), cost })
    }

    async fn commit(
        &self,
        model: &ModelRun,
        found: Found,
        statement: Statement,
        extent: Extent,
    ) -> Result<(Settled, Record), WarehouseError> {
        let table = &model.table;
        let attempt = found.record.next_attempt(self.clock.now());
        let mut effect = effect(model, extent);
        let job = |what: &str, statement: Statement| {
            let id = self.job_id(table, &model.cause, &format!("{what}{attempt}"));
            vec![Job { id, work: Work::Statement(statement) }]
        };
        // A table keeps its layout, and its kind, for life.
        effect.afresh = found.record.state.is_some() && found.record.layout != effect.layout;
        let drop =
            effect.afresh.then(|| job("drop-", Statement::ours(sql::drop(table, found.record.layout.as_deref()))));
        let steps = drop.into_iter().chain([job("", statement)]).collect();
        self.tables.commit(table, found, attempt, steps, effect).await
    }

    pub(crate) async fn build_seed(&self, seed: &SeedRun) -> Result<Built, WarehouseError> {
        let table = &seed.table;
        let refuse = |reason: String| WarehouseError::Rows { table: table.clone(), reason };
        let columns = columns(&seed.rows.schema()).map_err(refuse)?;
        let object = format!("warehouse/{}/{}/seed-{}.parquet", table.schema, table.table, seed.definition);
        let bytes = parquet(&seed.rows).map_err(|error| refuse(error.to_string()))?;
        let generation = self.store.put(&object, bytes.into(), Precondition::None).await?;
        let mut tries = 0;
        loop {
            let found = self.tables.find(table).await?;
            let attempt = found.record.next_attempt(self.clock.now());
            let id = self.job_id(table, &seed.cause, &attempt.to_string());
            let work = Work::Load { object: object.clone(), generation, partition: None, columns: columns.clone() };
            let effect = Effect {
                definition: seed.definition.clone(),
                inputs: BTreeMap::new(),
                extent: Extent::Whole,
                cause: seed.cause.clone(),
                afresh: false,
                layout: Some(String::new()),
                columns: Vec::new(),
                dropped: BTreeSet::new(),
            };
            match self.tables.commit(table, found, attempt, vec![vec![Job { id, work }]], effect).await {
                Err(WarehouseError::Conflict(_)) if tries < super::TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok((settled, record)) => return built(table, settled, &record, rows),
            }
        }
    }

    /// An id for a job of a run. What ends it is used once.
    fn job_id(&self, table: &TableName, cause: &str, unique: &str) -> String {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        let cause: String = cause.chars().filter(|&letter| plain(letter)).take(64).collect();
        format!("{}-{}-{}-{cause}-{unique}", self.prefix, table.schema, table.table)
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<String>, WarehouseError> {
        let columns = self.client.columns(table).await.map_err(|refusal| refusal.into_error(table))?;
        columns.ok_or_else(|| Trouble::Gone("it is not in BigQuery".to_owned()).of(table))
    }
}

fn effect(model: &ModelRun, extent: Extent) -> Effect {
    Effect {
        definition: model.definition.clone(),
        inputs: model.inputs.clone(),
        extent,
        cause: model.cause.clone(),
        afresh: false,
        layout: (model.materialization != Materialization::View).then(|| sql::layout(&model.layout)),
        columns: Vec::new(),
        dropped: BTreeSet::new(),
    }
}

fn rows(record: &Record) -> u64 {
    record.state.as_ref().and_then(|state| state.rows).unwrap_or(0)
}

/// What a commit did. `rows` counts those that the model gave.
fn built(
    table: &TableName,
    settled: Settled,
    record: &Record,
    rows: impl Fn(&Record) -> u64,
) -> Result<Built, WarehouseError> {
    let state = record.state.clone().ok_or_else(|| WarehouseError::Conflict(table.clone()))?;
    Ok(Built { rows: rows(record), state, extent: settled.extent, cost: settled.cost })
}

/// A key in 16 bytes, for there may be many of them. Two that differ are taken for one with a chance below 10⁻²⁰ among a
/// billion.
fn fingerprint(key: &[Option<String>]) -> [u64; 2] {
    [0, 1].map(|seed| {
        let mut half = XxHash3_64::with_seed(seed);
        key.hash(&mut half);
        half.finish()
    })
}

/// A year as partitions are written: with four digits.
fn padded(text: &str) -> String {
    format!("{text:0>4}")
}

fn parquet(rows: &RecordBatch) -> parquet::errors::Result<Vec<u8>> {
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
    writer.write(rows)?;
    writer.into_inner()
}
