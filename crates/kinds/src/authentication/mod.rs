//! The kinds of the group authentication.k8s.io. An empty token is refused by the API server before a TokenReview is a question.

pub(crate) mod self_subject_review;
pub(crate) mod token_request;
pub(crate) mod token_review;

const GROUP: &str = "authentication.k8s.io";
