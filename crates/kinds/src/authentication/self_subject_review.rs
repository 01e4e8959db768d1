//! SelfSubjectReview: who am I?

use super::GROUP;
use crate::describe::describe;
use crate::review::Review;

pub(crate) fn kind() -> Review {
    let descriptor = describe(GROUP, "v1", "SelfSubjectReview", "selfsubjectreviews");
    Review { descriptor: descriptor.cluster_scoped().create_only().done(), validate: |_| Vec::new() }
}
