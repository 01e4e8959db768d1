//! Label selectors as they stand in objects (`matchLabels` and `matchExpressions`): checking, matching, printing. It knows
//! nothing of the selectors in queries.

use crate::check::{self, Errors, messages};
use crate::table::NONE;
use crate::tree::{entries, get, list, size, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// Whether it selects everything, as it has no requirement.
pub(crate) fn is_empty(selector: &Value) -> bool {
    size(selector, "matchLabels") == 0 && list(selector, "matchExpressions").is_empty()
}

/// Checks a selector.
pub(crate) fn validate(selector: &Value, path: &Path, errors: &mut Errors) {
    check::labels(selector, "matchLabels", path, errors);
    let path = path.child("matchExpressions");
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        requirement(expression, &path.index(index), errors);
    }
}

fn requirement(expression: &Value, path: &Path, errors: &mut Errors) {
    let values = texts(expression, "values");
    let values_path = path.child("values");
    match text(expression, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&values_path, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&values_path, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
    check::label_name(text(expression, "key"), &path.child("key"), errors);
    for (index, value) in values.iter().enumerate() {
        messages(names::label_value(value), value, &values_path.index(index), errors);
    }
}

/// Whether the labels satisfy every requirement.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    entries(selector, "matchLabels").all(|(key, value)| labels.get(key) == Some(value))
        && list(selector, "matchExpressions").iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Value) -> bool {
    let value = get(labels, text(expression, "key")).and_then(Value::as_str);
    let among = || value.is_some_and(|value| texts(expression, "values").contains(&value));
    match text(expression, "operator") {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The selector as one line, in the order of keys: `a=b,c in (x,y),!d`; empty if it has no requirement.
pub(crate) fn format(selector: &Value) -> String {
    let equal = entries(selector, "matchLabels")
        .map(|(key, value)| (key, format!("{key}={}", value.as_str().unwrap_or_default())));
    let expressions = list(selector, "matchExpressions");
    let expressions =
        expressions.iter().map(|expression| (text(expression, "key"), format_expression(expression)));
    let mut requirements: Vec<_> = equal.chain(expressions).collect();
    requirements.sort_by(|left, right| left.0.cmp(right.0));
    requirements.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

fn format_expression(expression: &Value) -> String {
    let key = text(expression, "key");
    let mut values = texts(expression, "values");
    values.sort_unstable();
    let values = values.join(",");
    match text(expression, "operator") {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}

/// The selector for a table cell: `<none>` if it has no requirement.
pub(crate) fn cell(selector: &Value) -> Value {
    let line = format(selector);
    if line.is_empty() { NONE.into() } else { line.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selector() -> Value {
        json!({"matchLabels": {"z": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["y", "x"]},
            {"key": "c", "operator": "DoesNotExist"},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "NotIn", "values": ["q"]},
        ]})
    }

    #[test]
    fn it_prints_in_the_order_of_keys() {
        assert_eq!(format(&selector()), "b in (x,y),!c,d,e notin (q),z=1");
        assert_eq!(cell(&json!({})), json!("<none>"));
    }

    #[test]
    fn every_requirement_must_hold() {
        let check = |labels: Value, expected| assert_eq!(matches(&selector(), &labels), expected, "{labels}");
        check(json!({"z": "1", "b": "x", "d": ""}), true);
        check(json!({"z": "2", "b": "x", "d": ""}), false);
        check(json!({"z": "1", "b": "x", "d": "", "c": "1"}), false);
        check(json!({"z": "1", "b": "x", "d": "", "e": "q"}), false);
        check(json!({"z": "1", "b": "w", "d": ""}), false);
    }

    #[test]
    fn mistakes_are_named() {
        let mut errors = Vec::new();
        let selector =
            json!({"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Like"}]});
        validate(&selector, &Path::new("spec.selector"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.selector.matchExpressions[1].operator: Invalid value: \"Like\": not a valid selector operator",
            ]
        );
    }
}
