//! What a pod's status says of its containers: who they run as, and the devices that they were given.

use crate::check::{self, Errors};
use crate::tree::{get, list, number, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const HEALTH: &[&str] = &["Healthy", "Unhealthy", "Unknown"];
const MAX_MESSAGE_BYTES: usize = 1024;
/// The statuses of a pod, and the containers that they are of.
const GROUPS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", ""),
];

/// Checks the statuses of all containers of a pod.
pub(super) fn validate(pod: &Value, path: &Path, errors: &mut Errors) {
    let status = &pod["status"];
    let os = get(&pod["spec"], "os").map_or("linux", |os| text(os, "name"));
    for (key, _) in GROUPS {
        for (index, container) in list(status, key).iter().enumerate() {
            user(container, os, &path.child(key).index(index).children(&["user", "linux"]), errors);
        }
    }
    for (key, containers) in GROUPS {
        for (index, container) in list(status, key).iter().enumerate() {
            let path = path.child(key).index(index).child("allocatedResourcesStatus");
            if containers.is_empty() {
                // Ephemeral containers are given nothing.
                if !list(container, "allocatedResourcesStatus").is_empty() {
                    errors.push(FieldError::forbidden(&path, "must not be specified in container status"));
                }
                continue;
            }
            let name = text(container, "name");
            let own = list(&pod["spec"], containers).iter().find(|own| text(own, "name") == name);
            devices(container, own, &path, errors);
        }
    }
}

fn user(status: &Value, os: &str, path: &Path, errors: &mut Errors) {
    let Some(linux) = get(&status["user"], "linux") else { return };
    match os {
        "windows" => errors.push(FieldError::forbidden(path, "cannot be set for a windows pod")),
        "linux" => {
            check::id(number(linux, "uid"), &path.child("uid"), errors);
            check::id(number(linux, "gid"), &path.child("gid"), errors);
            for (index, group) in list(linux, "supplementalGroups").iter().enumerate() {
                check::id(group.as_i64(), &path.child("supplementalGroups").index(index), errors);
            }
        }
        _ => {}
    }
}

/// The health of what a container was given; `own` is the container, if there is one of the name.
fn devices(status: &Value, own: Option<&Value>, path: &Path, errors: &mut Errors) {
    for (index, given) in list(status, "allocatedResourcesStatus").iter().enumerate() {
        let path = path.index(index);
        let name = text(given, "name");
        if let Some(problem) = own.and_then(|own| unasked(name, &own["resources"])) {
            errors.push(FieldError::invalid(&path.child("name"), name, problem));
        }
        let mut ids = Vec::new();
        for (index, device) in list(given, "resources").iter().enumerate() {
            let path = path.child("resources").index(index);
            let health = text(device, "health");
            if !HEALTH.contains(&health) {
                errors.push(FieldError::not_supported(&path.child("health"), health, HEALTH));
            }
            message(device, &path.child("message"), errors);
            let id = text(device, "resourceID");
            if ids.contains(&id) {
                errors.push(FieldError::duplicate(&path.child("resourceID"), id));
            } else {
                ids.push(id);
            }
        }
    }
}

fn message(device: &Value, path: &Path, errors: &mut Errors) {
    match get(device, "message").and_then(Value::as_str) {
        Some("") => errors.push(FieldError::required(path, "must be non-empty if specified")),
        Some(message) if message.len() > MAX_MESSAGE_BYTES => {
            errors.push(FieldError::too_long(path, MAX_MESSAGE_BYTES));
        }
        _ => {}
    }
}

/// Why a resource is none that the container asks for.
fn unasked(name: &str, resources: &Value) -> Option<&'static str> {
    if name.starts_with("claim:") {
        let shown = |claim: &Value| match text(claim, "request") {
            "" => format!("claim:{}", text(claim, "name")),
            request => format!("claim:{}/{request}", text(claim, "name")),
        };
        let detail = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                      'claim:<claimName>' if request is empty";
        return (!list(resources, "claims").iter().any(|claim| shown(claim) == name)).then_some(detail);
    }
    let detail = "must match one of the container's resource requests";
    get(&resources["requests"], name).is_none().then_some(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn users_and_devices_are_checked() {
        let device = |id: &str, health: &str| json!({"resourceID": id, "health": health});
        let pod = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"},
                "claims": [{"name": "k", "request": "r"}]}}]},
            "status": {
                "containerStatuses": [{"name": "c", "user": {"linux": {"uid": -1, "gid": 0, "supplementalGroups": [-2]}},
                    "allocatedResourcesStatus": [
                        {"name": "example.com/gpu", "resources": [device("a", "Healthy"), device("a", "Ill")]},
                        {"name": "claim:k/r"}, {"name": "claim:k"}, {"name": "cpu"}]}],
                "ephemeralContainerStatuses": [{"name": "e", "allocatedResourcesStatus": [{"name": "x"}]}],
            },
        });
        let mut errors = Errors::new();
        validate(&pod, &Path::new("status"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let user = "status.containerStatuses[0].user.linux";
        let given = "status.containerStatuses[0].allocatedResourcesStatus";
        let range = "must be between 0 and 2147483647, inclusive";
        assert_eq!(
            texts,
            [
                format!("{user}.uid: Invalid value: -1: {range}"),
                format!("{user}.supplementalGroups[0]: Invalid value: -2: {range}"),
                format!("{given}[0].resources[1].health: Unsupported value: \"Ill\": supported values: \"Healthy\", \"Unhealthy\", \"Unknown\""),
                format!("{given}[0].resources[1].resourceID: Duplicate value: \"a\""),
                format!("{given}[2].name: Invalid value: \"claim:k\": must match one of the container's resource claims in a format \
                         'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"),
                format!("{given}[3].name: Invalid value: \"cpu\": must match one of the container's resource requests"),
                "status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in container status".to_owned(),
            ]
        );
    }
}
