//! What an error of BigQuery means: one table for requests that are refused and for jobs that end badly.
//!
//! The reasons are those of <https://cloud.google.com/bigquery/docs/error-messages>.

use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::job::Job;
use shared::table::TableName;
use shared::warehouse::WarehouseError;

use super::job::{Statement, Trouble, Work};
use super::sql::{DELTA, STRAY};
use crate::refusal::{one_line, sentence};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It may pass.
    Transient(String),
    /// What it names is not there.
    Missing(String),
    /// There is one of this name.
    Duplicate,
    /// It may be taken once somebody has given leave.
    Blocked(String),
    /// It cannot be taken.
    Permanent(String),
}

/// What a reason of BigQuery's says.
fn kind(reason: &str, code: i64, message: String) -> Refusal {
    match (reason, code) {
        ("duplicate", _) => Refusal::Duplicate,
        ("notFound", _) => Refusal::Missing(message),
        // A statement met another that changes the table.
        _ if message.contains("due to concurrent update") => Refusal::Transient(message),
        (
            "backendError"
            | "internalError"
            | "jobBackendError"
            | "jobInternalError"
            | "jobRateLimitExceeded"
            | "rateLimitExceeded"
            | "tableUnavailable"
            | "timeout"
            | "stopped",
            _,
        ) => Refusal::Transient(message),
        (
            "accessDenied"
            | "billingNotEnabled"
            | "billingTierLimitExceeded"
            | "blocked"
            | "bytesBilledLimitExceeded"
            | "quotaExceeded"
            | "responseTooLarge",
            _,
        ) => Refusal::Blocked(message),
        (_, 409) => Refusal::Duplicate,
        (_, 404) => Refusal::Missing(message),
        (_, 401 | 403) => Refusal::Blocked(message),
        (_, 408 | 429 | 500..) => Refusal::Transient(message),
        _ => Refusal::Permanent(message),
    }
}

impl Refusal {
    /// Reads the client's error.
    pub(crate) fn of(error: &BQError) -> Self {
        match error {
            BQError::ResponseError { error } => {
                let error = &error.error;
                let reason = error.errors.first().and_then(|detail| detail.get("reason"));
                kind(reason.map_or("", String::as_str), error.code, one_line(&error.message))
            }
            // How our own authenticator says it.
            BQError::InvalidServiceAccountAuthenticator(error)
                if error.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Self::Blocked(error.to_string())
            }
            // Not reached, cut, or not understood: an answer that is no JSON comes from what stands before BigQuery.
            error => Self::Transient(sentence(error)),
        }
    }

    /// As the port says it of a table.
    pub(crate) fn into_error(self, table: &TableName) -> WarehouseError {
        match self {
            Self::Transient(reason) => WarehouseError::Transient(reason),
            Self::Duplicate => WarehouseError::Conflict(table.clone()),
            Self::Missing(reason) => WarehouseError::Blocked(missing(&reason)),
            Self::Blocked(reason) => WarehouseError::Blocked(reason),
            Self::Permanent(reason) => WarehouseError::Rows { table: table.clone(), reason },
        }
    }

    /// As the port says it of an SQL text.
    pub(crate) fn of_sql(self, table: &TableName, statement: &Statement) -> WarehouseError {
        match self {
            Self::Permanent(reason) => of_sql(statement, reason).of(table),
            Self::Missing(reason) if reason.contains("Not found: Table") => of_sql(statement, reason).of(table),
            refusal => refusal.into_error(table),
        }
    }

    /// What it means for a job that was to do this work.
    pub(crate) fn trouble(self, table: &TableName, work: &Work) -> Trouble {
        match self {
            Self::Transient(message) => Trouble::Transient(message),
            Self::Duplicate => Trouble::Transient("it was there already".to_owned()),
            Self::Blocked(message) => Trouble::Blocked(message),
            Self::Missing(message) => match work {
                _ if names(&message).any(|name| name == table.to_string()) => Trouble::Gone(message),
                // The rows of a merge were kept for a day, and it comes later than that: it is planned again.
                _ if names(&message).any(|name| name.contains(DELTA)) => Trouble::Transient(message),
                // A later write replaced the object before it was read, or it was lost: the load is decided again.
                Work::Load { .. } if message.contains("gs://") || message.contains("URI") => {
                    Trouble::Transient(message)
                }
                Work::Statement(statement) if message.contains("Not found: Table") => of_sql(statement, message),
                _ => Trouble::Blocked(missing(&message)),
            },
            Self::Permanent(message) => match work {
                Work::Load { .. } if message.contains("Provided Schema does not match") => Trouble::Gone(message),
                Work::Load { .. } => Trouble::Rows(message),
                Work::Statement(_) if message.contains(STRAY) => Trouble::Rows(STRAY.to_owned()),
                Work::Statement(statement) => of_sql(statement, message),
            },
        }
    }
}

/// Says what makes that which is missing.
fn missing(message: &str) -> String {
    if message.contains("Not found: Dataset") {
        format!("{message} (terraform makes it: google_bigquery_dataset)")
    } else if message.contains("Not found: Project") {
        format!("{message} (STRATA_PROJECT names it)")
    } else {
        message.to_owned()
    }
}

/// What went wrong with a job that has ended, if anything.
pub(crate) fn trouble(job: &Job, table: &TableName, work: &Work) -> Option<Trouble> {
    let error = job.status.as_ref()?.error_result.as_ref()?;
    let message = one_line(error.message.as_deref().unwrap_or("no reason is given"));
    let reason = error.reason.as_deref().unwrap_or_default();
    Some(kind(reason, 400, message).trouble(table, work))
}

/// The tables that a message names as `project:dataset.table`, with a partition or not.
fn names(message: &str) -> impl Iterator<Item = &str> {
    let words = message.split_whitespace().filter_map(|word| word.split_once(':'));
    words.map(|(_, name)| name.split('$').next().unwrap_or(name).trim_end_matches([',', '.']))
}

/// An error of SQL at the place that its message names: `Syntax error: … at [2:8]`.
fn of_sql(statement: &Statement, message: String) -> Trouble {
    let place = message.rsplit_once(" at [").and_then(|(said, place)| {
        let (line, column) = place.split_once(']')?.0.split_once(':')?;
        Some((said.to_owned(), line.parse::<u32>().ok()?, column.parse::<u32>().ok()?))
    });
    let error = match place {
        Some((said, line, column)) => statement.error(Some((line, column)), said),
        None => statement.error(None, message),
    };
    Trouble::Sql { file: error.file, line: error.line, column: error.column, message: error.message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::store::Generation;
    use shared::warehouse::Origin;

    fn failed(reason: &str, message: &str) -> Job {
        let error = json!({"reason": reason, "message": message});
        serde_json::from_value(json!({"status": {"state": "DONE", "errorResult": error}})).unwrap()
    }

    fn load() -> Work {
        let object = "bronze/quakes/date=2025-07-24/events.parquet".to_owned();
        Work::Load { object, generation: Generation(1), partition: None, columns: Vec::new() }
    }

    fn refused(code: i64, reason: &str, message: &str) -> Refusal {
        let answer = json!({"error": {"code": code, "message": message, "errors": [{"reason": reason}]}});
        Refusal::of(&BQError::ResponseError { error: serde_json::from_value(answer).unwrap() })
    }

    #[test]
    fn a_refused_request_is_of_one_kind() {
        let text = |text: &str| text.to_owned();
        assert_eq!(refused(503, "backendError", "try\nagain"), Refusal::Transient(text("try again")));
        assert_eq!(refused(403, "rateLimitExceeded", "slow"), Refusal::Transient(text("slow")));
        assert_eq!(refused(403, "quotaExceeded", "tomorrow"), Refusal::Blocked(text("tomorrow")));
        assert_eq!(refused(403, "accessDenied", "no"), Refusal::Blocked(text("no")));
        assert_eq!(refused(401, "", "who"), Refusal::Blocked(text("who")));
        assert_eq!(refused(409, "duplicate", "Already Exists: Job p:US.j"), Refusal::Duplicate);
        assert_eq!(refused(400, "invalid", "bad"), Refusal::Permanent(text("bad")));
        let table = TableName::raw("quakes");
        let missing = refused(404, "notFound", "Not found: Dataset p:raw").into_error(&table).to_string();
        assert!(missing.contains("google_bigquery_dataset"), "{missing}");
    }

    #[test]
    fn a_job_that_ends_badly_says_whether_another_may_do_better() {
        let table = TableName::raw("quakes");
        let kind = |reason: &str, message: &str, work: &Work| match trouble(&failed(reason, message), &table, work) {
            None => "none",
            Some(Trouble::Transient(_)) => "transient",
            Some(Trouble::Blocked(_)) => "blocked",
            Some(Trouble::Gone(_)) => "gone",
            Some(Trouble::Rows(_)) => "rows",
            Some(Trouble::Sql { .. }) => "sql",
        };
        let sql = Work::Statement(Statement::ours("select 1".to_owned()));
        assert_eq!(kind("backendError", "again", &load()), "transient");
        assert_eq!(kind("notFound", "Not found: URI gs://lake/bronze/a", &load()), "transient");
        assert_eq!(kind("notFound", "Not found: Table p:raw.quakes", &load()), "gone");
        assert_eq!(kind("notFound", "Not found: Table p:raw.quakes$20250724 was not found", &load()), "gone");
        assert_eq!(kind("notFound", "Not found: Table p:raw.quakes__delta_1 was not found", &sql), "transient");
        assert_eq!(kind("notFound", "Not found: Dataset p:raw was not found in location US", &load()), "blocked");
        assert_eq!(kind("invalid", "Provided Schema does not match Table p:raw.quakes$20250724", &load()), "gone");
        assert_eq!(kind("invalid", "Input file is not in Parquet format.", &load()), "rows");
        let raced = "Could not serialize access to table p:raw.quakes due to concurrent update";
        assert_eq!(kind("invalidQuery", raced, &sql), "transient");
        assert_eq!(kind("bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1.", &sql), "blocked");
        assert_eq!(kind("invalidQuery", &format!("{STRAY} at [1:2]"), &sql), "rows");
        assert_eq!(kind("invalidQuery", "Unrecognized name: x at [1:8]", &sql), "sql");
        assert_eq!(kind("notFound", "Not found: Table p:gold.nothing was not found in location US", &sql), "sql");
        let done = serde_json::from_value(json!({"status": {"state": "DONE"}})).unwrap();
        assert_eq!(trouble(&done, &table, &sql), None);
    }

    #[test]
    fn an_error_of_sql_is_at_its_place_in_the_models_file() {
        let origin = Origin { file: "models/a.sql".to_owned(), first_line: 3 };
        let statement = Statement::around("create view v as\n(", "select x\nfrom y", ")", &origin);
        let error = failed("invalidQuery", "Unrecognized name: x at [3:8]");
        let Some(Trouble::Sql { file, line, column, message }) =
            trouble(&error, &TableName::raw("q"), &Work::Statement(statement.clone()))
        else {
            panic!()
        };
        assert_eq!((file.as_str(), line, column, message.as_str()), ("models/a.sql", 3, 8, "Unrecognized name: x"));
        let error = failed("invalidQuery", "something is wrong");
        let trouble = trouble(&error, &TableName::raw("q"), &Work::Statement(statement));
        assert!(matches!(trouble, Some(Trouble::Sql { line: 3, column: 1, .. })), "{trouble:?}");
    }
}
