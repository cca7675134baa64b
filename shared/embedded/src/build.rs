//! Building a model: its query's rows become the next version of its table.
//!
//! Invariant: nothing of a build is seen before its one commit, and files written for a build that fails are removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{StreamExt, TryStreamExt, stream};
use shared::partition::Partition;
use shared::warehouse::{Built, Commit, Cost, Extent, Materialization, ModelRun, SeedRun, WarehouseError};

use crate::commit::Found;
use crate::engine::{Engine, Planned, chain, each, given};
use crate::files::Shape;
use crate::manifest::{File, Kind, Manifest};
use crate::merge::{Delta, Touched};
use crate::overwrite::Replaced;
use crate::reader::Source;
use crate::schema::{Column, arrow_schema, columns_of, conform};
use crate::split::StoredLayout;

/// How many files are searched for keys at once.
const SEARCHES: usize = 8;

/// The rows of a build, on their way.
struct Rows {
    kind: Kind,
    columns: Vec<Column>,
    files: Vec<File>,
    /// Written for this build.
    fresh: Vec<String>,
    extent: Extent,
    rows: u64,
}

impl Engine {
    pub(crate) async fn build(&self, model: &ModelRun) -> Result<Built, WarehouseError> {
        let table = &model.table;
        let found = self.tables.find(table).await?;
        let replaced = matches!(model.materialization, Materialization::Table | Materialization::View);
        match found.damage() {
            // Nobody can know the version of a table whose manifest is damaged; built whole, it is well again.
            Some(_) if replaced => {}
            Some(damage) => return Err(damage),
            None if found.readable().map(|there| there.state.version) != model.expected => {
                return Err(WarehouseError::Conflict(table.clone()));
            }
            None => {}
        }
        let planned = self.plan(&model.sql, &model.origin).await?;
        let refuse = |reason| WarehouseError::Rows { table: table.clone(), reason };
        let columns = columns_of(planned.plan.schema().as_arrow()).map_err(refuse)?;
        let mut layout = StoredLayout::from(&model.layout);
        if let Materialization::Merge { unique_key } = &model.materialization {
            layout.unique_key.clone_from(unique_key);
        }
        let shape = Shape::new(table.clone(), arrow_schema(&columns), layout).map_err(|bad| refuse(bad.0))?;
        let current =
            found.readable().filter(|there| there.kind == Kind::Table && there.state.definition == model.definition);
        let increment = match &model.materialization {
            Materialization::View => return self.view(model, found, columns).await,
            Materialization::Table => None,
            Materialization::Merge { .. } | Materialization::Overwrite { .. } => current,
        };
        let built = match (&model.materialization, increment) {
            (Materialization::Merge { unique_key }, Some(base)) => {
                alike(base, &columns, &shape).map_err(refuse)?;
                self.merge(model, &planned, columns, &shape, base, unique_key).await
            }
            (Materialization::Overwrite { partitions }, Some(base)) => {
                alike(base, &columns, &shape).map_err(refuse)?;
                self.overwrite(model, &planned, columns, &shape, base, partitions).await
            }
            _ => self.replace(model, &planned, columns, &shape).await,
        }?;
        self.publish(model, found, shape.layout, built).await
    }

    /// Commits, or does not where nothing would change.
    async fn publish(
        &self,
        model: &ModelRun,
        found: Found,
        layout: StoredLayout,
        built: Rows,
    ) -> Result<Built, WarehouseError> {
        if let Some(there) = found.readable()
            && built.extent.is_nothing()
            && there.state.inputs == model.inputs
        {
            return Ok(Built {
                rows: built.rows,
                state: there.state.clone(),
                extent: built.extent,
                cost: Cost::default(),
            });
        }
        let commit = Commit {
            definition: model.definition.clone(),
            inputs: model.inputs.clone(),
            extent: built.extent.clone(),
            cause: &model.cause,
        };
        let next =
            Manifest::after(found.readable(), self.tables.clock.now(), built.kind, built.columns, layout, commit)
                .with_files(built.files);
        match self.tables.commit(&model.table, &found, next).await {
            Ok(manifest) => {
                Ok(Built { rows: built.rows, state: manifest.state, extent: built.extent, cost: Cost::default() })
            }
            Err(error) => {
                // After any other error the commit may have happened, and the files may be the table's.
                if matches!(error, WarehouseError::Conflict(_)) {
                    self.tables.remove(built.fresh).await;
                }
                Err(error)
            }
        }
    }

    async fn view(&self, model: &ModelRun, found: Found, columns: Vec<Column>) -> Result<Built, WarehouseError> {
        let kind =
            Kind::View { sql: model.sql.clone(), file: model.origin.file.clone(), first_line: model.origin.first_line };
        let same = found.readable().is_some_and(|there| {
            there.kind == kind
                && there.columns == columns
                && there.state.definition == model.definition
                && there.state.inputs == model.inputs
        });
        let extent = if same { Extent::nothing() } else { Extent::Whole };
        let rows = Rows { kind, columns, files: Vec::new(), fresh: Vec::new(), extent, rows: 0 };
        self.publish(model, found, StoredLayout::default(), rows).await
    }

    async fn explain(&self, model: &ModelRun, sources: Vec<Source>, error: DataFusionError) -> WarehouseError {
        self.context(Some(&model.table), Some(&model.origin), sources).explain(error).await
    }

    async fn replace(
        &self,
        model: &ModelRun,
        planned: &Planned,
        columns: Vec<Column>,
        shape: &Shape,
    ) -> Result<Rows, WarehouseError> {
        let written = async { self.writer.write(shape, self.run(planned).await?, |_| true).await }.await;
        let files = match written {
            Ok(files) => files,
            Err(error) => return Err(self.explain(model, planned.sources.clone(), error).await),
        };
        Ok(Rows {
            kind: Kind::Table,
            columns,
            fresh: objects(&files),
            rows: files.iter().map(|file| file.rows).sum(),
            files,
            extent: Extent::Whole,
        })
    }

    async fn merge(
        &self,
        model: &ModelRun,
        planned: &Planned,
        columns: Vec<Column>,
        shape: &Shape,
        base: &Manifest,
        unique_key: &[String],
    ) -> Result<Rows, WarehouseError> {
        let mut fresh = Vec::new();
        let merged = self.merge_files(planned, shape, base, unique_key, &mut fresh).await;
        match merged {
            Ok((rows, files, extent)) => {
                Ok(Rows { kind: Kind::Table, columns, fresh: objects(&fresh), files, extent, rows })
            }
            Err(error) => {
                self.tables.remove(objects(&fresh)).await;
                let sources = planned.sources.iter().cloned().chain(base.files.iter().map(Source::from));
                Err(self.explain(model, sources.collect(), error).await)
            }
        }
    }

    async fn merge_files(
        &self,
        planned: &Planned,
        shape: &Shape,
        base: &Manifest,
        unique_key: &[String],
        fresh: &mut Vec<File>,
    ) -> DataFusionResult<(u64, Vec<File>, Extent)> {
        let batches: Vec<RecordBatch> = self.run(planned).await?.try_collect().await?;
        let conformed = batches.iter().map(|batch| conform(batch, &shape.schema));
        let batches = conformed.collect::<Result<Vec<_>, arrow::error::ArrowError>>()?;
        let mut delta = Delta::new(concat_batches(&shape.schema, &batches)?, unique_key)?;
        drop(batches);

        let mut rewritten: BTreeSet<&str> = BTreeSet::new();
        let mut partitions = BTreeSet::new();
        let mut searched = Vec::new();
        for file in self.candidates(shape, base, &delta).await? {
            let mut touched = Touched::default();
            let mut rows = self.scan(&shape.schema, [Source::from(file)])?;
            while let Some(batch) = rows.try_next().await? {
                delta.compare(&batch, shape, &mut touched)?;
            }
            searched.push((file, touched));
        }
        for (file, touched) in &searched {
            if delta.rewrites(touched) {
                rewritten.insert(&file.bucket);
                partitions.extend(delta.left(touched));
            }
        }

        let changed = delta.changed()?;
        let rows = delta.rows.num_rows() as u64;
        let parts = by_bucket(shape, &changed, &mut partitions)?;
        let buckets: BTreeSet<&str> = parts.iter().map(|(bucket, _)| bucket.as_str()).chain(rewritten).collect();
        let delta = Arc::new(delta);
        for bucket in &buckets {
            let mut streams = Vec::new();
            if let Some(file) = base.file(bucket) {
                let delta = Arc::clone(&delta);
                let there = self.scan(&shape.schema, [Source::from(file)])?;
                streams.push(each(shape, there, move |batch| delta.stay(&batch)));
            }
            let coming = parts.iter().filter(|(of, _)| of == bucket).map(|(_, rows)| rows.clone());
            streams.push(given(shape, coming));
            fresh.extend(self.writer.write(shape, chain(shape, streams), |_| true).await?);
        }
        let kept = base.files.iter().filter(|file| !buckets.contains(file.bucket.as_str())).cloned();
        let extent = match &shape.splitter {
            Some(splitter) => Extent::Partitions(splitter.partitions(partitions)),
            None if buckets.is_empty() => Extent::nothing(),
            None => Extent::Whole,
        };
        Ok((rows, kept.chain(fresh.iter().cloned()).collect(), extent))
    }

    /// The files that may hold a key of the delta.
    async fn candidates<'a>(
        &self,
        shape: &Shape,
        base: &'a Manifest,
        delta: &Delta,
    ) -> DataFusionResult<Vec<&'a File>> {
        if delta.rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let column = shape.filter();
        let searches = |file: &'a File| async move {
            let filters = match (column, &file.filter) {
                (Some(column), Some(by)) if by == column => self.readers.filters(&file.into(), column).await?,
                _ => Arc::default(),
            };
            // A file without a filter is read.
            Ok::<_, DataFusionError>((filters.is_empty() || delta.may_be_in(&filters)).then_some(file))
        };
        let searches: Vec<_> = base.files.iter().map(searches).collect();
        let found: Vec<_> = stream::iter(searches).buffered(SEARCHES).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn overwrite(
        &self,
        model: &ModelRun,
        planned: &Planned,
        columns: Vec<Column>,
        shape: &Shape,
        base: &Manifest,
        partitions: &BTreeSet<Partition>,
    ) -> Result<Rows, WarehouseError> {
        match self.overwrite_files(planned, shape, base, partitions).await {
            Ok((rows, fresh, files, extent)) => {
                Ok(Rows { kind: Kind::Table, columns, fresh: objects(&fresh), files, extent, rows })
            }
            Err(error) => {
                let sources = planned.sources.iter().cloned().chain(base.files.iter().map(Source::from));
                Err(self.explain(model, sources.collect(), error).await)
            }
        }
    }

    async fn overwrite_files(
        &self,
        planned: &Planned,
        shape: &Shape,
        base: &Manifest,
        partitions: &BTreeSet<Partition>,
    ) -> DataFusionResult<(u64, Vec<File>, Vec<File>, Extent)> {
        let Some(splitter) = &shape.splitter else {
            return Err(crate::failure::BadRows("it has no partitions that could be overwritten".to_owned()).into());
        };
        let replaced = Replaced::new(partitions, splitter, &shape.schema)?;
        let (counting, to) = (replaced.clone(), Arc::clone(&shape.schema));
        let coming: SendableRecordBatchStream = each(shape, self.run(planned).await?, move |batch| {
            let batch = conform(&batch, &to)?;
            counting.bring(&batch)?;
            Ok(batch)
        });
        let buckets: BTreeSet<String> = partitions.iter().map(|partition| partition.bucket()).collect();
        let there: Vec<_> = base.files.iter().filter(|file| buckets.contains(&file.bucket)).map(Source::from).collect();
        let mut streams = vec![coming];
        if !there.is_empty() {
            let counting = replaced.clone();
            streams.push(each(shape, self.scan(&shape.schema, there)?, move |batch| counting.stay(&batch)));
        }
        let asked = replaced.clone();
        // A bucket is asked for when all rows are in: one that is as before keeps its file.
        let fresh = self.writer.write(shape, chain(shape, streams), move |bucket| asked.changes(bucket)).await?;
        let changed = splitter.partitions(replaced.changed());
        let rewritten: BTreeSet<String> = changed.iter().map(|partition| partition.bucket()).collect();
        let kept = base.files.iter().filter(|file| !rewritten.contains(&file.bucket)).cloned();
        let files = kept.chain(fresh.iter().cloned()).collect();
        Ok((replaced.rows(), fresh, files, Extent::Partitions(changed)))
    }

    pub(crate) async fn seed(&self, seed: &SeedRun) -> Result<Built, WarehouseError> {
        let table = &seed.table;
        let refuse = |reason| WarehouseError::Rows { table: table.clone(), reason };
        let mut columns = columns_of(&seed.rows.schema()).map_err(refuse)?;
        for column in &mut columns {
            // As SQL says them.
            column.name = column.name.to_lowercase();
        }
        let shape = Shape::new(table.clone(), arrow_schema(&columns), StoredLayout::default());
        let shape = shape.map_err(|bad| refuse(bad.0))?;
        let rows = conform(&seed.rows, &shape.schema).map_err(|error| refuse(error.to_string()))?;
        let mut attempts = 0;
        loop {
            let found = self.tables.find(table).await?;
            let written = self.writer.write(&shape, given(&shape, [rows.clone()]), |_| true).await;
            let files = match written {
                Ok(files) => files,
                Err(error) => return Err(self.context(Some(table), None, Vec::new()).explain(error).await),
            };
            let commit = Commit {
                definition: seed.definition.clone(),
                inputs: std::collections::BTreeMap::new(),
                extent: Extent::Whole,
                cause: &seed.cause,
            };
            let fresh = objects(&files);
            let next = Manifest::after(
                found.readable(),
                self.tables.clock.now(),
                Kind::Table,
                columns.clone(),
                shape.layout.clone(),
                commit,
            );
            match self.tables.commit(table, &found, next.with_files(files)).await {
                Ok(manifest) => {
                    let rows = manifest.state.rows.unwrap_or_default();
                    return Ok(Built { rows, state: manifest.state, extent: Extent::Whole, cost: Cost::default() });
                }
                Err(WarehouseError::Conflict(_)) if attempts < crate::load::ATTEMPTS => {
                    attempts += 1;
                    self.tables.remove(fresh).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether rows of these columns can be added to a table.
fn alike(base: &Manifest, columns: &[Column], shape: &Shape) -> Result<(), String> {
    if base.columns != columns {
        return Err("its columns are others than when it was built: build it in full".to_owned());
    }
    if base.layout.partition_by != shape.layout.partition_by {
        return Err("its partitions are others than when it was built: build it in full".to_owned());
    }
    Ok(())
}

fn objects(files: &[File]) -> Vec<String> {
    files.iter().map(|file| file.object.clone()).collect()
}

/// Rows by the name of their bucket; their partitions are added to `partitions`.
fn by_bucket(
    shape: &Shape,
    rows: &RecordBatch,
    partitions: &mut BTreeSet<crate::split::Ordinal>,
) -> DataFusionResult<Vec<(String, RecordBatch)>> {
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let Some(splitter) = &shape.splitter else {
        return Ok(vec![(crate::split::ALL.to_owned(), rows.clone())]);
    };
    let ordinals = splitter.ordinals(rows).map_err(crate::failure::BadRows)?;
    partitions.extend(ordinals.iter().copied());
    let names: Vec<String> = ordinals
        .iter()
        .map(|ordinal| ordinal.partition(splitter.unit()).map_or_else(String::new, Partition::bucket))
        .collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    let part = |bucket: &String| {
        let mask: arrow::array::BooleanArray = names.iter().map(|name| Some(name == bucket)).collect();
        Ok((bucket.clone(), arrow::compute::filter_record_batch(rows, &mask)?))
    };
    distinct.into_iter().map(part).collect()
}
