//! What a pod's status says of its resource claims: which were made for it, and which requests stand for extended resources.

use crate::check::{self, Errors};
use crate::tree::{get, list, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// Checks the claims in the status of a pod.
pub(super) fn validate(pod: &Value, path: &Path, errors: &mut Errors) {
    made(pod, &path.child("resourceClaimStatuses"), errors);
    if let Some(status) = get(&pod["status"], "extendedResourceClaimStatus") {
        extended(status, &pod["spec"], &path.child("extendedResourceClaimStatus"), errors);
    }
}

fn made(pod: &Value, path: &Path, errors: &mut Errors) {
    let claims = list(&pod["spec"], "resourceClaims");
    let mut seen = Vec::new();
    for (index, status) in list(&pod["status"], "resourceClaimStatuses").iter().enumerate() {
        let path = path.index(index);
        let name = text(status, "name");
        if !claims.iter().any(|claim| text(claim, "name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path.child("name"), name, detail));
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        } else {
            seen.push(name);
        }
        check::name_if_present(status, "resourceClaimName", names::dns1123_subdomain, &path, errors);
    }
}

/// The claim whose requests give containers their extended resources.
fn extended(status: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    const KEYS: [&str; 3] = ["containerName", "resourceName", "requestName"];
    let mappings_path = path.child("requestMappings");
    let mappings = list(status, "requestMappings");
    if mappings.is_empty() {
        errors.push(FieldError::required(&mappings_path, "at least one request mapping is required"));
    }
    let mut seen = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let item = mappings_path.index(index);
        mapped(mapping, spec, &item, errors);
        // The path is upstream's.
        let request = text(mapping, "requestName");
        check::messages(names::dns1123_label(request), request, &path.child("requestName"), errors);
        let key = KEYS.map(|key| text(mapping, key));
        if seen.contains(&key) {
            errors.extend(
                KEYS.iter().zip(key).map(|(field, value)| FieldError::duplicate(&item.child(field), value)),
            );
        }
        seen.push(key);
    }
    if check::required_text(status, "resourceClaimName", path, errors) {
        check::name_if_set(status, "resourceClaimName", names::dns1123_subdomain, path, errors);
    }
}

fn mapped(mapping: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let (container, resource) = (text(mapping, "containerName"), text(mapping, "resourceName"));
    // Regular containers come after init ones of the same name.
    let mut all = ["containers", "initContainers"].iter().flat_map(|key| list(spec, key));
    match all.find(|own| text(own, "name") == container) {
        None => {
            let detail =
                "must match the name of an entry in spec.initContainers.name or spec.containers.name";
            errors.push(FieldError::invalid(&path.child("containerName"), container, detail));
        }
        Some(own) if get(&own["resources"]["requests"], resource).is_none() => {
            let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or \
                          spec.containers.resources.requests";
            errors.push(FieldError::invalid(&path.child("resourceName"), resource, detail));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_those_of_the_spec() {
        let mapping = json!({"containerName": "c", "resourceName": "example.com/gpu", "requestName": "r"});
        let pod = json!({
            "spec": {"resourceClaims": [{"name": "a"}],
                "containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]},
            "status": {
                "resourceClaimStatuses": [{"name": "a", "resourceClaimName": "x-a"}, {"name": "a"}, {"name": "b"}],
                "extendedResourceClaimStatus": {"requestMappings": [mapping, mapping,
                    {"containerName": "d", "resourceName": "x", "requestName": "R"}]},
            },
        });
        let mut errors = Errors::new();
        validate(&pod, &Path::new("status"), &mut errors);
        let texts: Vec<_> =
            errors.iter().map(|error| format!("{} {}", error.path, error.kind.cause_type())).collect();
        let at = "status.extendedResourceClaimStatus";
        assert_eq!(
            texts,
            [
                "status.resourceClaimStatuses[1].name FieldValueDuplicate".to_owned(),
                "status.resourceClaimStatuses[2].name FieldValueInvalid".to_owned(),
                format!("{at}.requestMappings[1].containerName FieldValueDuplicate"),
                format!("{at}.requestMappings[1].resourceName FieldValueDuplicate"),
                format!("{at}.requestMappings[1].requestName FieldValueDuplicate"),
                format!("{at}.requestMappings[2].containerName FieldValueInvalid"),
                format!("{at}.requestName FieldValueInvalid"),
                format!("{at}.resourceClaimName FieldValueRequired"),
            ]
        );
    }
}
