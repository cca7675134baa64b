//! What a service must be told before it starts: from the environment, typed, all or nothing.

use std::time::Duration;

use crate::config::{ConfigError, ConfigErrors, Environment, Wrong, required};

/// The variable that names the port to listen on.
pub const PORT: &str = "PORT";
/// The variable that names the audience of push tokens.
pub const PUSH_AUDIENCE: &str = "STRATA_PUSH_AUDIENCE";
/// The variable that names the service account which pushes, by its e-mail address.
pub const PUSH_ACCOUNT: &str = "STRATA_PUSH_ACCOUNT";
/// The variable that names another address for the keys of push tokens: for tests.
pub const PUSH_JWKS: &str = "STRATA_PUSH_JWKS";
/// The variable that names the seconds that a request may take.
pub const DEADLINE: &str = "STRATA_DEADLINE";
/// The variable that names how many requests are handled at once.
pub const AT_ONCE: &str = "STRATA_AT_ONCE";

/// Cloud Run's own default.
const USUAL_PORT: u16 = 8080;
/// Below the longest acknowledgement deadline, 600 s: the answer must still arrive.
const USUAL_DEADLINE: u64 = 540;
const LONGEST_DEADLINE: u64 = 590;
/// Each holds its push in memory, and what its handler holds.
const USUAL_AT_ONCE: usize = 4;

/// The settings of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; 0 takes any free port.
    pub port: u16,
    /// Its project, bucket and topics.
    pub environment: Environment,
    /// Whose pushes it takes.
    pub push: Push,
    /// A request that takes longer is ended.
    pub deadline: Duration,
    /// So many requests are handled at once.
    pub at_once: usize,
}

/// Whose pushes a service takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// What their tokens are for.
    pub audience: String,
    /// The e-mail address of the service account that they are of.
    pub account: String,
    /// Where the keys are that sign them, if not at Google.
    pub keys: Option<String>,
}

impl Settings {
    /// Reads `PORT`, `STRATA_PUSH_AUDIENCE`, `STRATA_PUSH_ACCOUNT`, `STRATA_PUSH_JWKS`, `STRATA_DEADLINE`,
    /// `STRATA_AT_ONCE` and what [`Environment::from_variables`] reads. One that is empty is not set.
    ///
    /// # Errors
    /// When one is missing or cannot be used; all of them are named.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut wrong = Wrong::default();
        let port = wrong.take(number(&variable, PORT, USUAL_PORT, 0..=u16::MAX, "is no port: 0 to 65535"));
        let environment = wrong.take(Environment::from_variables(&variable));
        let audience = wrong.take(required(&variable, PUSH_AUDIENCE));
        let account = wrong.take(required(&variable, PUSH_ACCOUNT).and_then(account));
        let keys = wrong.take(keys(&variable));
        let range = 1..=LONGEST_DEADLINE;
        let reason = "is no deadline: 1 to 590 seconds, below the 600 s of an acknowledgement";
        let deadline = wrong.take(number(&variable, DEADLINE, USUAL_DEADLINE, range, reason));
        let at_once = wrong.take(number(&variable, AT_ONCE, USUAL_AT_ONCE, 1..=1000, "is no limit: 1 to 1000"));
        match (port, environment, audience, account, keys, deadline, at_once) {
            (
                Some(port),
                Some(environment),
                Some(audience),
                Some(account),
                Some(keys),
                Some(deadline),
                Some(at_once),
            ) => {
                let push = Push { audience, account, keys };
                Ok(Self { port, environment, push, deadline: Duration::from_secs(deadline), at_once })
            }
            _ => Err(wrong.errors()),
        }
    }
}

fn number<N: std::str::FromStr + PartialOrd>(
    variable: impl Fn(&str) -> Option<String>,
    name: &'static str,
    usual: N,
    range: std::ops::RangeInclusive<N>,
    reason: &'static str,
) -> Result<N, ConfigError> {
    let Some(value) = variable(name).filter(|value| !value.is_empty()) else { return Ok(usual) };
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| ConfigError::new(name, &value, reason))
}

fn account(value: String) -> Result<String, ConfigError> {
    match value.split_once('@') {
        Some((name, domain)) if !name.is_empty() && domain.contains('.') => Ok(value),
        _ => Err(ConfigError::new(PUSH_ACCOUNT, &value, "is no e-mail address of a service account")),
    }
}

/// Whoever can answer for this address can push, so it is Google's or another one over TLS, or of this machine.
fn keys(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(value) = variable(PUSH_JWKS).filter(|value| !value.is_empty()) else { return Ok(None) };
    let reason = "is no address of keys: https, or http on this machine by its number";
    let url = reqwest::Url::parse(&value).map_err(|_| ConfigError::new(PUSH_JWKS, &value, reason))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_own = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if url.scheme() == "https" || (url.scheme() == "http" && is_own) {
        Ok(Some(value))
    } else {
        Err(ConfigError::new(PUSH_JWKS, &value, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ENVIRONMENT, PROJECT};

    const LEAST: [(&str, &str); 4] = [
        (PROJECT, "p"),
        (ENVIRONMENT, "dev"),
        (PUSH_AUDIENCE, "https://fetch.example"),
        (PUSH_ACCOUNT, "push@p.iam.gserviceaccount.com"),
    ];

    /// The settings, with these said besides or instead.
    fn read(said: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
        let find = |name: &str| {
            let found = said.iter().chain(&LEAST).find(|(it, _)| *it == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::from_variables(find)
    }

    #[test]
    fn what_need_not_be_said_is_usual() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.port, settings.deadline.as_secs(), settings.at_once), (8080, 540, 4));
        assert_eq!(settings.push.account, "push@p.iam.gserviceaccount.com");
        assert_eq!(settings.push.keys, None);
        let said = read(&[(PORT, "9"), (DEADLINE, "60"), (AT_ONCE, "1"), (PUSH_JWKS, "http://127.0.0.1:1/keys")]);
        let said = said.unwrap();
        assert_eq!((said.port, said.deadline.as_secs(), said.at_once), (9, 60, 1));
        assert_eq!(said.push.keys.as_deref(), Some("http://127.0.0.1:1/keys"));
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let error = Settings::from_variables(|_| None).unwrap_err().to_string();
        let expected = "STRATA_PROJECT is not set; STRATA_ENV is not set; STRATA_PUSH_AUDIENCE is not set; \
                        STRATA_PUSH_ACCOUNT is not set";
        assert_eq!(error, expected);
        assert_eq!(read(&[(PUSH_ACCOUNT, "")]).unwrap_err().to_string(), "STRATA_PUSH_ACCOUNT is not set");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let table = [
            (PORT, "http"),
            (PORT, "65536"),
            (DEADLINE, "600"),
            (DEADLINE, "0"),
            (DEADLINE, "540s"),
            (AT_ONCE, "0"),
            (PUSH_ACCOUNT, "push"),
            (PUSH_JWKS, "http://keys.example/"),
            (PUSH_JWKS, "http://localhost.example/"),
            (PUSH_JWKS, "keys"),
            (ENVIRONMENT, "Dev"),
            ("PUBSUB_EMULATOR_HOST", "https://pubsub.googleapis.com"),
        ];
        for (name, value) in table {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} '{value}' ")), "{error}");
        }
    }
}
