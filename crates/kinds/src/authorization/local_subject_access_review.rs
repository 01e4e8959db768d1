//! LocalSubjectAccessReview: may they, in this namespace?

use super::{GROUP, spec};
use crate::check::Errors;
use crate::describe::describe;
use crate::review::Review;
use crate::tree::{get, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) fn kind() -> Review {
    let descriptor = describe(GROUP, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews");
    Review { descriptor: descriptor.create_only().done(), validate }
}

fn validate(review: &Value) -> Errors {
    let mut errors = Errors::new();
    let (asked, path) = (&review["spec"], Path::new("spec"));
    spec::attributes(asked, &mut errors);
    spec::subject(asked, &mut errors);
    if let Some(resource) = get(asked, "resourceAttributes") {
        let namespace = text(resource, "namespace");
        if namespace != text(&review["metadata"], "namespace") {
            let path = path.child("resourceAttributes").child("namespace");
            errors.push(FieldError::invalid(&path, namespace, "must match metadata.namespace"));
        }
    }
    if let Some(other) = get(asked, "nonResourceAttributes") {
        let path = path.child("nonResourceAttributes");
        errors.push(FieldError::invalid(&path, other.clone(), "disallowed on this kind of request"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::creation;
    use serde_json::json;

    #[test]
    fn the_namespace_is_one() {
        let review = |namespace: &str| {
            json!({"metadata": {"namespace": "a"}, "spec": {"user": "u",
            "resourceAttributes": {"verb": "get", "namespace": namespace}}})
        };
        creation(&kind(), review("a"), &[]);
        creation(
            &kind(),
            review("b"),
            &["spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace"],
        );
    }
}
