//! The tables that one query reads, each as one manifest leaves it.
//!
//! Invariant: within a snapshot every manifest is read at most once, so a query sees each table as one commit left it,
//! also where it reads it through several views.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::CatalogProviderList;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::{TableProvider, ViewTable};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use futures::future::BoxFuture;
use shared::table::TableName;
use shared::warehouse::{Origin, SqlError, WarehouseError};

use crate::commit::Tables;
use crate::failure::at_start;
use crate::manifest::{File, Kind};
use crate::provider::Provider;
use crate::reader::{Readers, Source};
use crate::sql;

/// How many views may stand on each other.
const DEPTH: usize = 32;

/// Plans SQL against tables that are read as it goes.
pub(crate) struct Snapshot<'a> {
    tables: &'a Tables,
    readers: &'a Readers,
    session: &'a SessionContext,
    names: Option<Vec<TableName>>,
    found: BTreeMap<TableName, Arc<dyn TableProvider>>,
    files: Vec<File>,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(tables: &'a Tables, readers: &'a Readers, session: &'a SessionContext) -> Self {
        Self { tables, readers, session, names: None, found: BTreeMap::new(), files: Vec::new() }
    }

    /// The files of all tables that were planned against.
    pub(crate) fn sources(&self) -> Vec<Source> {
        self.files.iter().map(Source::from).collect()
    }

    /// The bytes of these files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The plan of BigQuery SQL.
    pub(crate) async fn plan(&mut self, text: &str, origin: &Origin) -> Result<LogicalPlan, WarehouseError> {
        self.plan_within(text.to_owned(), origin.clone(), 0).await
    }

    fn plan_within<'b>(
        &'b mut self,
        text: String,
        origin: Origin,
        depth: usize,
    ) -> BoxFuture<'b, Result<LogicalPlan, WarehouseError>> {
        async move {
            let catalog = MemoryCatalogProvider::new();
            let state = self.session.state();
            let defaults = &state.config().options().catalog;
            let (default_catalog, default_schema) = (defaults.default_catalog.clone(), defaults.default_schema.clone());
            for read in sql::tables(&text, &origin)? {
                let table = match &read.schema {
                    Some(schema) => TableName::new(schema, &read.table),
                    None => self.anywhere(&read.table, &text, &origin).await?,
                };
                let provider = match self.provider(&table, depth).await? {
                    Some(provider) => provider,
                    None => return Err(self.unknown(&table.to_string(), &read.table, &text, &origin).await?),
                };
                let schema = read.schema.as_ref().unwrap_or(&default_schema);
                let schema_provider = match catalog.schema(schema) {
                    Some(known) => known,
                    None => {
                        let fresh: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                        catalog.register_schema(schema, Arc::clone(&fresh)).map_err(transient)?;
                        fresh
                    }
                };
                schema_provider.register_table(read.table.clone(), provider).map_err(transient)?;
            }
            let catalogs = MemoryCatalogProviderList::new();
            catalogs.register_catalog(default_catalog, Arc::new(catalog));
            let state = SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(catalogs)).build();
            Ok(sql::plan(&SessionContext::new_with_state(state), &text, &origin).await?)
        }
        .boxed()
    }

    /// A table, or a view with its SQL planned.
    fn provider<'b>(
        &'b mut self,
        table: &'b TableName,
        depth: usize,
    ) -> BoxFuture<'b, Result<Option<Arc<dyn TableProvider>>, WarehouseError>> {
        async move {
            if let Some(found) = self.found.get(table) {
                return Ok(Some(Arc::clone(found)));
            }
            let Some(manifest) = self.tables.find(table).await?.manifest()? else {
                return Ok(None);
            };
            let provider: Arc<dyn TableProvider> = match &manifest.kind {
                Kind::Table => Arc::new(Provider::new(&manifest, self.readers.clone())),
                Kind::View { file, .. } if depth >= DEPTH => {
                    let origin = Origin { file: file.clone(), first_line: 1 };
                    return Err(at_start(&origin, format!("more than {DEPTH} views stand on each other")));
                }
                Kind::View { sql, file, first_line } => {
                    let origin = Origin { file: file.clone(), first_line: *first_line };
                    let plan = self.plan_within(sql.clone(), origin, depth + 1).await?;
                    Arc::new(ViewTable::new(plan, None))
                }
            };
            self.files.extend(manifest.files);
            self.found.insert(table.clone(), Arc::clone(&provider));
            Ok(Some(provider))
        }
        .boxed()
    }

    async fn names(&mut self) -> Result<&[TableName], WarehouseError> {
        if self.names.is_none() {
            self.names = Some(self.tables.names().await?);
        }
        Ok(self.names.as_deref().unwrap_or_default())
    }

    /// The one table of this name in whichever schema.
    async fn anywhere(&mut self, table: &str, text: &str, origin: &Origin) -> Result<TableName, WarehouseError> {
        let named: Vec<_> = self.names().await?.iter().filter(|name| name.table == table).cloned().collect();
        match named.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(self.unknown(table, table, text, origin).await?),
            several => {
                let message = format!("there are several tables '{table}': {}", list(several));
                Err(refuse(table, text, origin, message))
            }
        }
    }

    async fn unknown(
        &mut self,
        said: &str,
        table: &str,
        text: &str,
        origin: &Origin,
    ) -> Result<WarehouseError, WarehouseError> {
        let there = match self.names().await? {
            [] => "there are none yet".to_owned(),
            names => format!("there are: {}", list(names)),
        };
        Ok(refuse(table, text, origin, format!("there is no table '{said}'; {there}")))
    }
}

fn list(names: &[TableName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn transient(error: datafusion::error::DataFusionError) -> WarehouseError {
    WarehouseError::Transient(error.to_string())
}

/// An error at the place where the text first says `word`.
fn refuse(word: &str, text: &str, origin: &Origin, message: String) -> WarehouseError {
    let part_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let at = text.match_indices(word).map(|(at, _)| at).find(|at| {
        let (before, after) = (&text[..*at], &text[at + word.len()..]);
        !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
    });
    let before = &text[..at.unwrap_or(0)];
    let line = u32::try_from(before.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(origin.first_line.max(1));
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
    let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
    SqlError { file: origin.file.clone(), line, column, message }.into()
}
