//! The pass over an answer before anything of it is written: it is whole, or it is refused whole.

use shared::capture::Manifest;
use shared::csv::{Check, Refused};
use shared::dataset::Dataset;
use shared::store::{Store, StoreError};

use crate::answer::{Answer, AnswerError};

/// What the pass says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All bytes that were stored are there, and they are the table that they should be.
    Whole,
    /// Nothing of it may be kept; why, in one sentence.
    Refused(String),
}

enum Wrong {
    Content(String),
    Store(StoreError),
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        Self::Content(refused.to_string())
    }
}

impl From<AnswerError> for Wrong {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Store(error) => Self::Store(error),
            AnswerError::Packing(_) => Self::Content(format!("the answer is torn: {error}")),
        }
    }
}

/// Checks size, checksum, packing, header, end and number of rows.
pub(crate) async fn verify(
    store: &dyn Store,
    dataset: &dyn Dataset,
    manifest: &Manifest,
) -> Result<Verdict, StoreError> {
    let object = &manifest.object;
    let mut answer = match Answer::open(store, manifest).await {
        Err(StoreError::NotFound { .. }) => return Ok(Verdict::Refused(format!("the answer {object} is missing"))),
        opened => opened?,
    };
    let read = count(&mut answer, dataset).await;
    if let Err(Wrong::Store(error)) = read {
        return Err(error);
    }
    // Bytes that have changed since they were stored say more than what they look like now.
    answer.skip().await?;
    if let Some(difference) = answer.difference(manifest) {
        return Ok(Verdict::Refused(format!("the answer {object} is damaged: {difference}")));
    }
    Ok(match read {
        Ok(rows) if rows == manifest.rows => Verdict::Whole,
        Ok(rows) => Verdict::Refused(format!("the answer {object} has {rows} rows, and {} were stored", manifest.rows)),
        Err(Wrong::Content(reason)) => Verdict::Refused(reason),
        Err(Wrong::Store(error)) => return Err(error),
    })
}

async fn count(answer: &mut Answer, dataset: &dyn Dataset) -> Result<u64, Wrong> {
    let mut check = Check::new(dataset.header());
    while let Some(piece) = answer.next().await? {
        check.feed(piece, |_| ())?;
    }
    Ok(check.finish(|_| ())?.rows)
}
