//! Projected volumes: several sources in one directory, whose paths must not meet.

use super::projected_certificates;
use super::volume::{downward_files, keys_to_paths};
use crate::check::{self, Errors};
use crate::tree::{count, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Checks a projected volume.
pub(super) fn validate(projected: &Value, path: &Path, errors: &mut Errors) {
    check::file_mode(projected, "defaultMode", path, errors);
    let mut paths = Vec::new();
    for (index, source) in list(projected, "sources").iter().enumerate() {
        projection(source, path, &path.child("sources").index(index), &mut paths, errors);
    }
}

fn projection<'a>(
    source: &'a Value,
    volume: &Path,
    path: &Path,
    paths: &mut Vec<&'a str>,
    errors: &mut Errors,
) {
    let mut kinds = 0;
    for key in
        ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
    {
        let Some(projection) = get(source, key) else { continue };
        kinds += 1;
        let path = path.child(key);
        match key {
            "secret" | "configMap" => {
                check::required_text(projection, "name", &path, errors);
                keys_to_paths(projection, &path, errors);
                let name = text(projection, "name");
                claim(projection, paths, |_| name, volume, errors);
            }
            "downwardAPI" => {
                downward_files(projection, &path, errors);
                claim(projection, paths, |path| path, volume, errors);
            }
            "serviceAccountToken" => token(projection, volume, &path, errors),
            _ => {
                let before = errors.len();
                projected_certificates::validate(key, projection, volume, &path, paths, errors);
                // What no component makes files of is refused, so that nothing is silently missing.
                if errors.len() == before {
                    errors.push(FieldError::forbidden(&path, "this projection is not supported"));
                }
            }
        }
    }
    if kinds > 1 {
        errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type per source"));
    }
}

/// Takes the paths of a projection's items; one that is taken is an error that shows `blame(path)`.
fn claim<'a>(
    projection: &'a Value,
    paths: &mut Vec<&'a str>,
    blame: impl Fn(&'a str) -> &'a str,
    volume: &Path,
    errors: &mut Errors,
) {
    let items = list(projection, "items").iter().map(|item| text(item, "path"));
    for path in items.filter(|path| !path.is_empty()) {
        claim_path(path, paths, blame(path), volume, errors);
    }
}

/// Takes one path.
pub(super) fn claim_path<'a>(
    path: &'a str,
    paths: &mut Vec<&'a str>,
    blame: &str,
    volume: &Path,
    errors: &mut Errors,
) {
    if paths.contains(&path) {
        errors.push(FieldError::invalid(volume, blame, "conflicting duplicate paths"));
    } else {
        paths.push(path);
    }
}

fn token(projection: &Value, volume: &Path, path: &Path, errors: &mut Errors) {
    let seconds = count(projection, "expirationSeconds");
    let expiration = path.child("expirationSeconds");
    if seconds < 600 {
        errors.push(FieldError::invalid(
            &expiration,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(&expiration, seconds, detail));
    }
    if check::required_text(projection, "path", volume, errors) {
        check::non_reserved_path(text(projection, "path"), &volume.child("path"), errors);
    }
}
