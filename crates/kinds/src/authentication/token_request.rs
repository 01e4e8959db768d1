//! TokenRequest: the body of a service account's `token` subresource.

use crate::check::Errors;
use crate::tree::{child, count, default};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const HOUR_S: i64 = 3600;
const MIN_S: i64 = 600;
const MAX_S: i64 = 1 << 32;

pub(crate) fn set_defaults(request: &mut Value) {
    default(child(request, "spec"), "expirationSeconds", HOUR_S);
}

pub(crate) fn validate(request: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let seconds = count(&request["spec"], "expirationSeconds");
    let path = Path::new("spec").child("expirationSeconds");
    if seconds < MIN_S {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_S {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    errors
}
