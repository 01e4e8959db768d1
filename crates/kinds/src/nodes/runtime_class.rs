//! RuntimeClass: a way to run containers, by the name that a node's runtime knows.

use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::pod_template::tolerations;
use crate::resource::{Scope, canonicalize, check_requirements};
use crate::table::{self, string};
use crate::tree::{entries, get, list, remove, text, with};
use crate::{name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

pub(crate) struct RuntimeClass(Descriptor);

pub(crate) fn kind() -> RuntimeClass {
    let descriptor = describe("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses").cluster_scoped();
    RuntimeClass(descriptor.defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    with(object, "overhead", |overhead| canonicalize(overhead, "podFixed"));
}

impl Kind for RuntimeClass {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let handler = text(object, "handler");
        messages(names::dns1123_label(handler), handler, &Path::new("handler"), &mut errors);
        if let Some(overhead) = get(object, "overhead") {
            let limits = json!({"limits": overhead["podFixed"]});
            check_requirements(&limits, Scope::Container, &[], &Path::new("overhead"), &mut errors);
        }
        if let Some(scheduling) = get(object, "scheduling") {
            check_scheduling(scheduling, &Path::new("scheduling"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::immutable(new, old, "handler", &Path::root(), &mut errors);
        errors.extend(self.validate(new));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let labels = entries(&new["scheduling"], "nodeSelector");
        let old = labels.filter_map(|(label, _)| warnings::deprecated_node_label(label));
        old.map(|words| format!("scheduling.nodeSelector: {words}")).collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), string("Handler", "The name that runtimes know."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), text(object, "handler").into(), table::age_cell(object, now_s)]
    }
}

fn check_scheduling(scheduling: &Value, path: &Path, errors: &mut Errors) {
    check::labels(scheduling, "nodeSelector", path, errors);
    let all = list(scheduling, "tolerations");
    let path = path.child("tolerations");
    tolerations(all, &path, errors);
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    for (index, toleration) in all.iter().enumerate() {
        if all[..index].iter().any(|other| timeless(other) == timeless(toleration)) {
            errors.push(FieldError::duplicate(&path.index(index), toleration.clone()));
        }
    }
}
