//! Objects in their encodings, and patches of them.

use nauplius_meta::apply;
use nauplius_meta::normalize::{Mode, normalize as bring_into_form};
use nauplius_meta::schema::{TypeRef, lookup_type};
use nauplius_meta::{
    cbor as cbor_documents, json as json_text, patch, protobuf as messages, yaml as yaml_text,
};
use serde_json::{Value, json};

fn pod_type() -> TypeRef {
    lookup_type("core/v1", "Pod").expect("the table has pods")
}

/// A pod that patches find something in.
fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {
            "containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 1, "protocol": "TCP"}], "env": [{"name": "A", "value": "1"}]},
                {"name": "d", "image": "j"},
            ],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
    })
}

/// Floats of many digits are read to within a unit in their last place, so they may move when they are written and read again.
fn has_floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_floats),
        Value::Object(fields) => fields.values().any(has_floats),
        _ => false,
    }
}

pub(crate) fn json(bytes: &[u8]) {
    let Ok(decoded) = json_text::decode_strict(bytes) else { return };
    if has_floats(&decoded.value) {
        return;
    }
    let again = json_text::decode(&json_text::encode(&decoded.value));
    assert_eq!(again.as_ref(), Ok(&decoded.value), "what was read is written so that it reads the same");
}

pub(crate) fn cbor(bytes: &[u8]) {
    if let Ok(ends) = cbor_documents::documents(bytes) {
        assert_eq!(ends.last().copied().unwrap_or_default(), bytes.len());
    }
    let Ok(value) = cbor_documents::decode(bytes) else { return };
    assert_eq!(cbor_documents::decode(&cbor_documents::encode(&value)).as_ref(), Ok(&value));
}

pub(crate) fn yaml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Both forms of reading must come back.
    let _documents = yaml_text::decode_documents(&text);
    let _twice = yaml_text::duplicate_keys(&text);
    let Ok(decoded) = yaml_text::decode_strict(&text) else { return };
    if has_floats(&decoded.value) {
        return;
    }
    let written = yaml_text::encode(&decoded.value);
    assert_eq!(yaml_text::decode(&written).as_ref(), Ok(&decoded.value), "{written}");
}

pub(crate) fn protobuf(bytes: &[u8]) {
    let event = lookup_type("meta/v1", "WatchEvent").expect("the table has events");
    // Events carry whole objects and stand in no envelope.
    let _event = messages::decode_message(bytes, event);
    let Ok(object) = messages::decode(bytes, pod_type()) else { return };
    let written = messages::encode(&object, pod_type()).expect("what was read can be written");
    assert_eq!(messages::decode(&written, pod_type()).as_ref(), Ok(&object));
}

pub(crate) fn normalize(bytes: &[u8]) {
    let Ok(mut object) = json_text::decode(bytes) else { return };
    if bring_into_form(&mut object, pod_type(), Mode::Full).is_err() {
        return;
    }
    let once = object.clone();
    let issues = bring_into_form(&mut object, pod_type(), Mode::Full);
    assert_eq!(issues, Ok(Vec::new()), "what is in form has nothing unknown");
    assert_eq!(object, once, "once is enough");
}

pub(crate) fn json_patch(bytes: &[u8]) {
    let Ok(patch) = json_text::decode(bytes) else { return };
    // A refusal is as good an answer as a patched pod.
    let _applied = patch::json::apply(&mut pod(), &patch);
}

pub(crate) fn merge_patch(bytes: &[u8]) {
    let Ok(patch) = json_text::decode(bytes) else { return };
    let mut patched = pod();
    patch::merge::apply(&mut patched, patch.clone());
    let once = patched.clone();
    patch::merge::apply(&mut patched, patch);
    assert_eq!(patched, once, "merging twice is merging once");
}

pub(crate) fn strategic_patch(bytes: &[u8]) {
    let Ok(patch) = json_text::decode(bytes) else { return };
    // A refusal is as good an answer as a patched pod.
    let _applied = patch::strategic::apply(&mut pod(), patch, pod_type());
}

pub(crate) fn managed_fields(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(set) = apply::from_json(text) else { return };
    let written = apply::to_json(&set);
    let again = apply::from_json(&written).expect("what was written can be read");
    assert_eq!(again.len(), set.len(), "{written}");
}
