//! The kind that a definition makes of one of its versions. It validates, prunes and shows objects by the version's schema; who
//! serves it, and how objects change between versions, is not known here.

use super::json_path::{JsonPath, printed};
use super::structural;
use crate::api::jiff::Timestamp;
use crate::check::Errors;
use crate::duration;
use crate::kind::{Column, Context, Descriptor, Kind, Name, Scale, Subresource, Verbs, Version, put};
use crate::tree::{flag, get, list, number, text, texts};
use crate::{name, table};
use nauplius_meta::apply::Node;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use nauplius_meta::structural::{
    Schema, WholeObject, fill, prune, prune_nulls, validate, validate_lists, validate_update,
};
use nauplius_meta::{metadata, object};
use serde_json::{Map, Value};
use std::sync::Arc;

const READ_WRITE: &[&str] = &["get", "patch", "update"];
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

/// A version of a custom resource.
pub struct CustomResource {
    descriptor: Descriptor,
    schema: Arc<Schema>,
    schema_json: Box<str>,
    whole: WholeObject,
    columns: Vec<(Column, Option<JsonPath>)>,
    selectable: Arc<[Box<str>]>,
    selectors: Vec<JsonPath>,
    has_status: bool,
    structural: bool,
    api_version: String,
    converts_by_webhook: bool,
}

impl CustomResource {
    /// The kind of a version of `definition`, under the names that it was given. `None` when there is no such version.
    pub fn new(definition: &Value, names: &Value, version: &str) -> Option<Self> {
        let spec = &definition["spec"];
        let version = list(spec, "versions").iter().find(|own| text(own, "name") == version)?;
        let json = &version["schema"]["openAPIV3Schema"];
        let selectors: Vec<&str> =
            list(version, "selectableFields").iter().map(|field| text(field, "jsonPath")).collect();
        let schema = Arc::new(Schema::read(json));
        Some(Self {
            descriptor: describe(spec, names, version),
            schema_json: json.to_string().into(),
            whole: WholeObject(Arc::clone(&schema)),
            schema,
            columns: columns(version),
            selectable: selectors.iter().map(|path| path.trim_start_matches('.').into()).collect(),
            selectors: selectors.into_iter().filter_map(|path| JsonPath::parse(path).ok()).collect(),
            has_status: get(&version["subresources"], "status").is_some(),
            structural: structural::errors(json, &Path::root()).is_empty(),
            api_version: format!("{}/{}", text(spec, "group"), text(version, "name")),
            converts_by_webhook: text(&spec["conversion"], "strategy") == "Webhook",
        })
    }

    /// Whether its schema is structural.
    pub fn is_structural(&self) -> bool {
        self.structural
    }
}

fn owned(text: &str) -> Name {
    text.to_owned().into()
}

fn describe(spec: &Value, names: &Value, version: &Value) -> Descriptor {
    let all = |key: &str| texts(names, key).into_iter().map(owned).collect();
    let (group, kind, version_name) = (text(spec, "group"), text(names, "kind"), text(version, "name"));
    let warning = flag(version, "deprecated").then(|| {
        match version.get("deprecationWarning").and_then(Value::as_str) {
            Some(warning) => owned(warning),
            None => format!("{group}/{version_name} {kind} is deprecated").into(),
        }
    });
    let subresources = &version["subresources"];
    let mut served = Vec::new();
    if get(subresources, "status").is_some() {
        served.push(Subresource { name: "status".into(), body: None, verbs: READ_WRITE });
    }
    let scale = get(subresources, "scale").map(|scale| {
        let body = Some(("autoscaling".into(), "v1".into(), "Scale".into()));
        served.push(Subresource { name: "scale".into(), body, verbs: READ_WRITE });
        let path = |key: &str| text(scale, key).trim_start_matches('.').split('.').map(owned).collect();
        Scale {
            spec_replicas: path("specReplicasPath"),
            status_replicas: path("statusReplicasPath"),
            selector: (!text(scale, "labelSelectorPath").is_empty()).then(|| path("labelSelectorPath")),
        }
    });
    Descriptor {
        group: owned(group),
        kind: owned(kind),
        list_kind: owned(text(names, "listKind")),
        plural: owned(text(names, "plural")),
        singular: owned(text(names, "singular")),
        namespaced: text(spec, "scope") == "Namespaced",
        short_names: all("shortNames"),
        categories: all("categories"),
        versions: vec![Version {
            name: owned(version_name),
            default: |_| (),
            to_hub: None,
            from_hub: None,
            deprecation_warning: warning,
        }],
        hub: owned(version_name),
        verbs: Verbs::STORED,
        subresources: served,
        scale,
        stored_as: None,
        ttl_s: 0,
    }
}

fn columns(version: &Value) -> Vec<(Column, Option<JsonPath>)> {
    let own = list(version, "additionalPrinterColumns");
    if own.is_empty() {
        // The path is a constant that parses.
        let path = JsonPath::parse(".metadata.creationTimestamp").ok();
        let age = Column { type_: "date".into(), ..table::age() };
        return vec![(age, path)];
    }
    let column = |column: &Value| {
        let json_path = text(column, "jsonPath");
        let description = match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {json_path}"),
            own => own.to_owned(),
        };
        let shown = Column {
            name: owned(text(column, "name")),
            type_: owned(text(column, "type")),
            format: owned(text(column, "format")),
            description: description.into(),
            priority: number(column, "priority").and_then(|priority| priority.try_into().ok()).unwrap_or(0),
        };
        // A path that cannot be read shows nothing, as one that leads nowhere.
        (shown, JsonPath::parse(json_path).ok())
    };
    own.iter().map(column).collect()
}

impl Kind for CustomResource {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn schema(&self) -> Option<&Arc<Schema>> {
        Some(&self.schema)
    }

    fn schema_json(&self) -> Option<&str> {
        Some(&self.schema_json)
    }

    fn merging(&self, api_version: &str) -> Option<Node<'_>> {
        (api_version == self.api_version).then_some(Node::Custom(&self.whole))
    }

    fn default_fields(&self, object: &mut Value) {
        fill(object, &self.schema);
        if self.schema.names_fields() {
            prune_nulls(object, &self.schema);
        }
    }

    fn refresh_stored(&self, object: &mut Value) {
        if object["apiVersion"] != self.api_version.as_str() {
            if self.converts_by_webhook {
                return;
            }
            put(object, "apiVersion", Some(self.api_version.as_str().into()));
        }
        prune(object, &self.schema);
        self.default_fields(object);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        if self.has_status {
            put(object, "status", None);
        }
        put(&mut object["metadata"], "generation", Some(1.into()));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        if self.has_status {
            put(new, "status", old.get("status").cloned());
        }
        let mut generation = number(&old["metadata"], "generation").unwrap_or(0);
        if !same_content(new, old) {
            generation += 1;
        }
        put(&mut new["metadata"], "generation", Some(generation.into()));
    }

    /// Only the status is taken; of metadata, what tells who wrote it.
    fn prepare_subresource_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let managers = new["metadata"].get("managedFields").cloned();
        *new = old.clone();
        put(new, "status", status);
        put(&mut new["metadata"], "managedFields", managers);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate(object, &self.schema, &Path::root());
        self.check_scale(object, &mut errors);
        errors.extend(embedded(object, &self.schema));
        errors.extend(validate_lists(object, &self.schema, &Path::root()));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate_update(new, old, &self.schema, &Path::root());
        self.check_scale(new, &mut errors);
        errors.extend(embedded(new, &self.schema));
        self.new_duplicates(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if let (Some(schema), Some(status)) = (self.schema.property("status"), new.get("status")) {
            let old = old.get("status").unwrap_or(&Value::Null);
            errors.extend(validate_update(status, old, schema, &Path::new("status")));
        }
        self.check_scale(new, &mut errors);
        self.new_duplicates(new, old, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let known = old.map(object::finalizers).unwrap_or_default();
        let added = object::finalizers(new).into_iter().filter(|finalizer| !known.contains(finalizer));
        added.flat_map(finalizer_warnings).collect()
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn named_fields(&self) -> Option<&Arc<[Box<str>]>> {
        Some(&self.selectable)
    }

    fn selectable_field(&self, object: &Value, name: &str) -> String {
        let index = self.selectable.iter().position(|own| **own == *name);
        let path = index.and_then(|index| self.selectors.get(index));
        let found = path.and_then(|path| path.find(object).first().copied());
        found.filter(|value| !value.is_null()).map(printed).unwrap_or_default()
    }

    fn columns(&self) -> Vec<Column> {
        std::iter::once(table::name()).chain(self.columns.iter().map(|(column, _)| column.clone())).collect()
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let cell = |(column, path): &(Column, Option<JsonPath>)| {
            let found = path.as_ref().and_then(|path| path.find(object).first().copied());
            found.map_or(Value::Null, |value| cell(&column.type_, value, now_s))
        };
        std::iter::once(table::name_cell(object)).chain(self.columns.iter().map(cell)).collect()
    }
}

impl CustomResource {
    /// Duplicates in sets and maps are refused unless there were some already.
    fn new_duplicates(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if validate_lists(old, &self.schema, &Path::root()).is_empty() {
            errors.extend(validate_lists(new, &self.schema, &Path::root()));
        }
    }

    fn check_scale(&self, object: &Value, errors: &mut Errors) {
        let Some(scale) = &self.descriptor.scale else { return };
        for path in [&scale.spec_replicas, &scale.status_replicas] {
            check_replicas(object, path, errors);
        }
        let Some(path) = &scale.selector else { return };
        if let Some(selector) = at(object, path).filter(|selector| !selector.is_string()) {
            let path = Path::new(format!(".{}", path.join(".")));
            let detail = format!(
                "{path} accessor error: {} is of the type {}, expected string",
                printed(selector),
                go_type(selector)
            );
            errors.push(FieldError::invalid(&path, "", detail));
        }
    }
}

fn at<'v>(object: &'v Value, path: &[Name]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| value.get(&**name))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn check_replicas(object: &Value, path: &[Name], errors: &mut Errors) {
    let Some(value) = at(object, path) else { return };
    let path = Path::new(format!(".{}", path.join(".")));
    let Some(replicas) = value.as_i64() else {
        let detail = format!(
            "{path} accessor error: {} is of the type {}, expected int64",
            printed(value),
            go_type(value)
        );
        return errors.push(FieldError::invalid(&path, 0, detail));
    };
    if replicas < 0 {
        errors.push(FieldError::invalid(&path, replicas, "should be a non-negative integer"));
    } else if replicas > i64::from(i32::MAX) {
        let detail = format!("should be less than or equal to {}", i32::MAX);
        errors.push(FieldError::invalid(&path, replicas, detail));
    }
}

/// Whether anything but metadata is the same.
fn same_content(new: &Value, old: &Value) -> bool {
    let empty = Map::new();
    let fields = |value: &'_ Value| value.as_object().cloned().unwrap_or_else(|| empty.clone());
    let without = |value: &Value| {
        let mut fields = fields(value);
        for name in ["metadata", "kind", "apiVersion"] {
            fields.remove(name);
        }
        fields
    };
    without(new) == without(old)
}

fn finalizer_warnings(finalizer: &str) -> Vec<String> {
    let told = |what: &str| format!("metadata.finalizers: {finalizer:?}: {what}");
    let mut warnings: Vec<String> =
        names::qualified_name(finalizer).iter().map(|problem| told(problem)).collect();
    if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
        warnings.push(told(
            "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers",
        ));
    }
    warnings
}

/// The objects that an object embeds have a kind, a version and sound metadata.
fn embedded(object: &Value, schema: &Schema) -> Errors {
    let mut errors = Errors::new();
    walk_embedded(object, schema, &Path::root(), &mut errors);
    errors
}

fn walk_embedded(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    match value {
        Value::Object(fields) => {
            if schema.is_embedded() {
                check_embedded(value, path, errors);
            }
            for (name, value) in fields {
                match schema.property(name) {
                    Some(property) => walk_embedded(value, property, &path.child(name), errors),
                    None => {
                        if let Some(field) = schema.field(name) {
                            walk_embedded(value, field, &path.key(name), errors);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items() else { return };
            for (index, item) in items.iter().enumerate() {
                walk_embedded(item, schema, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn check_embedded(value: &Value, path: &Path, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        match value.get(name) {
            None => errors.push(FieldError::required(&path.child(name), "must not be empty")),
            Some(own) if text(value, name).is_empty() => {
                errors.push(FieldError::invalid(&path.child(name), own.clone(), "must not be empty"));
            }
            Some(_) => {}
        }
    }
    let kind = text(value, "kind");
    let problems = names::dns1035_label(&kind.to_lowercase());
    if !kind.is_empty() && !problems.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
        errors.push(FieldError::invalid(&path.child("kind"), kind, detail));
    }
    if get(value, "metadata").is_none() {
        return;
    }
    let mut value = value.clone();
    if object::name(&value).is_empty() {
        object::set_name(&mut value, "fakename");
    }
    let namespaced = !object::namespace(&value).is_empty();
    errors.extend(metadata::validate(&value, namespaced, names::path_segment, &path.child("metadata")));
}

fn cell(ty: &str, value: &Value, now_s: i64) -> Value {
    match ty {
        "string" => printed(value).into(),
        "integer" => match (value.as_i64(), value.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => (number as i64).into(),
            _ => Value::Null,
        },
        "number" => value.as_f64().map_or(Value::Null, Value::from),
        "boolean" => value.as_bool().map_or(Value::Null, Value::from),
        "date" => match value.as_str() {
            Some(time) if time.parse::<Timestamp>().is_ok() => duration::since(time, now_s).into(),
            Some(_) => "<invalid>".into(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, row};
    use serde_json::json;

    fn definition() -> Value {
        json!({"spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": [{
            "name": "v1", "served": true, "storage": true, "deprecated": true,
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "additionalPrinterColumns": [
                {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                {"name": "Labels", "type": "string", "jsonPath": ".spec.labels", "priority": 1},
            ],
            "selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.replicas"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "replicas": {"type": "integer", "default": 1},
                    "color": {"type": "string", "enum": ["red", "blue"]},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                        "x-kubernetes-preserve-unknown-fields": true},
                }},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"},
                    "selector": {"type": "string"}}},
            }}},
        }]}})
    }

    fn kind() -> CustomResource {
        let names = json!({"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList",
            "shortNames": ["ct"], "categories": ["all"]});
        CustomResource::new(&definition(), &names, "v1").unwrap()
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_is_described_by_its_definition() {
        let kind = kind();
        let descriptor = kind.descriptor();
        assert_eq!((&*descriptor.plural, &*descriptor.hub, descriptor.namespaced), ("crontabs", "v1", true));
        let warning = descriptor.versions[0].deprecation_warning.as_deref();
        assert_eq!(warning, Some("stable.example.com/v1 CronTab is deprecated"));
        assert!(descriptor.has_subresource("status") && descriptor.has_subresource("scale"));
        assert_eq!(descriptor.scale.as_ref().unwrap().spec_replicas, ["spec", "replicas"]);
    }

    #[test]
    fn creates_are_defaulted_prepared_and_validated() {
        let kind = kind();
        let mut object = json!({"metadata": {"name": "x"}, "spec": {}, "status": {"replicas": 3}});
        kind.default_fields(&mut object);
        kind.prepare_create(&context(None), &mut object);
        assert_eq!(object, json!({"metadata": {"name": "x", "generation": 1}, "spec": {"replicas": 1}}));
        let bad = json!({"spec": {"replicas": -1, "color": "green", "template": {"kind": "a_b", "metadata": {"name": "/"}}}});
        assert_eq!(
            texts(&kind.validate(&bad))[..3],
            [
                "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
                ".spec.replicas: Invalid value: -1: should be a non-negative integer",
                "spec.template.apiVersion: Required value: must not be empty",
            ]
        );
    }

    #[test]
    fn updates_count_generations_and_keep_the_status() {
        let kind = kind();
        let old = json!({"metadata": {"generation": 4, "labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let mut new = json!({"metadata": {"generation": 1}, "spec": {"replicas": 2}});
        kind.prepare_update(&context(None), &mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"generation": 5}, "spec": {"replicas": 2}, "status": {"replicas": 1}})
        );
        let mut new = json!({"metadata": {"labels": {}}, "spec": {"replicas": 9}, "status": {"replicas": 7}});
        kind.prepare_subresource_update(&context(Some("status")), &mut new, &old);
        assert_eq!(new["status"], json!({"replicas": 7}));
        assert_eq!((&new["spec"], &new["metadata"]), (&old["spec"], &old["metadata"]));
        let wrong = json!({"status": {"replicas": "x"}});
        assert_eq!(
            texts(&kind.validate_subresource_update("status", &wrong, &json!({})))[0],
            "status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\""
        );
    }

    #[test]
    fn fields_are_selected_and_columns_shown() {
        let kind = kind();
        let object = json!({"spec": {"color": "red", "replicas": 2, "labels": {"a": "b"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(&**kind.named_fields().unwrap(), ["spec.color".into(), "spec.replicas".into()]);
        assert_eq!(kind.selectable_field(&object, "spec.color"), "red");
        assert_eq!(kind.selectable_field(&object, "spec.replicas"), "2");
        assert_eq!(kind.selectable_field(&json!({}), "spec.color"), "");
        row(&kind, object, json!(["x", 2, "True", "75s", "map[a:b]"]));
        row(&kind, json!({}), json!(["x", null, null, "75s", null]));
        assert_eq!(kind.columns()[4].priority, 1);
        assert_eq!(
            kind.columns()[1].description,
            "Custom resource definition column (in JSONPath format): .spec.replicas"
        );
    }

    #[test]
    fn finalizers_without_a_domain_are_warned_of() {
        let new = json!({"metadata": {"finalizers": ["mine", "a.b/c"]}});
        assert_eq!(
            kind().warnings(&new, None),
            [
                "metadata.finalizers: \"mine\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
            ]
        );
        assert_eq!(kind().warnings(&new, Some(&new)), Vec::<String>::new());
    }
}
