//! The schema of one definition and of its fields, in either version of OpenAPI. It knows types, not operations.

use super::definitions::{Definition, Dialect, target};
use super::enums;
use nauplius_descriptions::{Description, Descriptions};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::schema::{Container, Field, Kind, ListType, TypeRef};
use serde_json::{Map, Value, json};

/// Kinds of requests that are the same in every group and version.
const SHARED: &[&str] = &["DeleteOptions", "WatchEvent"];
/// Upstream's marks of structures of which one field is to be set: type, discriminator, and each field with its value.
const UNIONS: &[(&str, Option<&str>, &str, &str)] = &[
    ("AppArmorProfile", Some("type"), "localhostProfile", "LocalhostProfile"),
    ("PodSchedulingGroup", None, "podGroupName", "PodGroupName"),
    ("SeccompProfile", Some("type"), "localhostProfile", "LocalhostProfile"),
];
/// Defaults that upstream states as a Go constant.
const CONSTANTS: &[(&str, &str)] =
    &[("ref(AzureDataDiskCachingReadWrite)", "ReadWrite"), ("ref(AzureSharedBlobDisk)", "Shared")];

/// Writes the schemas of definitions.
pub(super) struct Schemas<'a> {
    pub(super) dialect: Dialect,
    pub(super) descriptions: &'a Descriptions,
    /// The groups and versions that are served: types such as DeleteOptions belong to each of them.
    pub(super) served: &'a [(String, String)],
}

impl Schemas<'_> {
    /// The schema of one definition.
    pub(super) fn of(&self, definition: Definition) -> Value {
        let name = definition.name();
        let description = self.descriptions.of(&name);
        match definition {
            Definition::Special(special) => {
                let mut schema = special.schema(self.dialect);
                describe(&mut schema, description.own());
                schema
            }
            Definition::Type(ty) => self.structure(ty, description),
            Definition::Custom(custom) => custom.schema(self.dialect, self.descriptions),
        }
    }

    fn structure(&self, ty: TypeRef, description: Description<'_>) -> Value {
        let mut schema = json!({"type": "object"});
        let of_list = description.own().is_none().then(|| of_list(ty)).flatten();
        describe(&mut schema, description.own().or(of_list.as_deref()));
        let properties = self.properties(ty, description);
        if !properties.is_empty() {
            schema["properties"] = properties.into();
        }
        let required: Vec<&str> =
            ty.json_fields().filter(|field| field.is_required()).map(Field::name).collect();
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if ty.is_atomic() {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if let Some(unions) = unions(ty) {
            schema["x-kubernetes-unions"] = unions;
        }
        let kinds = self.group_version_kinds(ty);
        if !kinds.is_empty() {
            schema["x-kubernetes-group-version-kind"] = kinds.iter().map(of_gvk).collect();
        }
        schema
    }

    fn properties(&self, ty: TypeRef, description: Description<'_>) -> Map<String, Value> {
        let mut properties = Map::new();
        for name in ["apiVersion", "kind"].into_iter().filter(|_| ty.is_kind()) {
            // Lists are not described; every kind says the same of these two fields.
            let known = description.field(name);
            let mut schema = json!({"type": "string"});
            describe(
                &mut schema,
                known.or_else(|| self.descriptions.of("io.k8s.api.core.v1.Pod").field(name)),
            );
            properties.insert(name.to_owned(), schema);
        }
        for field in ty.json_fields() {
            let known = description.field(field.name());
            let schema = self.field(ty, field, known.or_else(|| field_of_list(ty, field)));
            properties.insert(field.name().to_owned(), schema);
        }
        properties
    }

    fn field(&self, ty: TypeRef, field: &Field, description: Option<&str>) -> Value {
        let values = enums::values(ty, field);
        let value = self.value(field.kind(), values);
        let mut schema = match field.container() {
            Container::None => value,
            Container::List => json!({"type": "array", "items": self.item(field.kind(), value)}),
            Container::Map => {
                json!({"type": "object", "additionalProperties": self.item(field.kind(), value)})
            }
        };
        let described = values.map(|values| enums::described(description, values));
        describe(&mut schema, described.as_deref().or(description));
        extend(&mut schema, field);
        if self.dialect == Dialect::V3
            && let Some(default) = default(field)
        {
            schema["default"] = default;
        }
        self.with_reference_apart(schema)
    }

    fn value(&self, kind: Kind, values: Option<&[&str]>) -> Value {
        if let Some(definition) = target(kind) {
            return self.dialect.reference(definition);
        }
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 => json!({"type": "integer", "format": "int32"}),
            Kind::Int64 => json!({"type": "integer", "format": "int64"}),
            Kind::Float => json!({"type": "number", "format": "double"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::StringList => {
                let items = self.item(Kind::String, json!({"type": "string"}));
                json!({"type": "array", "items": items})
            }
            _ => match values {
                Some(values) => json!({"type": "string", "enum": values}),
                None => json!({"type": "string"}),
            },
        }
    }

    /// A value in a list or map, which is never left out.
    fn item(&self, kind: Kind, mut value: Value) -> Value {
        if self.dialect == Dialect::V3
            && let Some(default) = zero(kind)
        {
            value["default"] = default;
        }
        self.with_reference_apart(value)
    }

    /// In OpenAPI v3 nothing may stand beside a reference.
    fn with_reference_apart(&self, mut schema: Value) -> Value {
        if self.dialect == Dialect::V3
            && let Some(fields) = schema.as_object_mut().filter(|fields| fields.len() > 1)
            && let Some(reference) = fields.remove("$ref")
        {
            schema["allOf"] = json!([{ "$ref": reference }]);
        }
        schema
    }

    fn group_version_kinds(&self, ty: TypeRef) -> Vec<GroupVersionKind> {
        let mut found = Vec::new();
        if ty.package() == "meta/v1" {
            let shared = SHARED.contains(&ty.name());
            found.extend((shared || ty.is_kind()).then(|| GroupVersionKind::new("", "v1", ty.name())));
            let others = self.served.iter().filter(|(group, _)| shared && !group.is_empty());
            found.extend(others.map(|(group, version)| GroupVersionKind::new(group, version, ty.name())));
        } else if ty.is_kind() {
            found.push(ty.gvk());
        }
        found
    }
}

/// The extension that says which kind something is about.
pub(super) fn of_gvk(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn describe(schema: &mut Value, description: Option<&str>) {
    if let Some(description) = description.filter(|description| !description.is_empty()) {
        schema["description"] = description.into();
    }
}

fn of_list(ty: TypeRef) -> Option<String> {
    let item = ty.name().strip_suffix("List").filter(|_| ty.is_kind())?;
    Some(format!("{} is a list of {item} objects.", ty.name()))
}

fn field_of_list(ty: TypeRef, field: &Field) -> Option<&'static str> {
    of_list(ty)?;
    match field.name() {
        "items" => Some("The objects of the list."),
        "metadata" => Some("Standard list metadata."),
        _ => None,
    }
}

fn unions(ty: TypeRef) -> Option<Value> {
    let (_, discriminator, field, value) =
        UNIONS.iter().find(|(name, ..)| ty.package() == "core/v1" && *name == ty.name())?;
    let mut union = json!({"fields-to-discriminateBy": {*field: value}});
    if let Some(discriminator) = discriminator {
        union["discriminator"] = (*discriminator).into();
    }
    Some(json!([union]))
}

/// How clients merge the field.
fn extend(schema: &mut Value, field: &Field) {
    // Bytes are a list to upstream's generator.
    let is_list = field.container() == Container::List || field.kind() == Kind::Bytes;
    let list_type = match field.list_type() {
        ListType::Set => Some("set"),
        ListType::Map => Some("map"),
        ListType::Atomic => field.is_atomic().then_some("atomic"),
    };
    if let Some(list_type) = list_type {
        schema[if is_list { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" }] = list_type.into();
    }
    let keys: Vec<&str> = field.map_keys().collect();
    if !keys.is_empty() {
        schema["x-kubernetes-list-map-keys"] = keys.into();
    }
    if !field.merge_key().is_empty() {
        schema["x-kubernetes-patch-merge-key"] = field.merge_key().into();
    }
    let strategy = field.patch_strategy();
    let words =
        [(strategy.merge, "merge"), (strategy.replace, "replace"), (strategy.retain_keys, "retainKeys")];
    let words: Vec<&str> = words.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect();
    if !words.is_empty() {
        schema["x-kubernetes-patch-strategy"] = words.join(",").into();
    }
}

/// What a field is when a request leaves it out: what its declaration states, or the zero value that Go always writes.
fn default(field: &Field) -> Option<Value> {
    if let Some(text) = field.static_default() {
        let constant = CONSTANTS.iter().find(|(name, _)| *name == text).map(|(_, value)| Value::from(*value));
        // What is neither JSON nor a known constant is left unsaid.
        return constant.or_else(|| serde_json::from_str(text).ok());
    }
    let is_plain = field.container() == Container::None && !field.is_pointer();
    let is_written = field.is_always_written() || field.struct_type().is_some();
    zero(field.kind()).filter(|_| is_plain && is_written)
}

/// Go's zero value, unless the type has a form of its own in JSON.
fn zero(kind: Kind) -> Option<Value> {
    match kind {
        Kind::String => Some(json!("")),
        Kind::Bool => Some(json!(false)),
        Kind::Int32 | Kind::Int64 | Kind::Float => Some(json!(0)),
        Kind::Struct(ty) => match ty.fields() {
            // A structure around a single embedded one is like that one.
            [only] if only.is_inline() => zero(only.kind()),
            _ => Some(json!({})),
        },
        _ => None,
    }
}
