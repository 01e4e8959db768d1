//! `/version`.

use crate::respond::{self, Reply};
use http::StatusCode;
use serde_json::json;

/// The release of Kubernetes whose API is served.
pub const KUBERNETES_VERSION: &str = "v1.37.0";

/// The version of the API that is served, and ours.
pub const GIT_VERSION: &str = concat!("v1.37.0+nauplius.", env!("CARGO_PKG_VERSION"));

pub(crate) fn serve(pretty: bool) -> Reply {
    let version = json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    });
    respond::json(StatusCode::OK, &version, pretty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_of_one_release() {
        assert!(GIT_VERSION.starts_with(&format!("{KUBERNETES_VERSION}+nauplius.")));
        assert!(KUBERNETES_VERSION.starts_with("v1.37."));
    }
}
