//! The definitions of custom resources: the schema of an object's version with what every object has, and that of its list. Version 2 of
//! OpenAPI knows less than schemas say, and old clients take some of it wrongly, so that parts are left out there.

use super::definitions::{Definition, Dialect};
use nauplius_descriptions::Descriptions;
use nauplius_kinds::{Descriptor, Kind};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::schema::lookup_type;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
const POD: &str = "io.k8s.api.core.v1.Pod";

/// An object of a custom resource, or its list.
#[derive(Clone)]
pub(super) struct Custom {
    kind: Arc<dyn Kind>,
    is_list: bool,
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Custom {}

fn meta(name: &str) -> Definition {
    Definition::Type(lookup_type("meta/v1", name).expect("the table has the types of metadata"))
}

impl Custom {
    pub(super) fn object(kind: &Arc<dyn Kind>) -> Self {
        Self { kind: Arc::clone(kind), is_list: false }
    }

    pub(super) fn list(kind: &Arc<dyn Kind>) -> Self {
        Self { kind: Arc::clone(kind), is_list: true }
    }

    fn descriptor(&self) -> &Descriptor {
        self.kind.descriptor()
    }

    fn gvk(&self) -> GroupVersionKind {
        let descriptor = self.descriptor();
        let kind = if self.is_list { &descriptor.list_kind } else { &descriptor.kind };
        GroupVersionKind::new(&*descriptor.group, &*descriptor.hub, &**kind)
    }

    /// `com.example.stable.v1.CronTab`
    pub(super) fn name(&self) -> String {
        let gvk = self.gvk();
        let mut parts: Vec<&str> = gvk.group.split('.').rev().collect();
        parts.extend([gvk.version.as_str(), gvk.kind.as_str()]);
        parts.join(".")
    }

    /// What it refers to.
    pub(super) fn targets(&self) -> Vec<Definition> {
        if self.is_list {
            return vec![meta("ListMeta"), Definition::Custom(Self::object(&self.kind))];
        }
        vec![meta("ObjectMeta")]
    }

    pub(super) fn schema(&self, dialect: Dialect, descriptions: &Descriptions) -> Value {
        let mut schema = if self.is_list {
            self.list_schema(dialect, descriptions)
        } else {
            self.object_schema(dialect, descriptions)
        };
        let gvk = self.gvk();
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": gvk.group, "version": gvk.version, "kind": gvk.kind}]);
        schema
    }

    fn list_schema(&self, dialect: Dialect, descriptions: &Descriptions) -> Value {
        let descriptor = self.descriptor();
        let item = dialect.reference(Definition::Custom(Self::object(&self.kind)));
        let mut schema = json!({
            "type": "object",
            "description": format!("{} is a list of {}", descriptor.list_kind, descriptor.kind),
            "required": ["items"],
            "properties": {
                "items": {
                    "type": "array",
                    "description": format!("List of {}. More info: {CONVENTIONS}", descriptor.plural),
                    "items": item,
                },
                "metadata": described(
                    dialect,
                    meta("ListMeta"),
                    &format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds"),
                ),
            },
        });
        add_type_meta(&mut schema, descriptions);
        schema
    }

    fn object_schema(&self, dialect: Dialect, descriptions: &Descriptions) -> Value {
        // A text that is no JSON says nothing.
        let own = self.kind.schema_json().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some(mut schema) = own.filter(Value::is_object) else { return json!({"type": "object"}) };
        if dialect == Dialect::V2 {
            if schema["x-kubernetes-preserve-unknown-fields"] == true {
                // With any property, old clients would forbid all others.
                return json!({"type": "object"});
            }
            simplify(&mut schema);
        } else {
            unfold(&mut schema);
        }
        embed(&mut schema, dialect, descriptions);
        let metadata = descriptions.of(POD).field("metadata").unwrap_or_default();
        set_property(&mut schema, "metadata", described(dialect, meta("ObjectMeta"), metadata));
        add_type_meta(&mut schema, descriptions);
        schema
    }
}

/// A reference beside which a description stands.
fn described(dialect: Dialect, definition: Definition, description: &str) -> Value {
    let reference = dialect.reference(definition);
    match dialect {
        Dialect::V2 => {
            let mut reference = reference;
            reference["description"] = description.into();
            reference
        }
        Dialect::V3 => json!({"allOf": [reference], "description": description}),
    }
}

fn set_property(schema: &mut Value, name: &str, property: Value) {
    if !schema["properties"].is_object() {
        schema["properties"] = Value::Object(Map::new());
    }
    schema["properties"][name] = property;
}

fn add_type_meta(schema: &mut Value, descriptions: &Descriptions) {
    for name in ["apiVersion", "kind"] {
        let description = descriptions.of(POD).field(name).unwrap_or_default();
        set_property(schema, name, json!({"type": "string", "description": description}));
    }
}

/// Calls `change` on each schema of the skeleton, the outer before the inner.
fn each(schema: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    change(schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| each(property, change));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(key).filter(|below| below.is_object()) {
            each(below, change);
        }
    }
}

/// An int-or-string says so in words that everyone knows.
fn unfold(schema: &mut Value) {
    each(schema, &mut |schema| {
        if schema["x-kubernetes-int-or-string"] == true && schema.get("anyOf").is_none() {
            schema["anyOf"] = json!([{"type": "integer"}, {"type": "string"}]);
        }
    });
}

/// What version 2 does not know goes, and what its old readers take wrongly is left unsaid.
fn simplify(schema: &mut Value) {
    each(schema, &mut |schema| {
        forget_required_nullables(schema);
        let Some(fields) = schema.as_object_mut() else { return };
        for key in ["allOf", "anyOf", "oneOf", "not"] {
            fields.remove(key);
        }
        let is_nullable = fields.remove("nullable") == Some(Value::Bool(true));
        let is_free = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if is_nullable || is_free {
            fields.remove("items");
            fields.remove("properties");
        }
        let ty = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        let is_bare_list = ty == "array" && !fields.contains_key("items");
        if is_nullable || is_bare_list || (is_free && ty == "object") {
            fields.remove("type");
        }
    });
}

fn forget_required_nullables(schema: &mut Value) {
    let properties = schema["properties"].clone();
    let free_map = schema["additionalProperties"]["nullable"] == true;
    let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) else { return };
    required.retain(|name| !free_map && properties[name.as_str().unwrap_or_default()]["nullable"] != true);
    if required.is_empty()
        && let Some(fields) = schema.as_object_mut()
    {
        fields.remove("required");
    }
}

/// Objects inside objects have what objects have.
fn embed(schema: &mut Value, dialect: Dialect, descriptions: &Descriptions) {
    each(schema, &mut |schema| {
        let is_free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        if schema["x-kubernetes-embedded-resource"] != true || (is_free && dialect == Dialect::V2) {
            return;
        }
        for (name, description) in [
            (
                "apiVersion",
                format!(
                    "apiVersion defines the versioned schema of this representation of an object. More info: {CONVENTIONS}#resources"
                ),
            ),
            (
                "kind",
                format!(
                    "kind is a string value representing the type of this object. In CamelCase. More info: {CONVENTIONS}#types-kinds"
                ),
            ),
        ] {
            set_property(schema, name, json!({"type": "string", "description": description}));
        }
        let metadata = descriptions.of(POD).field("metadata").unwrap_or_default();
        set_property(schema, "metadata", described(dialect, meta("ObjectMeta"), metadata));
        let mut required = schema["required"].as_array().cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|own| own == name) {
                required.push(name.into());
            }
        }
        schema["required"] = required.into();
    });
}
