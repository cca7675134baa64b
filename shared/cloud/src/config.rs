//! Which project, bucket and topics, and whether emulators stand for Google's services.
//!
//! Invariant: an emulator is asked without credentials, and Google's services never are; a service is either all
//! emulated or not at all, so that a test cannot list the real bucket.

use std::fmt;

use shared::message::Topic;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}{} {reason}", quoted(.value))]
pub struct ConfigError {
    /// The setting.
    pub name: &'static str,
    /// What it says.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

fn quoted(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(" '{value}'") }
}

impl ConfigError {
    pub(crate) fn new(name: &'static str, value: &str, reason: &'static str) -> Self {
        Self { name, value: value.to_owned(), reason }
    }
}

/// All settings that cannot be used, so that whoever sets them has to be told only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// Notes what is wrong while settings are read.
#[derive(Default)]
pub(crate) struct Wrong(Vec<ConfigError>);

impl Wrong {
    /// The value, or its errors noted.
    pub(crate) fn take<T>(&mut self, read: Result<T, impl Into<ConfigErrors>>) -> Option<T> {
        read.map_err(|errors| self.0.extend(errors.into().0)).ok()
    }

    pub(crate) fn errors(self) -> ConfigErrors {
        ConfigErrors(self.0)
    }
}

/// A setting without which there is no service.
pub(crate) fn required(variable: impl Fn(&str) -> Option<String>, name: &'static str) -> Result<String, ConfigError> {
    let value = variable(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| ConfigError::new(name, "", "is not set"))
}

/// The name of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketName(String);

impl BucketName {
    /// Checks a name as Google does.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if (3..=222).contains(&name.len()) && name.bytes().all(plain) {
            Ok(Self(name.to_owned()))
        } else {
            let reason = "is no bucket: 3 to 222 of a-z, 0-9, '-', '_' and '.'";
            Err(ConfigError::new("bucket", name, reason))
        }
    }

    /// As the clients want it.
    pub(crate) fn path(&self) -> String {
        format!("projects/_/buckets/{}", self.0)
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the topics of an environment are: its project, and what their names start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    project: String,
    prefix: String,
}

impl Topics {
    /// The topics `<prefix>fetch-requests`, `<prefix>captures` and so on; the prefix may be empty.
    ///
    /// # Errors
    /// When one of the two can be part of no topic's name.
    pub fn new(project: &str, prefix: &str) -> Result<Self, ConfigError> {
        let in_project = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
        if project.is_empty() || !project.bytes().all(in_project) {
            return Err(ConfigError::new("project", project, "is no project: a-z, 0-9, '-', '.' and ':'"));
        }
        let in_topic = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+%".contains(&byte);
        let starts = prefix.bytes().next().is_none_or(|byte| byte.is_ascii_alphabetic());
        if !starts || prefix.starts_with("goog") || prefix.len() > 200 || !prefix.bytes().all(in_topic) {
            let reason = "starts no topic's name: a letter, then letters, digits and -_.~+%, and not 'goog'";
            return Err(ConfigError::new("topic prefix", prefix, reason));
        }
        Ok(Self { project: project.to_owned(), prefix: prefix.to_owned() })
    }

    /// The full name of a topic.
    pub fn path(&self, topic: Topic) -> String {
        format!("projects/{}/topics/{}{topic}", self.project, self.prefix)
    }
}

/// One deployment of the pipeline: a project, and the name of the environment in it. Every resource that Terraform makes
/// is named by the two, and found by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The project's id.
    pub project: String,
    /// `dev`, `prod`.
    pub name: String,
    /// The bucket of the lake, `<project>-strata-<env>`.
    pub bucket: BucketName,
    /// The topics, `strata-<env>-fetch-requests` and so on.
    pub topics: Topics,
    /// A query that would be billed for more bytes fails and costs nothing.
    pub max_bytes_billed: u64,
    /// What stands for Google's services.
    pub emulators: Emulators,
}

/// The variable that names the project.
pub const PROJECT: &str = "STRATA_PROJECT";
/// The variable that names the environment.
pub const ENVIRONMENT: &str = "STRATA_ENV";
const MAX_BYTES_BILLED: &str = "STRATA_MAX_BYTES_BILLED";
/// A hundredth of a TiB, six cents.
const DEFAULT_MAX_BYTES_BILLED: u64 = 10 << 30;

impl Environment {
    /// The environment `name` of a project.
    ///
    /// # Errors
    /// When one of the two can be part of no resource's name.
    pub fn new(project: &str, name: &str, emulators: Emulators) -> Result<Self, ConfigError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !(1..=12).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(ConfigError::new(ENVIRONMENT, name, "is no environment: 1 to 12 of a-z and 0-9"));
        }
        let topics = Topics::new(project, &format!("strata-{name}-"))?;
        let bucket = BucketName::new(&format!("{project}-strata-{name}"))?;
        Ok(Self {
            project: project.to_owned(),
            name: name.to_owned(),
            bucket,
            topics,
            max_bytes_billed: DEFAULT_MAX_BYTES_BILLED,
            emulators,
        })
    }

    /// Reads `STRATA_PROJECT` and `STRATA_ENV`, `STRATA_MAX_BYTES_BILLED` where it is set, and the emulators' variables.
    ///
    /// # Errors
    /// When one is missing or cannot be used; all of them are named.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut wrong = Wrong::default();
        let project = wrong.take(required(&variable, PROJECT));
        let name = wrong.take(required(&variable, ENVIRONMENT));
        let emulators = wrong.take(Emulators::from_variables(&variable));
        match (project, name, emulators) {
            (Some(project), Some(name), Some(emulators)) => {
                Ok(Self::new(&project, &name, emulators)?.with_limits(&variable)?)
            }
            _ => Err(wrong.errors()),
        }
    }

    /// The same with the limit of bytes that a variable names, where it does.
    ///
    /// # Errors
    /// When the limit is no number.
    pub fn with_limits(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(limit) = set(MAX_BYTES_BILLED) {
            let wrong = || ConfigError::new(MAX_BYTES_BILLED, &limit, "is no number of bytes");
            self.max_bytes_billed = limit.parse().map_err(|_| wrong())?;
        }
        Ok(self)
    }

    /// The full name of a subscription of the environment, such as that of a service or `dead-letters`.
    pub fn subscription(&self, name: &str) -> String {
        format!("projects/{}/subscriptions/strata-{}-{name}", self.project, self.name)
    }
}

/// The emulators that stand for Google's services; none of them, if not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emulators {
    /// For Cloud Storage.
    pub storage: Option<StorageEmulator>,
    /// For Pub/Sub.
    pub pubsub: Option<Address>,
    /// For BigQuery.
    pub bigquery: Option<Address>,
}

/// An emulator of Cloud Storage: its content by HTTP, its listings by gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageEmulator {
    /// Reads and writes.
    pub http: Address,
    /// Lists, heads and deletes.
    pub grpc: Address,
}

/// Where an emulator listens, with its scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    fn new(variable: &'static str, value: &str) -> Result<Self, ConfigError> {
        let (scheme, host) = value.split_once("://").unwrap_or(("http", value));
        let host = host.trim_end_matches('/');
        if scheme != "http" || host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(ConfigError::new(variable, value, "is no emulator: HOST:PORT or http://HOST:PORT"));
        }
        Ok(Self(format!("{scheme}://{host}")))
    }

    /// For the clients.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const STORAGE: &str = "STORAGE_EMULATOR_HOST";
const STORAGE_GRPC: &str = "STORAGE_EMULATOR_GRPC_HOST";
const PUBSUB: &str = "PUBSUB_EMULATOR_HOST";
const BIGQUERY: &str = "BIGQUERY_EMULATOR_HOST";

impl Emulators {
    /// Reads the variables that Google's own tools read: `STORAGE_EMULATOR_HOST`, `STORAGE_EMULATOR_GRPC_HOST`,
    /// `PUBSUB_EMULATOR_HOST` and `BIGQUERY_EMULATOR_HOST`. One that is empty is not set.
    ///
    /// # Errors
    /// When one is no address, or only one of the two for Cloud Storage is set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let address = |name| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.map(|value| Address::new(name, &value)).transpose()
        };
        let storage = match (address(STORAGE)?, address(STORAGE_GRPC)?) {
            (Some(http), Some(grpc)) => Some(StorageEmulator { http, grpc }),
            (None, None) => None,
            (Some(http), None) => {
                return Err(ConfigError::new(STORAGE, http.as_str(), "needs STORAGE_EMULATOR_GRPC_HOST beside it"));
            }
            (None, Some(grpc)) => {
                return Err(ConfigError::new(STORAGE_GRPC, grpc.as_str(), "needs STORAGE_EMULATOR_HOST beside it"));
            }
        };
        Ok(Self { storage, pubsub: address(PUBSUB)?, bigquery: address(BIGQUERY)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulators(set: &[(&str, &str)]) -> Result<Emulators, ConfigError> {
        let find = |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        Emulators::from_variables(find)
    }

    #[test]
    fn an_address_is_read_with_and_without_its_scheme() {
        let read = emulators(&[(STORAGE, "http://127.0.0.1:1/"), (STORAGE_GRPC, "127.0.0.1:2"), (PUBSUB, "[::1]:3")]);
        let read = read.unwrap();
        let storage = read.storage.unwrap();
        assert_eq!((storage.http.as_str(), storage.grpc.as_str()), ("http://127.0.0.1:1", "http://127.0.0.1:2"));
        assert_eq!(read.pubsub.unwrap().as_str(), "http://[::1]:3");
        assert_eq!(emulators(&[(PUBSUB, "")]).unwrap(), Emulators::default());
    }

    #[test]
    fn half_an_emulator_is_refused_by_name() {
        for (set, named) in [
            (vec![(STORAGE, "127.0.0.1:1")], STORAGE),
            (vec![(STORAGE_GRPC, "127.0.0.1:1")], STORAGE_GRPC),
            (vec![(PUBSUB, "https://pubsub.googleapis.com")], PUBSUB),
            (vec![(PUBSUB, "http://")], PUBSUB),
        ] {
            assert_eq!(emulators(&set).unwrap_err().name, named, "{set:?}");
        }
    }

    #[test]
    fn an_environment_names_its_resources() {
        let set = [(PROJECT, "strata-public"), (ENVIRONMENT, "dev")];
        let find = |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment::from_variables(find).unwrap();
        assert_eq!(environment.bucket.to_string(), "strata-public-strata-dev");
        assert_eq!(environment.topics.path(Topic::Captures), "projects/strata-public/topics/strata-dev-captures");
        assert_eq!(environment.subscription("land"), "projects/strata-public/subscriptions/strata-dev-land");
        let missing = Environment::from_variables(|name| find(name).filter(|_| name != ENVIRONMENT)).unwrap_err();
        assert_eq!(missing.to_string(), "STRATA_ENV is not set");
        assert!(Environment::new("p", "Dev", Emulators::default()).is_err());
    }

    #[test]
    fn a_topic_is_named_by_project_and_prefix() {
        let topics = Topics::new("strata-dev", "strata-").unwrap();
        assert_eq!(topics.path(Topic::FetchRequests), "projects/strata-dev/topics/strata-fetch-requests");
        assert_eq!(Topics::new("p", "").unwrap().path(Topic::Captures), "projects/p/topics/captures");
        for (project, prefix) in [("", ""), ("p/q", ""), ("P", ""), ("p", "1-"), ("p", "google-"), ("p", "a/b")] {
            assert!(Topics::new(project, prefix).is_err(), "{project:?} {prefix:?}");
        }
    }

    #[test]
    fn a_bucket_is_named_as_google_wants() {
        assert_eq!(BucketName::new("strata-dev-lake").unwrap().path(), "projects/_/buckets/strata-dev-lake");
        for name in ["", "ab", "Lake", "a/b", "gs://lake"] {
            assert!(BucketName::new(name).is_err(), "{name:?}");
        }
    }
}
