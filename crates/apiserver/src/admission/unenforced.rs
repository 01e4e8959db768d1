//! Kinds on whose objects nothing acts yet and whose silence would be a lie about safety: who writes one is told so, or refused.
//! This is the one place that says which; a line goes when the component that acts on its kind comes.

use super::{Operation, Review, Validate};
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use serde_json::Value;

/// What a writer is told.
enum Answer {
    /// The object is kept, with this warning.
    Warned(&'static str),
    /// The object is refused, for this reason.
    Refused(&'static str),
    /// Objects of which that is true are refused, for this reason.
    RefusedIf(fn(&Value) -> bool, &'static str),
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const NO_WEBHOOKS: Answer =
    Answer::Refused("admission webhooks are not called yet, so a configuration of them is not kept");
const NO_POLICIES: Answer = Answer::Refused("admission policies are not enforced yet, so they are not kept");

/// Whether an APIService leads to another server.
fn is_remote(service: &Value) -> bool {
    service["spec"].get("service").is_some_and(|service| !service.is_null())
}

/// Group and resource, and the answer.
const RULES: &[(&str, &str, Answer)] = &[
    (
        "networking.k8s.io",
        "networkpolicies",
        Answer::Warned(
            "network policies are not enforced yet: the pods that this one selects can be reached as before",
        ),
    ),
    (
        "",
        "resourcequotas",
        Answer::Warned("resource quotas are not enforced yet: the namespace can use more than this one says"),
    ),
    (
        "",
        "replicationcontrollers",
        Answer::Warned("nothing acts on replication controllers yet: this one makes no pods"),
    ),
    ("apps", "daemonsets", Answer::Warned("nothing acts on daemon sets yet: this one makes no pods")),
    ("apps", "statefulsets", Answer::Warned("nothing acts on stateful sets yet: this one makes no pods")),
    ("batch", "jobs", Answer::Warned("nothing acts on jobs yet: this one makes no pods")),
    ("batch", "cronjobs", Answer::Warned("nothing acts on cron jobs yet: this one makes no jobs")),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        Answer::Warned("nothing acts on autoscalers yet: the number of pods stays as it is"),
    ),
    (
        "",
        "persistentvolumeclaims",
        Answer::Warned("nothing acts on claims yet: no volume is made for or bound to this one"),
    ),
    (
        "networking.k8s.io",
        "ingresses",
        Answer::Warned("nothing acts on ingresses yet: this one leads no traffic anywhere"),
    ),
    (ADMISSION, "mutatingwebhookconfigurations", NO_WEBHOOKS),
    (ADMISSION, "validatingwebhookconfigurations", NO_WEBHOOKS),
    (ADMISSION, "mutatingadmissionpolicies", NO_POLICIES),
    (ADMISSION, "mutatingadmissionpolicybindings", NO_POLICIES),
    (ADMISSION, "validatingadmissionpolicies", NO_POLICIES),
    (ADMISSION, "validatingadmissionpolicybindings", NO_POLICIES),
    (
        "apiregistration.k8s.io",
        "apiservices",
        Answer::RefusedIf(
            is_remote,
            "requests are not handed on to other API servers yet, so an APIService with a service is not kept",
        ),
    ),
];

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unenforced;

fn answer(review: &Review<'_>, object: Option<&Value>) -> ApiResult<()> {
    let is_write = matches!(review.operation, Operation::Create | Operation::Update);
    let rule = RULES.iter().find(|(group, resource, _)| review.is_for(group, resource));
    match rule.filter(|_| is_write) {
        Some((_, _, Answer::Warned(words))) => {
            review.warnings.add(*words);
            Ok(())
        }
        Some((_, _, Answer::Refused(words))) => Err(ApiError::NotImplemented((*words).to_owned())),
        Some((_, _, Answer::RefusedIf(is_so, words))) if object.is_some_and(is_so) => {
            Err(ApiError::NotImplemented((*words).to_owned()))
        }
        Some((_, _, Answer::RefusedIf(..))) | None => Ok(()),
    }
}

impl Validate for Unenforced {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(std::future::ready(answer(review, object)))
    }
}
