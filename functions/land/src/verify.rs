//! The pass over a capture before anything of it is written: it is whole, or it is refused whole.

use shared::capture::{Manifest, StoredAnswer};
use shared::csv::Refused;
use shared::dataset::Dataset;
use shared::form::Form;
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

/// Checks the size, checksum, packing, form, end and number of records of every answer.
pub(crate) async fn verify(
    store: &dyn Store,
    dataset: &dyn Dataset,
    manifest: &Manifest,
) -> Result<Verdict, StoreError> {
    for stored in &manifest.answers {
        if let Verdict::Refused(reason) = verify_answer(store, dataset, stored).await? {
            return Ok(Verdict::Refused(reason));
        }
    }
    Ok(Verdict::Whole)
}

async fn verify_answer(store: &dyn Store, dataset: &dyn Dataset, stored: &StoredAnswer) -> Result<Verdict, StoreError> {
    let object = &stored.object;
    let Some(form) = dataset.form(&stored.form) else {
        return Ok(Verdict::Refused(format!("the answer {object} has the form '{}', which is unknown", stored.form)));
    };
    let mut answer = match Answer::open(store, stored).await {
        Err(StoreError::NotFound { .. }) => return Ok(Verdict::Refused(format!("the answer {object} is missing"))),
        opened => opened?,
    };
    let read = count(&mut answer, form).await;
    if let Err(Wrong::Store(error)) = read {
        return Err(error);
    }
    // Bytes that have changed since they were stored say more than what they look like now.
    answer.skip().await?;
    if let Some(difference) = answer.difference(stored) {
        return Ok(Verdict::Refused(format!("the answer {object} is damaged: {difference}")));
    }
    Ok(match read {
        Ok(records) if records == stored.records => Verdict::Whole,
        Ok(records) => {
            Verdict::Refused(format!("the answer {object} has {records} rows, and {} were stored", stored.records))
        }
        Err(Wrong::Content(reason)) => Verdict::Refused(reason),
        Err(Wrong::Store(error)) => return Err(error),
    })
}

async fn count(answer: &mut Answer, form: &Form) -> Result<u64, Wrong> {
    let mut check = form.check();
    while let Some(piece) = answer.next().await? {
        check.feed(piece, |_| ())?;
    }
    Ok(check.finish(|_| ())?.rows)
}
