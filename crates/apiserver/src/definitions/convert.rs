//! How objects change between the versions of a definition: only in name, or by asking a webhook. What a webhook answers is checked:
//! of metadata it may change labels and annotations only.

use crate::error::ApiResult;
use crate::registry::form::Convert;
use crate::server::ApiServer;
use crate::webhook::{CallError, Webhook};
use futures_util::future::BoxFuture;
use nauplius_base::id;
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::field::quote;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::object;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a webhook may take; upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects of one review.
const MAX_OBJECTS: usize = 100;

/// A webhook's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("its conversion webhook cannot be called: {0}")]
pub(super) struct BadClient(#[from] CallError);

/// Converts objects of one definition.
pub(super) enum Converter {
    /// The versions differ in name only.
    Name,
    /// A webhook knows.
    Webhook {
        /// How to reach it.
        webhook: Box<Webhook>,
        /// The version of reviews that it is sent.
        review: &'static str,
    },
}

impl Converter {
    /// The converter that a definition asks for.
    pub(super) fn of(server: &Arc<ApiServer>, definition: &Value) -> Result<Arc<Self>, BadClient> {
        let conversion = &definition["spec"]["conversion"];
        if conversion["strategy"] != "Webhook" {
            return Ok(Arc::new(Self::Name));
        }
        let webhook = &conversion["webhook"];
        let config = &webhook["clientConfig"];
        let called = Webhook::of(config, server.caches(), &server.config.backends, TIMEOUT)?;
        let understood = object::get_array(webhook, &["conversionReviewVersions"]).iter();
        // Validation has seen one of the two.
        let review = understood
            .filter_map(|version| ["v1", "v1beta1"].into_iter().find(|known| version == known))
            .next();
        let webhook = Box::new(called);
        Ok(Arc::new(Self::Webhook { webhook, review: review.unwrap_or("v1") }))
    }

    pub(super) fn is_webhook(&self) -> bool {
        matches!(self, Self::Webhook { .. })
    }
}

impl Convert for Converter {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        api_version: &'a str,
    ) -> BoxFuture<'a, ApiResult<Vec<Value>>> {
        Box::pin(async move {
            let Self::Webhook { webhook, review } = self else {
                objects.iter_mut().for_each(|object| object["apiVersion"] = api_version.into());
                return Ok(objects);
            };
            for chunk in objects.chunks_mut(MAX_OBJECTS) {
                convert_by(webhook, review, chunk, api_version).await.map_err(|message| {
                    // Upstream answers this as an error of its own.
                    ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message)))
                })?;
            }
            Ok(objects)
        })
    }
}

/// Converts those of the objects that are in another version.
async fn convert_by(
    webhook: &Webhook,
    review: &str,
    objects: &mut [Value],
    api_version: &str,
) -> Result<(), String> {
    let open: Vec<usize> =
        (0..objects.len()).filter(|index| objects[*index]["apiVersion"] != api_version).collect();
    let Some(first) = open.first() else { return Ok(()) };
    let about = GroupVersionKind::of(&objects[*first]).map(|gvk| {
        let group_version = gvk.api_version();
        format!("{group_version}, Kind={}", gvk.kind)
    });
    let about = format!("conversion webhook for {}", about.unwrap_or_default());
    let uid = id::uuid();
    let sent: Vec<&Value> = open.iter().map(|index| &objects[*index]).collect();
    let request = json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{review}"),
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": sent},
    });
    let failed = |reason: String| format!("{about} failed: {reason}");
    let answer = webhook.call(&request).await.map_err(|error| failed(error.to_string()))?;
    let converted = converted(&answer, review, &uid).map_err(failed)?;
    if converted.len() != open.len() {
        return Err(format!("{about} returned {} objects, expected {}", converted.len(), open.len()));
    }
    let single = objects.len() == 1;
    for (place, (index, converted)) in open.into_iter().zip(converted).enumerate() {
        let told = if single { "object".to_owned() } else { format!("converted object at index {place}") };
        let checked = check(&objects[index], converted, api_version);
        objects[index] = checked.map_err(|reason| format!("{about} returned invalid {told}: {reason}"))?;
    }
    Ok(())
}

/// The objects of an answer.
fn converted(answer: &Value, review: &str, uid: &str) -> Result<Vec<Value>, String> {
    let wanted = format!("apiextensions.k8s.io/{review}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if review == "v1" && (answer["kind"] != "ConversionReview" || answer["apiVersion"] != wanted.as_str()) {
        let got = (text(&answer["apiVersion"]), text(&answer["kind"]));
        return Err(format!(
            "expected webhook response of {wanted}, Kind=ConversionReview, got {}, Kind={}",
            got.0, got.1
        ));
    }
    let response =
        answer.get("response").filter(|response| response.is_object()).ok_or("no response provided")?;
    if review == "v1" && response["uid"] != uid {
        return Err(format!("expected response.uid={}, got {}", quote(uid), quote(&text(&response["uid"]))));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match text(&result["message"]) {
            message if !message.is_empty() => message,
            _ => format!("response.result.status was '{}', not 'Success'", text(&result["status"])),
        });
    }
    Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default())
}

/// A converted object with the metadata that no conversion may change.
fn check(original: &Value, mut converted: Value, api_version: &str) -> Result<Value, String> {
    let own = object::get_str(&converted, &["apiVersion"]);
    if own != api_version {
        return Err(format!("invalid groupVersion (expected {api_version}, received {own})"));
    }
    let (kind, own) = (object::get_str(original, &["kind"]), object::get_str(&converted, &["kind"]));
    if own != kind {
        return Err(format!("invalid kind (expected {kind}, received {own})"));
    }
    for (name, key) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (wanted, own) =
            (object::get_str(original, &["metadata", key]), object::get_str(&converted, &["metadata", key]));
        if wanted != own {
            return Err(format!("must have the same {name}: {wanted} != {own}"));
        }
    }
    let mut metadata = original["metadata"].clone();
    for key in ["labels", "annotations"] {
        let fields = metadata.as_object_mut().ok_or("invalid metadata in input object")?;
        match converted["metadata"].get(key).filter(|own| !own.is_null()) {
            Some(own) if is_texts(own) => fields.insert(key.to_owned(), own.clone()),
            Some(_) => return Err(format!("invalid metadata.{key}")),
            None => fields.remove(key),
        };
    }
    converted["metadata"] = metadata;
    Ok(converted)
}

fn is_texts(map: &Value) -> bool {
    map.as_object().is_some_and(|map| map.values().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(change: impl FnOnce(&mut Value)) -> Result<Vec<Value>, String> {
        let mut answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}});
        change(&mut answer);
        converted(&answer, "v1", "u")
    }

    #[test]
    fn answers_are_read_with_upstreams_refusals() {
        assert_eq!(review(|_| ()), Ok(vec![json!({})]));
        let refused =
            |change: fn(&mut Value), expected: &str| assert_eq!(review(change), Err(expected.to_owned()));
        refused(|a| a["response"] = Value::Null, "no response provided");
        refused(|a| a["response"]["uid"] = "x".into(), "expected response.uid=\"u\", got \"x\"");
        refused(|a| a["response"]["result"] = json!({"status": "Failure", "message": "no"}), "no");
        refused(|a| a["response"]["result"] = json!({}), "response.result.status was '', not 'Success'");
        refused(
            |a| a["apiVersion"] = "x/v1".into(),
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got x/v1, Kind=ConversionReview",
        );
    }

    #[test]
    fn metadata_stays_but_for_labels_and_annotations() {
        let original = json!({"apiVersion": "g/v1", "kind": "K",
            "metadata": {"name": "a", "uid": "u", "labels": {"x": "1"}, "annotations": {"b": "2"}, "generation": 3}});
        let good = json!({"apiVersion": "g/v2", "kind": "K", "spec": 1,
            "metadata": {"name": "a", "uid": "u", "labels": {"y": "1"}, "generation": 9, "finalizers": ["f"]}});
        assert_eq!(
            check(&original, good.clone(), "g/v2").unwrap(),
            json!({"apiVersion": "g/v2", "kind": "K", "spec": 1,
                "metadata": {"name": "a", "uid": "u", "labels": {"y": "1"}, "generation": 3}})
        );
        let refused = |change: fn(&mut Value), expected: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(check(&original, bad, "g/v2"), Err(expected.to_owned()));
        };
        refused(|o| o["apiVersion"] = "g/v3".into(), "invalid groupVersion (expected g/v2, received g/v3)");
        refused(|o| o["kind"] = "L".into(), "invalid kind (expected K, received L)");
        refused(|o| o["metadata"]["name"] = "b".into(), "must have the same name: a != b");
        refused(|o| o["metadata"]["uid"] = "v".into(), "must have the same UID: u != v");
        refused(|o| o["metadata"]["labels"] = json!({"y": 1}), "invalid metadata.labels");
    }
}
