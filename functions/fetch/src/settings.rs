//! How sources are asked, as whoever runs the service says it.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::dataset::Registry;

/// How to ask.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Addresses to use instead of the sources' own, by dataset.
    pub addresses: BTreeMap<String, String>,
    /// At least this long between requests instead of what the sources wish: for a simulator.
    pub spacing: Option<Duration>,
    /// A failed address may be asked again after this long, if not after 60 s.
    pub failure_cache: Option<Duration>,
    /// A whole answer may take so long instead of 120 s.
    pub patience: Option<Duration>,
    /// Who to write to about these requests; sent with each of them.
    pub contact: Option<String>,
}

/// The variable that says who to write to about requests to sources.
pub const CONTACT: &str = "STRATA_CONTACT";

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is '{value}', which is no http address")]
pub struct NoAddress {
    /// Its name.
    pub variable: String,
    /// What it says.
    pub value: String,
}

impl Settings {
    /// Reads `STRATA_CONTACT`, and for each source the variable that points it at another address, such as
    /// `STRATA_USGS_URL`. One that is empty is not set.
    ///
    /// # Errors
    /// When one is no address.
    pub fn from_variables(datasets: &Registry, variable: impl Fn(&str) -> Option<String>) -> Result<Self, NoAddress> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut settings = Self { contact: set(CONTACT), ..Self::default() };
        for dataset in datasets.iter() {
            let variable = dataset.source().address_variable();
            let Some(value) = set(variable) else { continue };
            if !value.starts_with("http://") && !value.starts_with("https://") {
                return Err(NoAddress { variable: variable.to_owned(), value });
            }
            settings.addresses.insert(dataset.name().to_owned(), value);
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings, NoAddress> {
        let find = |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        Settings::from_variables(&shared::datasets::shipped(), find)
    }

    #[test]
    fn a_source_is_pointed_elsewhere_by_its_variable() {
        let settings = read(&[("STRATA_USGS_URL", "http://127.0.0.1:8090"), (CONTACT, "ops@example.org")]).unwrap();
        assert_eq!(settings.addresses["earthquakes"], "http://127.0.0.1:8090");
        assert_eq!(settings.contact.as_deref(), Some("ops@example.org"));
        let unset = read(&[("STRATA_USGS_URL", ""), (CONTACT, "")]).unwrap();
        assert!(unset.addresses.is_empty() && unset.contact.is_none());
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        let error = read(&[("STRATA_USGS_URL", "earthquake.usgs.gov")]).unwrap_err();
        assert_eq!(error.to_string(), "STRATA_USGS_URL is 'earthquake.usgs.gov', which is no http address");
    }
}
