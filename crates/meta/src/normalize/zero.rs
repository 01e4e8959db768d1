//! What Go's zero values look like in JSON, and how Go names types. It must not walk documents.
use serde_json::{Map, Value};

use crate::schema::{Container, Field, Kind, TypeRef};

/// Writes what Go writes for the fields that are missing: required zero values and all structures that are no pointers.
pub(super) fn fill(fields: &mut Map<String, Value>, ty: TypeRef) {
    for field in ty.json_fields() {
        if fields.get(field.name()).is_some_and(|value| !value.is_null()) {
            continue;
        }
        if let Some(zero) = written(field) {
            fields.insert(field.name().to_owned(), zero);
        }
    }
}

/// What Go writes for a field that was not set.
fn written(field: &Field) -> Option<Value> {
    if field.omits_zero() {
        return None;
    }
    let always = field.is_always_written();
    if field.container() != Container::None || field.is_pointer() {
        return always.then_some(Value::Null);
    }
    match field.kind() {
        // Go's omitempty does not reach structures, and these are some.
        Kind::Struct(ty) => {
            let mut fields = Map::new();
            fill(&mut fields, ty);
            Some(Value::Object(fields))
        }
        Kind::Time | Kind::MicroTime | Kind::RawExtension | Kind::Json => Some(Value::Null),
        Kind::Quantity => Some(Value::from("0")),
        Kind::IntOrString => Some(Value::from(0)),
        Kind::Duration => Some(Value::from("0s")),
        Kind::Bytes | Kind::StringList => always.then_some(Value::Null),
        kind => always.then(|| element(kind)),
    }
}

/// The zero value of an item of a list or map.
pub(super) fn element(kind: Kind) -> Value {
    match kind {
        Kind::String => Value::from(""),
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Float | Kind::IntOrString => Value::from(0),
        Kind::Quantity => Value::from("0"),
        Kind::Duration => Value::from("0s"),
        Kind::Struct(ty) => {
            let mut fields = Map::new();
            fill(&mut fields, ty);
            Value::Object(fields)
        }
        Kind::Bytes
        | Kind::Time
        | Kind::MicroTime
        | Kind::RawExtension
        | Kind::FieldsV1
        | Kind::Json
        | Kind::StringList
        | Kind::SchemaOrArray
        | Kind::SchemaOrBool
        | Kind::SchemaOrStrings => Value::Null,
    }
}

/// Whether Go's omitempty leaves the value out.
pub(super) fn is_empty_scalar(field: &Field, value: &Value) -> bool {
    match field.kind() {
        Kind::String | Kind::Bytes => value.as_str() == Some(""),
        Kind::Bool => value == &Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Float => value.as_f64() == Some(0.0),
        Kind::StringList => value.as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}

/// How Go names the type of a field's values, or of the field with its containers.
pub(super) fn go_type(field: &Field, whole: bool) -> String {
    let single = match field.kind() {
        Kind::Struct(ty) => go_struct(ty),
        Kind::Quantity => "resource.Quantity".to_owned(),
        Kind::Time => "v1.Time".to_owned(),
        Kind::SchemaOrArray => "v1.JSONSchemaPropsOrArray".to_owned(),
        Kind::SchemaOrBool => "v1.JSONSchemaPropsOrBool".to_owned(),
        Kind::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".to_owned(),
        _ => field.go_type().to_owned(),
    };
    match field.container() {
        Container::List if whole => format!("[]{single}"),
        Container::Map if whole && field.kind() == Kind::Quantity => "v1.ResourceList".to_owned(),
        Container::Map if whole => format!("map[string]{single}"),
        _ => single,
    }
}

/// How Go names a structure.
pub(super) fn go_struct(ty: TypeRef) -> String {
    format!("{}.{}", ty.version(), ty.name())
}
