//! Names and amounts of resources (`cpu`, `memory`, `hugepages-2Mi`, `example.com/gpu`): which may stand where, and the
//! checks of requests against limits. It knows nothing of nodes.

use crate::check::{Errors, messages};
use crate::tree::{each, entries, get, list, set, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use nauplius_meta::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeSet;

const STANDARD_CONTAINER: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const POD_LEVEL: &[&str] = &["cpu", "memory"];
const INTEGER: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const QUOTA_COMPUTE: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
const NEGATIVE: &str = "must be greater than or equal to 0";

/// The quantity in a field that the schema has checked.
pub(crate) fn quantity(value: &Value) -> Quantity {
    // The schema refuses what is no quantity before any strategy sees it.
    Quantity::from_value(value).unwrap_or_else(|_| Quantity::zero(nauplius_meta::quantity::Format::DecimalSI))
}

/// A page larger than usual, by its size.
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_page(name: &str) -> bool {
    is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// A resource of Kubernetes itself, not of a vendor.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of a vendor.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether limits may exceed requests.
pub(crate) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A resource that a quota knows without a domain.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    QUOTA_COMPUTE.contains(&name) || INTEGER.contains(&name) || is_quota_huge_page(name)
}

/// A resource name of any use.
pub(crate) fn check_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.len();
    messages(names::qualified_name(name), name, path, errors);
    if errors.len() == before && !name.contains('/') && !is_standard_quota(name) && name != "storage" {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    errors.len() == before
}

/// A resource that a container may ask for.
pub(crate) fn check_container_name(name: &str, path: &Path, errors: &mut Errors) {
    check_name(name, path, errors);
    if !name.contains('/') {
        if !STANDARD_CONTAINER.contains(&name) && !is_huge_page(name) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// A resource that a pod as a whole may ask for.
fn check_pod_name(name: &str, path: &Path, errors: &mut Errors) {
    if check_name(name, path, errors) && !POD_LEVEL.contains(&name) && !is_huge_page(name) {
        errors.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// A resource that a quota may limit.
pub(crate) fn check_quota_name(name: &str, path: &Path, errors: &mut Errors) {
    check_name(name, path, errors);
    if !name.contains('/') && !is_standard_quota(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for quota"));
    }
}

/// An amount of a resource: not negative, and whole where only whole ones exist.
pub(crate) fn check_amount(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    let amount = quantity(value);
    if amount.sign() < 0 {
        errors.push(FieldError::invalid(path, amount.canonical(), NEGATIVE));
    }
    if (INTEGER.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(path, amount.canonical(), "must be an integer"));
    }
}

/// An amount of a size that a huge page resource comes in.
fn check_huge_page(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    let amount = quantity(value);
    let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    let size = size.filter(|size| size.sign() > 0 && size.milli_value() % 1000 == 0);
    if size.is_none_or(|size| amount.nano_value() % size.nano_value() != 0) {
        let detail = format!("{} is not positive integer multiple of {name}", amount.canonical());
        errors.push(FieldError::invalid(path, amount.canonical(), detail));
    }
}

/// Which names a set of requirements may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Container,
    Pod,
}

/// `limits`, `requests` and `claims`.
pub(crate) fn check_requirements(
    requirements: &Value,
    scope: Scope,
    claims: &[&str],
    path: &Path,
    errors: &mut Errors,
) {
    let check_name = if scope == Scope::Pod { check_pod_name } else { check_container_name };
    for field in ["limits", "requests"] {
        for (name, value) in entries(requirements, field) {
            let item = path.child(field).key(name);
            check_name(name, &item, errors);
            check_amount(name, value, &item, errors);
            if field == "requests" {
                check_against_limit(requirements, name, value, path, errors);
            }
            if is_huge_page(name) {
                check_huge_page(name, value, &item, errors);
            }
        }
    }
    let all = entries(requirements, "limits").chain(entries(requirements, "requests"));
    let all: Vec<_> = all.map(|(name, _)| name).collect();
    let has_compute = all.iter().any(|name| POD_LEVEL.contains(name));
    if !has_compute && all.into_iter().any(is_huge_page) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    check_claims(requirements, claims, &path.child("claims"), errors);
}

fn check_against_limit(requirements: &Value, name: &str, request: &Value, path: &Path, errors: &mut Errors) {
    let Some(limit) = get(&requirements["limits"], name) else {
        if !is_overcommit_allowed(name) {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(&path.child("limits"), detail));
        }
        return;
    };
    let (request, limit) = (quantity(request), quantity(limit));
    let path = path.child("requests");
    if request != limit && !is_overcommit_allowed(name) {
        let detail = format!("must be equal to {name} limit of {}", limit.canonical());
        errors.push(FieldError::invalid(&path, request.canonical(), detail));
    } else if request > limit {
        let detail = format!("must be less than or equal to {name} limit of {}", limit.canonical());
        errors.push(FieldError::invalid(&path, request.canonical(), detail));
    }
}

fn check_claims(requirements: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, claim) in list(requirements, "claims").iter().enumerate() {
        let path = path.index(index);
        let name = text(claim, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        check_claim(name, text(claim, "request"), &mut seen, &path, errors);
        if !known.contains(&name) {
            let mut error = FieldError::not_found(&path, name);
            let names = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(
                    ": {}",
                    BTreeSet::from_iter(known.iter().copied()).into_iter().collect::<Vec<_>>().join(", ")
                )
            };
            error.detail = format!("must be one of the names in pod.spec.resourceClaims{names}");
            errors.push(error);
        }
    }
}

/// A claim is named once as a whole, or once for each of its requests.
fn check_claim<'a>(
    name: &'a str,
    request: &'a str,
    seen: &mut Vec<(&'a str, &'a str)>,
    path: &Path,
    errors: &mut Errors,
) {
    if seen.contains(&(name, "")) {
        errors.push(FieldError::duplicate(path, name));
        return;
    }
    if request.is_empty() {
        for _ in seen.iter().filter(|(other, _)| *other == name) {
            errors.push(FieldError::duplicate(path, name));
        }
    } else {
        messages(names::dns1123_label(request), request, &path.child("request"), errors);
        if seen.contains(&(name, request)) {
            errors.push(FieldError::duplicate(path, format!("{name}/{request}")));
            return;
        }
    }
    seen.push((name, request));
}

/// Writes each quantity of a resource list in its canonical form, rounded up to thousandths.
pub(crate) fn canonicalize(object: &mut Value, key: &str) {
    with(object, key, |list| {
        let names: Vec<_> = list.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            let mut amount = quantity(&list[&name]);
            amount.round_up_to_milli();
            set(list, &name, amount.canonical());
        }
    });
}

/// Writes one quantity in its canonical form, if it is there.
pub(crate) fn canonicalize_value(object: &mut Value, key: &str) {
    with(object, key, |value| *value = quantity(value).canonical().into());
}

/// Canonical limits and requests of each container in a list.
pub(crate) fn canonicalize_requirements(object: &mut Value) {
    with(object, "resources", |resources| {
        canonicalize(resources, "limits");
        canonicalize(resources, "requests");
    });
}

/// Requests that are not given are the limits, in each container of a list.
pub(crate) fn default_requests(spec: &mut Value, containers: &str) {
    each(spec, containers, |container| {
        with(container, "resources", |resources| {
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
            let requests = crate::tree::child(resources, "requests");
            for (name, limit) in limits {
                crate::tree::default(requests, &name, limit);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(requirements: Value, expected: &[&str]) {
        let mut errors = Errors::new();
        check_requirements(&requirements, Scope::Container, &[], &Path::new("resources"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn requests_fit_their_limits() {
        check(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}}), &[]);
        check(
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}),
            &["resources.requests: Invalid value: \"1500m\": must be less than or equal to cpu limit of 1"],
        );
        check(
            json!({"requests": {"example.com/gpu": "1"}}),
            &["resources.limits: Required value: Limit must be set for non overcommitable resources"],
        );
        check(
            json!({"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}),
            &["resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2"],
        );
    }

    #[test]
    fn names_and_amounts_are_checked() {
        check(
            json!({"limits": {"disk": "1"}}),
            &[
                "resources.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                "resources.limits[disk]: Invalid value: \"disk\": must be a standard resource for containers",
            ],
        );
        check(
            json!({"limits": {"memory": "-1"}}),
            &["resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0"],
        );
        check(
            json!({"limits": {"example.com/gpu": "500m"}}),
            &["resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer"],
        );
        check(
            json!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}),
            &[
                "resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        );
        check(
            json!({"limits": {"hugepages-2Mi": "4Mi"}}),
            &["resources: Forbidden: HugePages require cpu or memory"],
        );
    }

    #[test]
    fn quantities_become_canonical() {
        let mut container =
            json!({"resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": 1}}});
        canonicalize_requirements(&mut container);
        let expected = json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "1"}});
        assert_eq!(container["resources"], expected);
    }
}
