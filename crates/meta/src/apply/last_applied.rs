//! The annotation in which client-side apply remembers what it applied. It must not know ownership.
use serde_json::Value;

use crate::metadata::ANNOTATIONS_MAX_BYTES;
use crate::object;

/// Its name.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What was applied last, if anything.
pub(super) fn of(object: &Value) -> Option<&str> {
    object::annotation(object, LAST_APPLIED).filter(|text| !text.is_empty())
}

/// The annotation of a configuration.
pub(super) fn build(config: &Value) -> String {
    let mut config = config.clone();
    object::remove(&mut config, &["metadata", "annotations", LAST_APPLIED]);
    // As Go's encoder writes it for people who paste JSON into HTML, and with its newline.
    let text = config.to_string();
    let mut out = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out.push('\n');
    out
}

/// Writes the annotation, or removes it where all annotations together would be too large.
pub(super) fn set(object: &mut Value, text: &str) {
    object::set_annotation(object, LAST_APPLIED, text);
    let bytes: usize = object::annotations(object)
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > ANNOTATIONS_MAX_BYTES {
        object::remove(object, &["metadata", "annotations", LAST_APPLIED]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_annotation_is_the_configuration_without_itself() {
        let config = json!({"kind": "X", "metadata": {"annotations": {LAST_APPLIED: "old", "a": "<&>"}}});
        assert_eq!(
            build(&config),
            "{\"kind\":\"X\",\"metadata\":{\"annotations\":{\"a\":\"\\u003c\\u0026\\u003e\"}}}\n"
        );
    }

    #[test]
    fn an_annotation_that_is_too_large_goes() {
        let mut object = json!({"metadata": {"annotations": {LAST_APPLIED: "old"}}});
        set(&mut object, "new");
        assert_eq!(of(&object), Some("new"));
        set(&mut object, &"x".repeat(ANNOTATIONS_MAX_BYTES));
        assert_eq!(of(&object), None);
    }
}
