//! Bodies of subresources, which are no kinds of their own: their defaults and their checks. What they do to an object is
//! the API server's task, but for [`crate::bind_pod`].

use crate::authentication::token_request;
use crate::check::{self, Errors};
use crate::core::pod;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Fills the defaults of a body: kind `TokenRequest`, `Scale`, `Binding`, `Eviction`, ...
pub fn default_body(kind: &str, body: &mut Value) {
    match kind {
        "TokenRequest" => token_request::set_defaults(body),
        "Scale" => {
            let spec = crate::tree::child(body, "spec");
            let replicas = crate::tree::count(spec, "replicas");
            crate::tree::set(spec, "replicas", replicas);
        }
        _ => {}
    }
}

/// Field errors of a body.
pub fn validate_body(kind: &str, body: &Value) -> Vec<FieldError> {
    match kind {
        "TokenRequest" => token_request::validate(body),
        "Binding" => pod::validate_binding(body),
        "Scale" => {
            let mut errors = Errors::new();
            check::nonnegative(&body["spec"], "replicas", &Path::new("spec"), &mut errors);
            errors
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(kind: &str, mut body: Value, expected: &[&str]) {
        default_body(kind, &mut body);
        let texts: Vec<_> = validate_body(kind, &body).iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn bodies_are_filled_and_checked() {
        check("TokenRequest", json!({}), &[]);
        check(
            "TokenRequest",
            json!({"spec": {"expirationSeconds": 5}}),
            &["spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"],
        );
        check(
            "Scale",
            json!({"spec": {"replicas": -1}}),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        );
        check("Binding", json!({"target": {"kind": "Node"}}), &["target.name: Required value"]);
        check("Eviction", json!({}), &[]);
    }
}
