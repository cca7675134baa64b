//! Runs the models of a dataset: seeds and models in the order of the graph, then the tests of what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use shared::metrics::{BYTES_BILLED, ROWS, SLOT_MS};
use shared::partition::Partition;
use shared::table::TableName;
use shared::warehouse::{
    Built, Cost, Extent, Layout, ModelRun, Origin, SeedRun, SqlError, TableState, Warehouse, WarehouseError,
};

use crate::plan::{Step, decide, in_partitions, partition_by};
use crate::project::{
    Materialized, Model, Naming, Node, Project, ProjectError, RenderContext, Rendered, Seed, Severity, Strategy,
    combined_sql,
};
use crate::seeds::{self, SeedError};

/// How often a model is planned again because somebody else committed it meanwhile.
const TRIES: usize = 5;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The warehouse refused or failed.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// A model cannot be rendered.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A seed cannot be read.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A model reads a table that is not there.
    #[error("{model} reads {table}, which does not exist yet: nothing has landed for it")]
    NoInput {
        /// The model's file.
        model: String,
        /// The table.
        table: TableName,
    },
    /// The project has no models for it.
    #[error("there are no models for dataset '{0}'")]
    NoModels(String),
}

/// What a run builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// What is out of date.
    Changed,
    /// These partitions too, although nothing says that they changed.
    Again(BTreeSet<Partition>),
    /// Everything, from nothing.
    Everything,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The tables that were built, in the order in which they were.
    pub built: Vec<BuiltTable>,
    /// What the run changed, also in an earlier attempt that may have died before it tested and published.
    pub changed: Vec<ChangedTable>,
}

impl Report {
    /// What the tables that were built cost.
    pub fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        self.built.iter().for_each(|table| cost += table.built.cost);
        cost
    }
}

/// A table whose latest change a run made.
#[derive(Debug, Clone)]
pub struct ChangedTable {
    /// Which.
    pub table: TableName,
    /// The node's name in the project.
    pub node: String,
    /// The version that it reached.
    pub version: u64,
    /// What all commits of the run touched.
    pub extent: Extent,
}

/// A table that a run built.
#[derive(Debug, Clone)]
pub struct BuiltTable {
    /// Which.
    pub table: TableName,
    /// What was done and touched.
    pub built: Built,
}

/// The outcome of a data test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// Its name.
    pub test: String,
    /// How many rows should not be there.
    pub failures: u64,
    /// How bad that is.
    pub severity: Severity,
}

impl TestResult {
    /// Whether the data are wrong.
    pub fn is_error(&self) -> bool {
        self.failures > 0 && self.severity == Severity::Error
    }
}

/// What data tests found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tested {
    /// Each test's outcome, table by table.
    pub results: Vec<TestResult>,
    /// What they cost.
    pub cost: Cost,
}

/// Runs models in a warehouse.
#[derive(Clone)]
pub struct Runner {
    project: Arc<Project>,
    warehouse: Arc<dyn Warehouse>,
    naming: Naming,
}

impl Runner {
    /// A runner of this project in this warehouse.
    pub fn new(project: Arc<Project>, warehouse: Arc<dyn Warehouse>) -> Self {
        Self { project, warehouse, naming: Naming::default() }
    }

    /// Builds what of a dataset's models is out of date, or more.
    ///
    /// # Errors
    /// The first that a model gives; the tables before it are built and stay.
    pub async fn build(&self, dataset: &str, cause: &str, what: &What) -> Result<Report, RunError> {
        let nodes = self.project.topological(dataset);
        if !nodes.iter().any(|node| matches!(node, Node::Model(_))) {
            return Err(RunError::NoModels(dataset.to_owned()));
        }
        let mut states = BTreeMap::new();
        let mut report = Report::default();
        for node in nodes {
            let built = match node {
                Node::Seed(seed) => self.seed(seed, cause, what, &mut states).await?,
                Node::Model(model) => self.model(model, cause, what, &mut states).await?,
            };
            let (schema, table) = node.relation();
            let table = TableName::new(schema, table);
            if let Some(built) = built {
                let (rows, version, cost) = (built.rows, built.state.version, built.cost);
                if cost.is_nothing() {
                    tracing::info!(%table, { ROWS } = rows, version, "built");
                } else {
                    let (billed, slots) = (cost.bytes_billed, cost.slot_ms);
                    tracing::info!(%table, { ROWS } = rows, version, { BYTES_BILLED } = billed, { SLOT_MS } = slots, "built");
                }
                states.insert(table.clone(), Some(built.state.clone()));
                report.built.push(BuiltTable { table: table.clone(), built });
            }
            let changes = states.get(&table).and_then(Option::as_ref).map_or(&[][..], |state| &state.changes);
            if let Some(last) = changes.last().filter(|last| last.cause == cause) {
                let ours = changes.iter().filter(|change| change.cause == cause);
                let extent = ours.fold(Extent::nothing(), |all, change| all.union(change.extent.clone()));
                let (node, version) = (node.name().to_owned(), last.version);
                report.changed.push(ChangedTable { table, node, version, extent });
            }
        }
        Ok(report)
    }

    async fn seed(
        &self,
        seed: &Seed,
        cause: &str,
        what: &What,
        states: &mut States,
    ) -> Result<Option<Built>, RunError> {
        let table = TableName::new(&seed.schema, &seed.table);
        let definition = format!("{:016x}", seed.hash);
        let state = self.state(&table, states).await?;
        if *what != What::Everything && state.is_some_and(|state| state.definition == definition) {
            return Ok(None);
        }
        let run = SeedRun { table, rows: seeds::rows(seed)?, definition, cause: cause.to_owned() };
        Ok(Some(self.warehouse.seed(run).await?))
    }

    async fn model(
        &self,
        model: &Model,
        cause: &str,
        what: &What,
        states: &mut States,
    ) -> Result<Option<Built>, RunError> {
        let table = TableName::new(&model.schema, &model.table);
        let mut tries = 0;
        let mut whole = false;
        loop {
            let inputs = self.inputs(model, states).await?;
            let state = self.state(&table, states).await?;
            let definition = format!("{:016x}", model.hash);
            let known = state.as_ref().filter(|_| !whole && *what != What::Everything);
            let again = if let What::Again(partitions) = what { Some(partitions) } else { None };
            let step = decide(model, &definition, known, &inputs, again);
            let Step::Build { how, changed } = step else { return Ok(None) };
            let vars = changed.map(|changed| {
                let days = changed.iter().map(|partition| serde_json::Value::String(partition.to_string())).collect();
                ("changed_partitions".to_owned(), serde_json::Value::Array(days))
            });
            let context = RenderContext {
                incremental: vars.is_some(),
                vars: vars.into_iter().collect(),
                naming: self.naming.clone(),
            };
            let rendered = model.render(&context)?;
            let run = ModelRun {
                table: table.clone(),
                materialization: how,
                layout: layout(model),
                sql: rendered.sql.clone(),
                origin: Origin::new(&model.path),
                definition,
                inputs: inputs.iter().map(|(table, state)| (table.clone(), state.version)).collect(),
                expected: state.as_ref().map(|state| state.version),
                cause: cause.to_owned(),
            };
            tries += 1;
            match self.warehouse.build(run).await {
                Err(WarehouseError::Conflict(_)) if tries < TRIES => states.clear(),
                Err(WarehouseError::Damaged { table: damaged, object, reason }) if damaged == table && !whole => {
                    tracing::warn!(%table, object, reason, "the table is damaged and is built again");
                    whole = true;
                }
                Err(error) => return Err(in_the_model(error, &rendered).into()),
                Ok(built) => return Ok(Some(built)),
            }
        }
    }

    /// The states of all tables that a model reads, a view's own inputs among them: the view never changes, they do.
    async fn inputs(&self, model: &Model, states: &mut States) -> Result<BTreeMap<TableName, TableState>, RunError> {
        let mut inputs = BTreeMap::new();
        let mut models = vec![model];
        while let Some(reader) = models.pop() {
            let sources = reader.sources.iter().filter_map(|(source, table)| self.project.source(source, table));
            let mut tables: Vec<_> = sources.map(|source| TableName::new(&source.schema, &source.identifier)).collect();
            for node in reader.refs.iter().filter_map(|name| self.project.node(name)) {
                let (schema, table) = node.relation();
                tables.push(TableName::new(schema, table));
                if let Node::Model(parent) = node
                    && parent.materialized == Materialized::View
                {
                    models.push(parent);
                }
            }
            for table in tables {
                let Some(state) = self.state(&table, states).await? else {
                    return Err(RunError::NoInput { model: reader.path.clone(), table });
                };
                inputs.insert(table, state);
            }
        }
        Ok(inputs)
    }

    /// A table's state, asked for once in a run. A damaged table counts as none: building it again heals it.
    async fn state(&self, table: &TableName, states: &mut States) -> Result<Option<TableState>, RunError> {
        if let Some(state) = states.get(table) {
            return Ok(state.clone());
        }
        let state = match self.warehouse.state(table).await {
            Err(WarehouseError::Damaged { object, reason, .. }) if table.schema != "raw" => {
                tracing::warn!(%table, object, reason, "the table is damaged and is built again");
                None
            }
            state => state?,
        };
        states.insert(table.clone(), state.clone());
        Ok(state)
    }

    /// Runs the data tests of a dataset, all rows of all tables and of the sources.
    ///
    /// # Errors
    /// Those of the warehouse; a test that fails is no error.
    pub async fn test(&self, dataset: &str) -> Result<Tested, RunError> {
        let nodes = self.project.topological(dataset);
        let mut names: BTreeSet<String> = nodes.iter().map(|node| node.name().to_owned()).collect();
        for node in &nodes {
            if let Node::Model(model) = node {
                names.extend(model.source_names());
            }
        }
        let mut tested = Tested::default();
        for name in names {
            self.test_table(&name, None, &mut tested).await?;
        }
        Ok(tested)
    }

    /// Runs the data tests of the tables that a run changed, on the partitions that it changed.
    ///
    /// # Errors
    /// Those of the warehouse; a test that fails is no error.
    pub async fn test_changed(&self, report: &Report) -> Result<Tested, RunError> {
        let mut tested = Tested::default();
        for table in &report.changed {
            let filter = match (&table.extent, self.project.model(&table.node)) {
                (Extent::Partitions(partitions), Some(model)) => {
                    model.partition_by.as_ref().and_then(|by| in_partitions(by, partitions))
                }
                _ => None,
            };
            self.test_table(&table.node, filter.as_deref(), &mut tested).await?;
        }
        Ok(tested)
    }

    async fn test_table(&self, name: &str, filter: Option<&str>, tested: &mut Tested) -> Result<(), RunError> {
        let tests = self.project.tests_of(name);
        let Some(sql) = combined_sql(tests.iter().copied(), &self.naming, filter) else { return Ok(()) };
        let origin = Origin::new(format!("the data tests of {name}"));
        let answer = self.warehouse.query(&sql, &origin).await?;
        let mut results = Vec::new();
        for (test, failures) in answer.batches.iter().flat_map(counts) {
            let severity = tests.iter().find(|it| it.name == test).map_or(Severity::Error, |it| it.severity);
            results.push(TestResult { test, failures, severity });
        }
        results.sort_by(|one, other| one.test.cmp(&other.test));
        tested.results.extend(results);
        tested.cost += answer.cost;
        Ok(())
    }
}

/// Where the rows of a model's table lie.
pub fn layout(model: &Model) -> Layout {
    let unique_key = match &model.materialized {
        Materialized::Incremental(Strategy::Merge { unique_key }) => unique_key.clone(),
        _ => Vec::new(),
    };
    Layout { partition_by: partition_by(model), cluster_by: model.cluster_by.clone(), unique_key }
}

type States = BTreeMap<TableName, Option<TableState>>;

/// The rows of the combined query of tests: a name and a count.
fn counts(batch: &RecordBatch) -> Vec<(String, u64)> {
    let names = batch.column(0).as_string::<i32>();
    let failures = batch.column(1).as_primitive::<Int64Type>();
    (0..batch.num_rows())
        .map(|row| (names.value(row).to_owned(), u64::try_from(failures.value(row)).unwrap_or(0)))
        .collect()
}

/// Turns the line of rendered SQL into the line of the model's file.
fn in_the_model(error: WarehouseError, rendered: &Rendered) -> WarehouseError {
    match error {
        WarehouseError::Sql(error) => {
            let line = usize::try_from(error.line).map_or(1, |line| rendered.source_line(line));
            WarehouseError::Sql(SqlError { line: u32::try_from(line).unwrap_or(error.line), ..error })
        }
        error => error,
    }
}

impl From<RunError> for shared::function::Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Warehouse(error) => error.into(),
            // It comes with the first capture that has rows.
            RunError::NoInput { .. } => Self::Transient(error.to_string()),
            RunError::Project(_) | RunError::Seed(_) | RunError::NoModels(_) => Self::Poison(error.to_string()),
        }
    }
}
