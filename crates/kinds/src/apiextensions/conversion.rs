//! How a definition converts between its versions.

use crate::check::Errors;
use crate::tree::{at, get, text, texts};
use crate::webhook_client;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const STRATEGIES: &[&str] = &["None", "Webhook"];

/// Whether the bundle of authorities in `spec.conversion` may be none: where what is kept has none either.
pub(super) fn has_broken_bundle(conversion: &Value) -> bool {
    let bundle = text(at(conversion, &["webhook", "clientConfig"]), "caBundle");
    !bundle.is_empty() && !webhook_client::is_bundle(bundle)
}

/// Checks `spec.conversion`. Paths are those of upstream's internal form. The bundle of authorities must be one if `sound_bundle`.
pub(super) fn check(conversion: &Value, sound_bundle: bool, path: &Path, errors: &mut Errors) {
    let strategy = text(conversion, "strategy");
    let client_path = path.child("webhookClientConfig");
    let reviews_path = path.child("conversionReviewVersions");
    if strategy.is_empty() {
        errors.push(FieldError::required(&path.child("strategy"), ""));
    } else if !STRATEGIES.contains(&strategy) {
        errors.push(FieldError::not_supported(&path.child("strategy"), strategy, STRATEGIES));
    }
    let webhook = get(conversion, "webhook");
    let client = webhook.and_then(|webhook| get(webhook, "clientConfig"));
    let reviews = webhook.map(|webhook| texts(webhook, "conversionReviewVersions")).unwrap_or_default();
    if strategy == "Webhook" {
        match client {
            Some(client) => {
                webhook_client::check(client, &client_path, errors);
                let bundle = text(client, "caBundle");
                if sound_bundle && !bundle.is_empty() {
                    webhook_client::ca_bundle(bundle, &client_path.child("caBundle"), errors);
                }
            }
            None => {
                errors.push(FieldError::required(&client_path, "required when strategy is set to Webhook"))
            }
        }
        if reviews.is_empty() {
            errors.push(FieldError::required(&reviews_path, ""));
        } else {
            webhook_client::review_versions(&reviews, true, &reviews_path, errors);
        }
        return;
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if client.is_some() {
        errors.push(FieldError::forbidden(&client_path, detail));
    }
    if !reviews.is_empty() {
        errors.push(FieldError::forbidden(&reviews_path, detail));
    }
}
