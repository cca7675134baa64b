//! Stores the answers to one ask untouched, while they stream by and are checked; the manifest comes last.

use shared::capture::{CaptureWriter, Manifest};
use shared::clock::{Clock, Timestamp};
use shared::csv::Refused;
use shared::dataset::{Ask, Cursor, Dataset, Fingerprint};
use shared::form::Form;
use shared::function::Failure;
use shared::store::Store;

use crate::answer::{Answer, Broken};
use crate::reading::Reading;

/// The answers to one ask, as far as they have been read.
pub(crate) struct Capture<'a> {
    dataset: &'a dyn Dataset,
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    known: Option<&'a Cursor>,
    writer: Option<CaptureWriter<'a>>,
    observed_at: Option<Timestamp>,
    news: bool,
    seen: Vec<Fingerprint>,
    /// Records of the dataset's first form, and of details of these.
    rows: Option<u64>,
    details: u64,
}

/// What became of the answers.
pub(crate) struct Captured {
    /// `None` when they only repeat what is known.
    pub(crate) stored: Option<Manifest>,
    /// When the source made the earliest of them.
    pub(crate) observed_at: Option<Timestamp>,
    /// The records that the next answers are expected to repeat, in order.
    pub(crate) seen: Vec<Fingerprint>,
}

impl<'a> Capture<'a> {
    /// `known` is what was seen before; without it, whatever comes is new.
    pub(crate) fn new(
        dataset: &'a dyn Dataset,
        store: &'a dyn Store,
        clock: &'a dyn Clock,
        known: Option<&'a Cursor>,
    ) -> Self {
        Self {
            dataset,
            store,
            clock,
            known,
            writer: None,
            observed_at: None,
            news: false,
            seen: Vec::new(),
            rows: None,
            details: 0,
        }
    }

    /// Reads an answer to its end.
    pub(crate) async fn add(
        &mut self,
        mut answer: Answer,
        form: &'static Form,
        observed_at: Timestamp,
    ) -> Result<(), Broken> {
        let (store, clock, name) = (self.store, self.clock, self.dataset.name());
        let encoding = answer.encoding()?;
        let capture = self.writer.get_or_insert_with(|| CaptureWriter::begin(store, clock, name, observed_at));
        let mut writer = capture.answer(form, encoding).await?;
        let mut reading = Reading::new(self.dataset, form, encoding, observed_at, self.known);
        while let Some(chunk) = answer.chunk().await? {
            reading.feed(&chunk).map_err(|refused| torn(name, &answer, &refused))?;
            writer.write(chunk).await?;
        }
        let content = reading.finish().map_err(|refused| torn(name, &answer, &refused))?;
        capture.add(writer, answer.url(), observed_at, content.rows);
        self.observed_at = Some(self.observed_at.map_or(observed_at, |earliest| earliest.min(observed_at)));
        if !form.has_rows() {
            self.details += content.rows;
        } else if form.name == self.dataset.forms()[0].name {
            self.rows = Some(self.rows.unwrap_or_default() + content.rows);
        }
        self.news |= content.news;
        self.seen.extend(content.seen);
        Ok(())
    }

    /// Whether fewer rows came than details of them: nothing in a CSV tells when it is cut off between two rows. A row
    /// may also have gone in the second between the two answers.
    pub(crate) fn may_be_cut_off(&self) -> bool {
        self.rows.is_some_and(|rows| rows < self.details)
    }

    /// Stores the answers, unless they bring nothing that was not seen before. `again` asks for them again.
    pub(crate) async fn finish(mut self, again: Ask) -> Result<Captured, Failure> {
        self.seen.sort_unstable();
        let stored = match self.writer {
            Some(writer) if self.known.is_none() || self.news => Some(writer.commit(self.clock, Some(again)).await?),
            _ => None,
        };
        Ok(Captured { stored, observed_at: self.observed_at, seen: self.seen })
    }
}

fn torn(dataset: &str, answer: &Answer, refused: &Refused) -> Failure {
    Failure::Transient(format!("{dataset}: {refused} ({})", answer.url()))
}
