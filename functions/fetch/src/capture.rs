//! Stores an answer untouched while it streams by and is checked; the manifest comes last.

use shared::capture::{CaptureWriter, Manifest};
use shared::clock::{Clock, Timestamp};
use shared::csv::Refused;
use shared::dataset::{Ask, Cursor, Dataset, Fingerprint, Query};
use shared::function::Failure;
use shared::store::Store;

use crate::answer::{Answer, Broken};
use crate::reading::Reading;

/// What is needed to store the answer to a query.
pub(crate) struct Capture<'a> {
    pub(crate) dataset: &'a dyn Dataset,
    pub(crate) query: &'a Query,
    /// What asks for this answer again.
    pub(crate) again: Ask,
    pub(crate) observed_at: Timestamp,
    pub(crate) store: &'a dyn Store,
    pub(crate) clock: &'a dyn Clock,
}

impl Capture<'_> {
    /// Reads the answer to its end and stores it, unless it only repeats what `known` has seen. Returns what was
    /// stored, and the rows that the next answer is expected to repeat.
    pub(crate) async fn store(
        self,
        mut answer: Answer,
        known: Option<&Cursor>,
    ) -> Result<(Option<Manifest>, Vec<Fingerprint>), Broken> {
        let (store, clock, name) = (self.store, self.clock, self.dataset.name());
        let encoding = answer.encoding()?;
        let format = &self.query.format;
        let mut writer = CaptureWriter::begin(store, clock, name, self.observed_at, format, encoding).await?;
        let mut reading = Reading::new(self.dataset, encoding, self.observed_at, known);
        while let Some(chunk) = answer.chunk().await? {
            reading.feed(&chunk).map_err(|refused| torn(name, &answer, &refused))?;
            writer.write(chunk).await?;
        }
        let content = reading.finish().map_err(|refused| torn(name, &answer, &refused))?;
        if known.is_some() && !content.news {
            return Ok((None, content.seen));
        }
        let manifest = writer.commit(clock, Some(self.again), answer.url(), content.rows).await?;
        Ok((Some(manifest), content.seen))
    }
}

fn torn(dataset: &str, answer: &Answer, refused: &Refused) -> Failure {
    Failure::Transient(format!("{dataset}: {refused} ({})", answer.url()))
}
