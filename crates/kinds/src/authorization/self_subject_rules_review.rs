//! SelfSubjectRulesReview: what may I here? A question without a namespace is refused by the API server.

use super::GROUP;
use crate::describe::describe;
use crate::review::Review;

pub(crate) fn kind() -> Review {
    let descriptor = describe(GROUP, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews");
    Review { descriptor: descriptor.cluster_scoped().create_only().done(), validate: |_| Vec::new() }
}
