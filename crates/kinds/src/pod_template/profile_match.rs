//! Profiles of seccomp and AppArmor that are named twice, by an old annotation and by a field: that both say the same, and that
//! whoever knows only one of them finds it.

use super::annotation::{APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD};
use super::security;
use super::spec::each_container;
use crate::check::Errors;
use crate::tree::{child, each, equal, get, set, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// What the annotations of one of the two call the profiles.
struct Words {
    default: &'static [&'static str],
    /// How the errors name it.
    name: &'static str,
}

const SECCOMP: Words = Words { default: &["runtime/default", "docker/default"], name: "seccomp" };
const ARMOR: Words = Words { default: &["runtime/default"], name: "apparmor" };
const UNCONFINED: &str = "unconfined";
const LOCALHOST: &str = "localhost/";

/// Checks that annotations and fields of a pod or template agree; `path` is that of the spec.
pub(crate) fn validate(metadata: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let annotations = &metadata["annotations"];
    let context = |owner: &Value, key: &str| get(&owner["securityContext"], key).cloned();
    if let Some(profile) = context(spec, "seccompProfile") {
        let path = path.children(&["securityContext", "seccompProfile"]);
        compare(annotations, SECCOMP_POD, &profile, &SECCOMP, &path, errors);
    }
    for (path, container) in each_container(spec, path) {
        if let Some(profile) = context(container, "seccompProfile") {
            let path = path.children(&["securityContext", "seccompProfile"]);
            let key = format!("{SECCOMP_CONTAINER}{}", text(container, "name"));
            compare(annotations, &key, &profile, &SECCOMP, &path, errors);
        }
    }
    if text(&spec["os"], "name") == "windows" {
        return;
    }
    let of_pod = context(spec, "appArmorProfile");
    for (path, container) in each_container(spec, path) {
        if let Some(profile) = context(container, "appArmorProfile").or_else(|| of_pod.clone()) {
            let path = path.children(&["securityContext", "appArmorProfile"]);
            compare(annotations, &app_armor_key(container), &profile, &ARMOR, &path, errors);
        }
    }
}

fn app_armor_key(container: &Value) -> String {
    format!("{APP_ARMOR}{}", text(container, "name"))
}

fn compare(annotations: &Value, key: &str, profile: &Value, words: &Words, path: &Path, errors: &mut Errors) {
    let Some(annotation) = get(annotations, key).and_then(Value::as_str) else { return };
    let local = annotation.strip_prefix(LOCALHOST);
    let same_type = match text(profile, "type") {
        "Unconfined" => annotation == UNCONFINED,
        "RuntimeDefault" => words.default.contains(&annotation),
        "Localhost" => local.is_some(),
        _ => true,
    };
    let name = words.name;
    if !same_type {
        let detail = format!("{name} type in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    } else if text(profile, "type") == "Localhost"
        && get(profile, "localhostProfile").and_then(Value::as_str) != local
    {
        let detail = format!("{name} profile in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("localhostProfile"), detail));
    }
}

/// Gives each container of a new pod the AppArmor annotation that its field means, or the field that its annotation means.
pub(crate) fn sync(pod: &mut Value) {
    if text(&pod["spec"]["os"], "name") == "windows" {
        return;
    }
    let of_pod = get(&pod["spec"]["securityContext"], "appArmorProfile").cloned();
    let annotations = pod["metadata"].get("annotations").cloned().unwrap_or_default();
    let mut added = Vec::new();
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        each(child(pod, "spec"), containers, |container| {
            let key = app_armor_key(container);
            let own = get(&container["securityContext"], "appArmorProfile").cloned();
            match get(&annotations, &key).and_then(Value::as_str) {
                None => {
                    let meant = own.as_ref().or(of_pod.as_ref()).and_then(annotation_of);
                    added.extend(meant.map(|annotation| (key, annotation)));
                }
                Some(annotation) if own.is_none() => {
                    let field = field_of(annotation)
                        .filter(|field| !of_pod.as_ref().is_some_and(|pod| equal(pod, field)));
                    if let Some(field) = field {
                        set(child(container, "securityContext"), "appArmorProfile", field);
                    }
                }
                Some(_) => {}
            }
        });
    }
    for (key, annotation) in added {
        set(child(child(pod, "metadata"), "annotations"), &key, annotation);
    }
}

fn annotation_of(profile: &Value) -> Option<String> {
    match text(profile, "type") {
        "Unconfined" => Some(UNCONFINED.to_owned()),
        "RuntimeDefault" => Some("runtime/default".to_owned()),
        "Localhost" => get(profile, "localhostProfile")
            .and_then(Value::as_str)
            .map(|local| format!("{LOCALHOST}{local}")),
        _ => None,
    }
}

/// The field that an annotation means; none where that would be refused.
fn field_of(annotation: &str) -> Option<Value> {
    let field = match annotation {
        UNCONFINED => json!({"type": "Unconfined"}),
        "runtime/default" => json!({"type": "RuntimeDefault"}),
        _ => json!({"type": "Localhost", "localhostProfile": annotation.strip_prefix(LOCALHOST)?}),
    };
    security::is_app_armor(&field).then_some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: Value, pod: Value, own: Value) -> Value {
        json!({"metadata": {"annotations": annotations},
            "spec": {"securityContext": pod, "containers": [{"name": "c", "securityContext": own}]}})
    }

    fn check(object: &Value, expected: &[&str]) {
        let mut errors = Errors::new();
        validate(&object["metadata"], &object["spec"], &Path::new("spec"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn both_say_the_same() {
        let seccomp = |type_: &str| json!({"seccompProfile": {"type": type_}});
        check(&pod(json!({SECCOMP_POD: "docker/default"}), seccomp("RuntimeDefault"), json!({})), &[]);
        check(
            &pod(json!({SECCOMP_POD: "unconfined"}), seccomp("RuntimeDefault"), json!({})),
            &[
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        );
        let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "b"}});
        check(
            &pod(json!({format!("{SECCOMP_CONTAINER}c"): "localhost/a"}), json!({}), local),
            &[
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field must match",
            ],
        );
        check(
            &pod(
                json!({format!("{APP_ARMOR}c"): "localhost/a"}),
                json!({"appArmorProfile": {"type": "Unconfined"}}),
                json!({}),
            ),
            &[
                "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match",
            ],
        );
    }

    #[test]
    fn who_knows_one_of_them_finds_it() {
        let key = format!("{APP_ARMOR}c");
        let mut from_field =
            pod(json!({}), json!({"appArmorProfile": {"type": "RuntimeDefault"}}), json!({}));
        sync(&mut from_field);
        assert_eq!(from_field["metadata"]["annotations"], json!({&key: "runtime/default"}));
        let mut from_annotation = pod(json!({&key: "localhost/a"}), json!({}), json!({}));
        sync(&mut from_annotation);
        let profile = json!({"type": "Localhost", "localhostProfile": "a"});
        assert_eq!(from_annotation["spec"]["containers"][0]["securityContext"]["appArmorProfile"], profile);
        let mut odd = pod(json!({&key: "localhost/ "}), json!({}), json!({}));
        let before = odd.clone();
        sync(&mut odd);
        assert_eq!(odd, before, "a field that would be refused is not written");
    }
}
