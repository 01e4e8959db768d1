//! From the JSON form of a schema (`JSONSchemaProps`) to the form that is worked with. What it does not understand was refused
//! when the definition was validated, and is left out here.
use super::{Additional, Bound, Flags, ListType, Pattern, Rules, Schema, Type, formats};
use serde_json::Value;

impl Schema {
    /// Reads a schema.
    pub fn read(json: &Value) -> Self {
        let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
        let properties = read_properties(json);
        let additional = read_additional(json);
        let items =
            json.get("items").filter(|items| items.is_object()).map(|items| Box::new(Self::read(items)));
        let default = json.get("default").cloned().map(Box::new);
        let list_type = match text(json, "x-kubernetes-list-type") {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        };
        let below = || {
            let additional = match &additional {
                Additional::Schema(schema) => Some(&**schema),
                Additional::Unsaid | Additional::Allowed(_) => None,
            };
            properties.iter().map(|(_, schema)| schema).chain(items.as_deref()).chain(additional)
        };
        let flags = Flags {
            nullable: flag("nullable"),
            preserves_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            atomic_map: text(json, "x-kubernetes-map-type") == "atomic",
            defaults: default.is_some() || below().any(|schema| schema.flags.defaults),
            lists: list_type != ListType::Atomic || below().any(|schema| schema.flags.lists),
        };
        let ty = Type::parse(text(json, "type"));
        Self { ty, flags, list_type, properties, additional, items, default, rules: read_rules(json) }
    }
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn read_properties(json: &Value) -> Box<[(Box<str>, Schema)]> {
    let properties = json.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut properties: Vec<_> =
        properties.map(|(name, schema)| (name.as_str().into(), Schema::read(schema))).collect();
    properties.sort_by(|(a, _): &(Box<str>, Schema), (b, _)| a.cmp(b));
    properties.into_boxed_slice()
}

fn read_additional(json: &Value) -> Additional {
    match json.get("additionalProperties") {
        None | Some(Value::Null) => Additional::Unsaid,
        Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
        Some(schema) => Additional::Schema(Box::new(Schema::read(schema))),
    }
}

/// The keywords that are rules; a schema without any of them keeps none.
const RULES: &[&str] = &[
    "format",
    "maximum",
    "minimum",
    "multipleOf",
    "maxLength",
    "minLength",
    "maxItems",
    "minItems",
    "maxProperties",
    "minProperties",
    "uniqueItems",
    "pattern",
    "enum",
    "required",
    "x-kubernetes-list-map-keys",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
];

fn read_rules(json: &Value) -> Option<Box<Rules>> {
    if !RULES.iter().any(|name| json.get(name).is_some()) {
        return None;
    }
    let count = |name: &str| json.get(name).and_then(Value::as_i64);
    let list = |name: &str| json.get(name).and_then(Value::as_array).into_iter().flatten();
    let texts = |name: &str| list(name).filter_map(Value::as_str).map(Into::into).collect();
    let schemas = |name: &str| list(name).map(Schema::read).collect();
    let bound = |name: &str, exclusive: &str| {
        let exclusive = json.get(exclusive).and_then(Value::as_bool).unwrap_or(false);
        json.get(name).and_then(Value::as_f64).map(|value| Bound { value, exclusive })
    };
    let pattern = text(json, "pattern");
    Some(Box::new(Rules {
        format: formats::known(text(json, "format")).into(),
        maximum: bound("maximum", "exclusiveMaximum"),
        minimum: bound("minimum", "exclusiveMinimum"),
        multiple_of: json.get("multipleOf").and_then(Value::as_f64),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        unique_items: json.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false),
        pattern: (!pattern.is_empty()).then(|| Pattern::new(pattern)),
        values: list("enum").cloned().collect(),
        required: texts("required"),
        map_keys: texts("x-kubernetes-list-map-keys"),
        all_of: schemas("allOf"),
        any_of: schemas("anyOf"),
        one_of: schemas("oneOf"),
        not: json.get("not").filter(|not| not.is_object()).map(Schema::read),
    }))
}
