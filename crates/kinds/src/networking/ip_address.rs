//! IPAddress: an address that is taken, named by itself, and by whom.

use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::table::{self, NONE};
use crate::tree::{get, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

pub(crate) struct IpAddress(Descriptor);

pub(crate) fn kind() -> IpAddress {
    let descriptor = describe("networking.k8s.io", "v1", "IPAddress", "ipaddresses");
    IpAddress(descriptor.cluster_scoped().short(&["ip"]).done())
}

impl Kind for IpAddress {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("spec").child("parentRef");
        let Some(parent) = get(&object["spec"], "parentRef") else {
            errors.push(FieldError::required(&path, ""));
            return errors;
        };
        check::name_if_set(parent, "group", names::dns1123_subdomain, &path, &mut errors);
        for key in ["resource", "name", "namespace"] {
            let value = text(parent, key);
            if key != "namespace" {
                check::required_text(parent, key, &path, &mut errors);
            }
            messages(names::path_segment(value), value, &path.child(key), &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::immutable(&new["spec"], &old["spec"], "parentRef", &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        let problems = names::canonical_ip(&Path::new(""), name);
        problems.into_iter().map(|problem| problem.detail).collect()
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::string("ParentRef", "Who has taken the address.")]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let parent = get(&object["spec"], "parentRef").map_or_else(|| NONE.to_owned(), parent);
        vec![table::name_cell(object), parent.into()]
    }
}

fn parent(reference: &Value) -> String {
    let [group, resource, namespace, name] =
        ["group", "resource", "namespace", "name"].map(|key| text(reference, key));
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let parts = [resource.to_lowercase(), namespace.to_owned(), name.to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn the_parent_is_named_and_stays() {
        creation(&kind(), json!({"spec": {}}), &["spec.parentRef: Required value"]);
        creation(
            &kind(),
            json!({"spec": {"parentRef": {"resource": "services"}}}),
            &["spec.parentRef.name: Required value"],
        );
        let parent = |name: &str| json!({"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": name}}});
        updated(
            &kind(),
            &parent("a"),
            parent("b"),
            &[
                "spec.parentRef: Invalid value: {\"name\":\"b\",\"namespace\":\"n\",\"resource\":\"services\"}: field is immutable",
            ],
        );
        assert_eq!(kind().validate_name("10.96.0.1", false), Vec::<String>::new());
        assert_eq!(
            kind().validate_name("2001:DB8::1", false),
            ["must be in canonical form (\"2001:db8::1\")"]
        );
        row(&kind(), parent("a"), json!(["x", "services/n/a"]));
    }
}
