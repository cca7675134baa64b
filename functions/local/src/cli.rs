//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use shared::clock::Timestamp;

use crate::problem::Problem;
use crate::rows::Format;

/// Keeps public datasets fresh, complete and queryable.
#[derive(Debug, Parser)]
#[command(name = "strata", version, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where the data are and who works on them.
    #[command(flatten)]
    pub place: Place,
}

/// Where the data are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Where the pipeline runs
    #[arg(long, global = true, value_enum, default_value_t = Target::Local)]
    pub target: Target,
    /// The folder with the data [default: ./strata-data]
    #[arg(long, global = true, env = "STRATA_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// With --target gcp: the Google Cloud project
    #[arg(long, global = true, env = "STRATA_PROJECT")]
    pub project: Option<String>,
    /// With --target gcp: the environment in the project
    #[arg(long, global = true, env = "STRATA_ENV", default_value = "dev")]
    pub env: String,
    /// With --target gcp: do what costs or deletes without asking
    #[arg(long, global = true)]
    pub yes: bool,
    /// Which of these were said on the command line, rather than set in the process's environment.
    #[arg(skip)]
    said: Vec<&'static str>,
}

impl Place {
    /// Checks that what was said belongs to the target.
    ///
    /// # Errors
    /// [`Problem::Usage`] when it belongs to another.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |flags: &[&str]| self.said.iter().any(|said| flags.contains(said));
        let reason = match self.target {
            Target::Gcp if wrong(&["data_dir"]) => {
                "--data-dir names a folder on this machine, and --target gcp works on none"
            }
            Target::Local if wrong(&["project", "env"]) => "--project and --env belong to --target gcp",
            _ => return Ok(()),
        };
        Err(Problem::Usage(reason.to_owned()))
    }
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, or the help that it asks for.
    pub fn read(line: impl IntoIterator<Item: Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(line)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let said = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        cli.place.said = ["data_dir", "project", "env"].into_iter().filter(said).collect();
        Ok(cli)
    }
}

/// Where the pipeline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// In this process
    Local,
    /// In a project on Google Cloud
    Gcp,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the services: fetch the last days, then what is new every 30 minutes
    Up(Up),
    /// One scheduled run, now
    Tick {
        /// Whose source to ask
        dataset: String,
        /// The daily re-read instead of the usual tick
        #[arg(long)]
        sweep: bool,
    },
    /// Fetch a range of the past
    Backfill {
        /// Whose source to ask
        dataset: String,
        /// From this day or time on (2024-01-01 or 2024-01-01T12:00:00Z)
        #[arg(long, value_parser = instant)]
        start: Timestamp,
        /// Up to this day or time
        #[arg(long, value_parser = instant)]
        end: Timestamp,
        /// Only what no earlier run has fetched
        #[arg(long)]
        gaps: bool,
    },
    /// Send again what is stored of one day
    Replay {
        /// Of which dataset
        dataset: String,
        /// The UTC day
        #[arg(long, value_parser = day)]
        day: NaiveDate,
        /// From where
        #[arg(long, value_enum, default_value_t = From::Raw)]
        from: From,
        /// With --target gcp: let Pub/Sub deliver again what it has sent to this service (land, transform) since the day
        /// began, by the time of publication and whatever the dataset
        #[arg(long, value_name = "SERVICE", value_parser = seekable, conflicts_with = "from")]
        seek: Option<Seekable>,
    },
    /// Land a file that you already have
    Ingest {
        /// As the source writes it; .gz too
        file: PathBuf,
        /// What it is of
        #[arg(long)]
        dataset: String,
        /// When the source made it, by its own clock [default: of its newest update]
        #[arg(long, value_parser = instant, value_name = "TIME")]
        observed_at: Option<Timestamp>,
    },
    /// Run the models that are out of date
    Build {
        /// Of one dataset only
        dataset: Option<String>,
        /// Build every table from nothing
        #[arg(long)]
        full_refresh: bool,
        /// Fail when a table then holds other rows than before
        #[arg(long, requires = "full_refresh")]
        compare: bool,
    },
    /// Run the data tests
    Test {
        /// Of one dataset only
        dataset: Option<String>,
    },
    /// Answer a question in BigQuery SQL
    Query {
        /// One query over the raw, silver and gold tables
        sql: String,
        /// How the answer is printed
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// What there is, how fresh it is, and what went wrong
    Status {
        /// Also ask the source how many events it has of each of the last days
        #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "7")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=366))]
        completeness: Option<u32>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = StatusFormat::Table)]
        format: StatusFormat,
    },
    /// Describe the tables: their columns, tests and rows, and what reads what
    Docs {
        /// The folder for the pages
        #[arg(long, value_name = "DIR", default_value = "strata-docs")]
        out: PathBuf,
    },
}

/// How `up` runs.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// How many days of history the first run takes [default: 30]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: Option<u32>,
    /// End when the first run is complete
    #[arg(long)]
    pub once: bool,
    /// Run on the recorded month instead of the live source
    #[arg(long)]
    pub sample: bool,
    /// Seconds between two ticks
    #[arg(long, default_value_t = 1800, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
}

/// What a replay sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// Ask the source for the day again
    Source,
    /// Land the stored answers that hold rows of the day again
    Raw,
    /// Load the day's partition and run the models again
    Bronze,
}

/// A service whose messages Pub/Sub can send again from what it retains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seekable {
    /// Captures land again.
    Land,
    /// Models run again.
    Transform,
}

impl Seekable {
    /// The service's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Land => "land",
            Self::Transform => "transform",
        }
    }
}

/// How the status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn seekable(text: &str) -> Result<Seekable, String> {
    match text {
        "land" => Ok(Seekable::Land),
        "transform" => Ok(Seekable::Transform),
        "fetch" => Err("fetch would ask the source again: `--from source` does that for one day".to_owned()),
        _ => Err("the services that can be sought are land and transform".to_owned()),
    }
}

fn day(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| "it is no day such as 2025-07-24".to_owned())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(day) = day(text) {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    let zoned = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc));
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").map(|at| at.and_utc());
    zoned.or_else(|_| plain()).map_err(|_| "it is no time such as 2024-01-01 or 2024-01-01T12:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_said_after_the_command_counts_as_said() {
        let read = |line: &[&str]| Cli::read([&["strata"], line].concat()).unwrap();
        let refused = |line: &[&str]| read(line).place.check().is_err();
        assert!(refused(&["status", "--target", "gcp", "--data-dir", "x"]));
        assert!(refused(&["--data-dir", "x", "--target", "gcp", "status"]));
        assert!(refused(&["status", "--project", "p"]) && refused(&["status", "--env", "dev"]));
        assert!(!refused(&["status", "--data-dir", "x"]) && !refused(&["status"]));
        assert!(!refused(&["status", "--target", "gcp", "--project", "p", "--env", "dev"]));
    }

    #[test]
    fn only_services_that_ask_no_source_can_be_sought() {
        assert_eq!(seekable("land"), Ok(Seekable::Land));
        assert!(seekable("fetch").unwrap_err().contains("--from source"));
        assert!(seekable("alert").is_err());
    }

    #[test]
    fn times_are_days_or_instants_in_utc() {
        for text in ["2024-01-01", "2024-01-01T00:00:00", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00"] {
            assert_eq!(instant(text).unwrap().to_rfc3339(), "2024-01-01T00:00:00+00:00", "{text}");
        }
        for text in ["", "2024-13-01", "yesterday", "2024-02-30"] {
            assert!(instant(text).is_err(), "{text}");
        }
    }
}
