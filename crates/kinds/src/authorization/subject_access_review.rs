//! SubjectAccessReview: may they?

use super::{GROUP, spec};
use crate::check::Errors;
use crate::describe::describe;
use crate::review::Review;

pub(crate) fn kind() -> Review {
    let descriptor = describe(GROUP, "v1", "SubjectAccessReview", "subjectaccessreviews");
    Review {
        descriptor: descriptor.cluster_scoped().create_only().done(),
        validate: |review| {
            let mut errors = Errors::new();
            spec::attributes(&review["spec"], &mut errors);
            spec::subject(&review["spec"], &mut errors);
            errors
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::creation;
    use serde_json::json;

    #[test]
    fn someone_and_something_is_asked_about() {
        creation(
            &kind(),
            json!({"spec": {}}),
            &[
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must \
             be specified",
                "spec.user: Invalid value: \"\": at least one of user or group must be specified",
            ],
        );
        creation(&kind(), json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get"}}}), &[]);
    }
}
