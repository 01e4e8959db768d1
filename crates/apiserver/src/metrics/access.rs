//! What is counted of authentication and authorization.

use crate::authz::Decision;
use crate::request::UserInfo;
use nauplius_base::metrics::{About, Counter, Histogram, OfProcess};
use nauplius_base::time::Instant;

/// Upstream's, from 1 ms to 16 s.
const SECONDS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
/// Upstream's, from half an hour to a year.
const VALIDITY_SECONDS: &[f64] = &[
    0.0, 1.8e3, 3.6e3, 7.2e3, 2.16e4, 4.32e4, 8.64e4, 1.728e5, 3.456e5, 6.048e5, 2.592e6, 7.776e6, 1.5552e7,
    3.1104e7,
];

const fn about(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> About {
    About { name, help, labels, bounds: SECONDS }
}

static USERS: OfProcess<Counter> = OfProcess::new(about(
    "authenticated_user_requests",
    "Counter of authenticated requests broken out by username.",
    &["username"],
));
static AUTHENTICATIONS: OfProcess<Counter> =
    OfProcess::new(about("authentication_attempts", "Counter of authenticated attempts.", &["result"]));
static AUTHENTICATION: OfProcess<Histogram> = OfProcess::new(about(
    "authentication_duration_seconds",
    "Authentication duration in seconds broken out by result.",
    &["result"],
));
static AUTHORIZATIONS: OfProcess<Counter> = OfProcess::new(about(
    "authorization_attempts_total",
    "Counter of authorization attempts broken down by result.",
    &["result"],
));
static AUTHORIZATION: OfProcess<Histogram> = OfProcess::new(about(
    "authorization_duration_seconds",
    "Authorization duration in seconds broken out by result.",
    &["result"],
));
static EXPIRATION: OfProcess<Histogram> = OfProcess::new(About {
    name: "apiserver_client_certificate_expiration_seconds",
    help: "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
    labels: &[],
    bounds: VALIDITY_SECONDS,
});

/// Names are not told: those that upstream tells, kinds of the others.
fn shown(name: &str) -> &str {
    match name {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => name,
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}

/// Counts one authentication; `failed` says how it did.
pub(crate) fn authenticated(outcome: Result<&UserInfo, &str>, start: Instant) {
    let result = match outcome {
        Ok(user) => {
            USERS.with(&[shown(&user.name)]).increment();
            "success"
        }
        Err(failed) => failed,
    };
    AUTHENTICATIONS.with(&[result]).increment();
    AUTHENTICATION.with(&[result]).observe_since(start);
}

/// Counts one authorization.
pub(crate) fn authorized(decision: Decision, start: Instant) {
    let result = match decision {
        Decision::Allow => "allowed",
        Decision::Deny => "denied",
        Decision::NoOpinion => "no-opinion",
    };
    AUTHORIZATIONS.with(&[result]).increment();
    AUTHORIZATION.with(&[result]).observe_since(start);
}

/// Counts a client certificate that was accepted, by the seconds that it has left.
pub(crate) fn certificate(left_s: i64) {
    EXPIRATION.with(&[]).observe(left_s as f64);
}
