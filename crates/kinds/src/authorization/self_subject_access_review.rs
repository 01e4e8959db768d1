//! SelfSubjectAccessReview: may I?

use super::{GROUP, spec};
use crate::check::Errors;
use crate::describe::describe;
use crate::review::Review;

pub(crate) fn kind() -> Review {
    let descriptor = describe(GROUP, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews");
    Review {
        descriptor: descriptor.cluster_scoped().create_only().done(),
        validate: |review| {
            let mut errors = Errors::new();
            spec::attributes(&review["spec"], &mut errors);
            errors
        },
    }
}
