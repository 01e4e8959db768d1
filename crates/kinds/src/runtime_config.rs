//! Which versions of the API are served beyond those that upstream serves by default: what `--runtime-config` says. Stable versions
//! are always served; beta versions only when they are asked for, as upstream has it since v1.24.

use std::collections::BTreeSet;

/// What is served besides the stable versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    all_beta: bool,
    /// `resource.k8s.io/v1beta1`, or with a plural behind.
    enabled: BTreeSet<String>,
}

/// A setting that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfigError {
    /// The setting.
    pub setting: String,
    /// Why not.
    pub reason: &'static str,
}

impl std::fmt::Display for RuntimeConfigError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "--runtime-config {}: {}", self.setting, self.reason)
    }
}

impl std::error::Error for RuntimeConfigError {}

impl RuntimeConfig {
    /// Reads `api/beta=true,resource.k8s.io/v1beta1=true`.
    ///
    /// # Errors
    /// A setting that would turn off what is always served, or turn on what is not there.
    pub fn parse(text: &str) -> Result<Self, RuntimeConfigError> {
        let mut config = Self::default();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            config.apply(setting)?;
        }
        Ok(config)
    }

    fn apply(&mut self, setting: &str) -> Result<(), RuntimeConfigError> {
        let fails = |reason| RuntimeConfigError { setting: setting.to_owned(), reason };
        let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
        let on = match value {
            "true" => true,
            "false" => false,
            _ => return Err(fails("the value is true or false")),
        };
        match key {
            "api/beta" | "api/all" if on => self.all_beta = true,
            "api/beta" => self.all_beta = false,
            "api/alpha" if !on => {}
            "api/alpha" => return Err(fails("alpha versions are not built")),
            "api/ga" | "api/all" if !on => return Err(fails("stable versions are always served")),
            "api/ga" => {}
            _ if !key.contains("beta") => {
                let reason = "only beta versions, as group/version or group/version/resource, can be chosen";
                return Err(fails(reason));
            }
            _ if on => {
                self.enabled.insert(key.to_owned());
            }
            _ => {
                self.enabled.remove(key);
            }
        }
        Ok(())
    }

    /// Whether a beta version of a resource is served.
    pub(crate) fn serves(&self, group: &str, version: &str, plural: &str) -> bool {
        let key = format!("{group}/{version}");
        self.all_beta || self.enabled.contains(&key) || self.enabled.contains(&format!("{key}/{plural}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_versions_are_chosen() {
        let serves = |text: &str, version: &str| {
            RuntimeConfig::parse(text).expect("sound").serves("resource.k8s.io", version, "deviceclasses")
        };
        assert!(!serves("", "v1beta1"));
        assert!(serves("api/beta=true", "v1beta1"));
        assert!(serves("resource.k8s.io/v1beta1=true", "v1beta1"));
        assert!(serves("resource.k8s.io/v1beta1/deviceclasses", "v1beta1"));
        assert!(!serves("resource.k8s.io/v1beta1", "v1beta2"));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for text in ["api/alpha=true", "api/all=false", "apps/v1=false", "api/beta=maybe"] {
            assert!(RuntimeConfig::parse(text).is_err(), "{text}");
        }
    }
}
