//! PodTemplate: a pod to be made later.

use crate::check::Errors;
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Descriptor, Kind};
use crate::pod_template::{default_spec, validate};
use crate::tree::{at, child, with};
use crate::{name, table, warnings};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct PodTemplate(Descriptor);

pub(crate) fn kind() -> PodTemplate {
    PodTemplate(describe("", "v1", "PodTemplate", "podtemplates").defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    with(object, "template", |template| default_spec(child(template, "spec")));
}

impl Kind for PodTemplate {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        gates::of_pod_spec(&["template", "spec"])
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&object["template"], &Path::new("template"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let template = |object: &Value| object["template"].clone();
        if old.is_some_and(|old| template(old) == template(new)) {
            return Vec::new();
        }
        warnings::of_template(&new["template"], &Path::new("template"))
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            table::string("Containers", "The names of the template's containers."),
            table::string("Images", "The images of the template's containers."),
            table::string("Pod Labels", "The labels of pods made from it."),
        ]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let [containers, images] = table::container_cells(at(object, &["template", "spec"]));
        let labels = table::labels_cell(at(object, &["template", "metadata", "labels"]));
        vec![table::name_cell(object), containers, images, labels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, created, creation, row, updated};
    use serde_json::json;

    #[test]
    fn templates_are_filled_and_checked() {
        let good = json!({"template": {"spec": {"containers": [container("c")]}}});
        assert_eq!(created(&kind(), good.clone())["template"]["spec"]["dnsPolicy"], "ClusterFirst");
        creation(&kind(), good.clone(), &[]);
        let bad = json!({"template": {"spec": {"containers": []}}});
        creation(&kind(), bad.clone(), &["template.spec.containers: Required value"]);
        updated(&kind(), &good, bad, &["template.spec.containers: Required value"]);
    }

    #[test]
    fn the_row_shows_containers() {
        let object = json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container("c")]}}});
        row(&kind(), object, json!(["x", "c", "demo:1", "a=b"]));
    }
}
