//! What templates of pod groups and pod groups themselves have in common. Upstream's rules for them look only at what an update
//! changed, so each check here is given the old value where there is one.

use crate::check::{self, Errors, messages};
use crate::tree::{self, count, get, number, remove, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

pub(super) const GROUP: &str = "scheduling.k8s.io";
/// The highest priority that a user may give.
const MAX_PRIORITY: i64 = 1_000_000_000;
const NOT_SET_LATER: &str = "field cannot be set once created";
const NOT_CLEARED: &str = "field cannot be cleared once set";

/// Fields behind gates that are off by default: `TopologyAwareWorkloadScheduling`, `DRAWorkloadResourceClaims` and
/// `PodGroupPreemptionPolicy`.
const GATED: &[&str] = &["schedulingConstraints", "resourceClaims", "preemptionPolicy"];

/// Drops what upstream drops while its gates are off.
pub(super) fn drop_gated(group: &mut Value, old: Option<&Value>, more: &[&str]) {
    for key in GATED.iter().chain(more) {
        if old.is_none_or(|old| get(old, key).is_none()) {
            remove(group, key);
        }
    }
}

/// Whether a field of `new` is what it was. Empty objects say something here: they choose one of several ways.
fn is_kept(new: &Value, old: &Value, key: &str) -> bool {
    get(new, key) == get(old, key)
}

/// Adds an error if the field was another before. Says whether there is more to check.
pub(super) fn immutable(
    new: &Value,
    old: Option<&Value>,
    key: &str,
    path: &Path,
    errors: &mut Errors,
) -> bool {
    if old.is_some_and(|old| !is_kept(new, old, key)) {
        let value = new.get(key).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child(key), value, check::IMMUTABLE));
    }
    old.is_none()
}

/// Checks that exactly one of the members is there, unless an update left it as it was.
pub(super) fn union(new: &Value, old: Option<&Value>, members: [&str; 2], path: &Path, errors: &mut Errors) {
    let is_set = |object: &Value, key: &str| get(object, key).is_some() && !tree::is_unset(object, key);
    let set: Vec<_> = members.into_iter().filter(|key| is_set(new, key)).collect();
    if old.is_some_and(|old| members.iter().all(|key| is_set(old, key) == set.contains(key))) {
        return;
    }
    let all = format!("`{}`, `{}`", members[0], members[1]);
    match set.len() {
        0 => errors.push(FieldError::invalid(path, "", format!("must specify one of: {all}"))),
        1 => {}
        _ => {
            let detail = format!("must specify exactly one of: {all}");
            errors.push(FieldError::invalid(path, format!("{{{}}}", set.join(", ")), detail));
        }
    }
}

/// Checks `schedulingPolicy`: a group stays of the sort that it was made as, and only the size of a gang may change.
pub(super) fn policy(new: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let path = path.child("schedulingPolicy");
    let (new, old) = (&new["schedulingPolicy"], old.map(|old| &old["schedulingPolicy"]));
    union(new, old, ["basic", "gang"], &path, errors);
    immutable(new, old, "basic", &path, errors);
    gang(new, old, &path.child("gang"), errors);
}

fn gang(new: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let before = old.and_then(|old| get(old, "gang"));
    let Some(gang) = get(new, "gang") else {
        if before.is_some() {
            errors.push(FieldError::invalid(path, Value::Null, NOT_CLEARED));
        }
        return;
    };
    if old.is_some() && before.is_none() {
        errors.push(FieldError::invalid(path, Value::Null, NOT_SET_LATER));
        return;
    }
    let path = path.child("minCount");
    match count(gang, "minCount") {
        size if before.is_some_and(|before| count(before, "minCount") == size) => {}
        0 => errors.push(FieldError::required(&path, "")),
        size if size < 1 => {
            errors.push(FieldError::invalid(&path, size, "must be greater than or equal to 1"));
        }
        _ => {}
    }
}

/// Checks how a group is disrupted and how important it is.
pub(super) fn disruption_and_priority(new: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    if immutable(new, old, "disruptionMode", path, errors)
        && let Some(mode) = get(new, "disruptionMode")
    {
        union(mode, None, ["single", "all"], &path.child("disruptionMode"), errors);
    }
    if immutable(new, old, "priorityClassName", path, errors) {
        check::name_if_set(new, "priorityClassName", names::dns1123_subdomain, path, errors);
    }
    if immutable(new, old, "priority", path, errors)
        && let Some(priority) = number(new, "priority").filter(|priority| *priority > MAX_PRIORITY)
    {
        let detail = format!("must be less than or equal to {MAX_PRIORITY}");
        errors.push(FieldError::invalid(&path.child("priority"), priority, detail));
    }
}

/// A name that must be there and keep to a rule.
pub(super) fn required_name(
    object: &Value,
    key: &str,
    rule: fn(&str) -> Vec<String>,
    path: &Path,
    errors: &mut Errors,
) {
    if check::required_text(object, key, path, errors) {
        messages(rule(text(object, key)), text(object, key), &path.child(key), errors);
    }
}
