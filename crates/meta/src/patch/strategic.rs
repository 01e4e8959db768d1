//! Strategic merge patches: a merge that knows from the type which lists merge, by which key, and in which order their items stand. It
//! must not check what comes out.
mod list;
mod order;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::object::Object;
use crate::schema::{Container, Field, Kind, PatchStrategy, TypeRef};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Why a patch cannot be applied, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// The patch is no object.
    #[error("invalid JSON document")]
    NotAnObject,
    /// An item of a list has no value to match it by.
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item, as Go prints it.
        map: String,
        /// The key.
        key: String,
    },
    /// A directive says something that it cannot say.
    #[error("unknown patch type: {directive} in map: {map}")]
    UnknownDirective {
        /// What it says.
        directive: String,
        /// Where it stands, as Go prints it.
        map: String,
    },
    /// The type has no such field.
    #[error("unable to find api field in struct {owner} for the json field {}", crate::field::quote(field))]
    UnknownField {
        /// The type.
        owner: String,
        /// The field.
        field: String,
    },
    /// A directive asks to merge a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    /// A list that is to be merged holds objects and has no key.
    #[error("cannot merge lists without merge key for type {0}")]
    NoKeyDeclared(String),
    /// A list holds lists.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// A list holds values of several types.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// `$deleteFromPrimitiveList` has the wrong form.
    #[error("invalid patch format of primitive list")]
    DeleteFromList,
    /// `$setElementOrder` has the wrong form.
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    /// `$retainKeys` has the wrong form, or the patch sets a key that it does not name.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// The patch has its items in another order than `$setElementOrder`.
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch {
        /// The items of the patch, as Go prints them.
        patch: String,
        /// The order, as Go prints it.
        order: String,
    },
    /// Something has another type than the merge needs.
    #[error("expected a {expected}, but received a {received}")]
    BadType {
        /// Go's name of what is needed.
        expected: &'static str,
        /// Go's name of what is there.
        received: &'static str,
    },
}

type Merged<T = ()> = Result<T, StrategicError>;

/// What is known of a value on the way down.
#[derive(Clone, Copy)]
enum Shape {
    /// It is of a type with fields.
    Type(TypeRef),
    /// Its fields are the entries of a map.
    Entries(&'static Field),
    /// Nothing is known: any JSON may stand there.
    Opaque(&'static str),
}

/// How a field merges, and the shape of its value or of its items.
struct Plan {
    shape: Shape,
    strategy: PatchStrategy,
    merge_key: &'static str,
}

impl Shape {
    fn of(field: &'static Field) -> Self {
        match (field.container(), field.kind()) {
            (Container::Map, _) => Self::Entries(field),
            (_, kind) => Self::of_kind(kind),
        }
    }

    fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Struct(ty) => Self::Type(ty),
            Kind::FieldsV1 => Self::Opaque("FieldsV1"),
            Kind::Json => Self::Opaque("JSON"),
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
                Self::Opaque("JSONSchemaProps")
            }
            _ => Self::Opaque("RawExtension"),
        }
    }

    fn plan(self, name: &str) -> Merged<Plan> {
        let plain = |shape| Plan { shape, strategy: PatchStrategy::default(), merge_key: "" };
        let unknown =
            |owner: &str| StrategicError::UnknownField { owner: owner.to_owned(), field: name.to_owned() };
        match self {
            Self::Type(ty) => {
                let field = ty.field(name).ok_or_else(|| unknown(ty.name()))?;
                Ok(Plan {
                    shape: Self::of(field),
                    strategy: field.patch_strategy(),
                    merge_key: field.merge_key(),
                })
            }
            Self::Entries(field) => Ok(plain(Self::of_kind(field.kind()))),
            Self::Opaque(owner) => Err(unknown(owner)),
        }
    }
}

/// Merges the patch into an object of the type.
pub fn apply(document: &mut Value, patch: Value, ty: TypeRef) -> Merged {
    let Value::Object(patch) = patch else { return Err(StrategicError::NotAnObject) };
    let original = match std::mem::take(document) {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        _ => return Err(StrategicError::NotAnObject),
    };
    *document = Value::Object(merge_maps(original, patch, Shape::Type(ty))?);
    Ok(())
}

fn merge_maps(mut original: Object, mut patch: Object, shape: Shape) -> Merged<Object> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::merge_ordered_lists(&mut original, &mut patch, shape)?;
    for (name, value) in patch {
        merge_field(&mut original, &name, value, shape)?;
    }
    Ok(original)
}

fn unknown_directive(directive: &Value, mut map: Object) -> StrategicError {
    map.insert(PATCH.to_owned(), directive.clone());
    StrategicError::UnknownDirective { directive: go_value(directive), map: go_value(&Value::Object(map)) }
}

fn merge_field(original: &mut Object, name: &str, patch: Value, shape: Shape) -> Merged {
    let deleted = name.strip_prefix(DELETE_FROM_LIST);
    let name = deleted.unwrap_or(name);
    if name.is_empty() {
        return Err(StrategicError::DeleteFromList);
    }
    if patch.is_null() {
        original.remove(name);
        return Ok(());
    }
    // A null in the original is as good as nothing.
    let current = original.remove(name).filter(|current| !current.is_null());
    let merged = match (current, patch) {
        (Some(Value::Object(fields)), Value::Object(patch)) => {
            let plan = shape.plan(name)?;
            if plan.strategy.replace {
                Some(Value::Object(patch))
            } else {
                Some(Value::Object(merge_maps(fields, patch, plan.shape)?))
            }
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            let plan = shape.plan(name)?;
            Some(Value::Array(list::merge(items, patch, &plan, deleted.is_some())?))
        }
        // There is nothing to delete from.
        (current, _) if deleted.is_some() => current,
        (_, fresh) => without_directives(fresh),
    };
    original.extend(merged.map(|merged| (name.to_owned(), merged)));
    Ok(())
}

/// A list of keys that may stay: others are cleared before the rest of the patch is merged.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Merged {
    let Some(kept) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = kept else { return Err(StrategicError::RetainKeys) };
    let is_kept = |name: &str| kept.iter().any(|kept| kept.as_str() == Some(name));
    if patch.iter().any(|(name, value)| !value.is_null() && !is_list_directive(name) && !is_kept(name)) {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|name, _| is_kept(name));
    Ok(())
}

/// What is added as it is must not carry nulls or directives into the object; an object that says `$patch` is not added at all.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => {
            let kept =
                fields.into_iter().filter(|(name, value)| !is_list_directive(name) && !value.is_null());
            Some(Value::Object(
                kept.filter_map(|(name, value)| Some((name, without_directives(value)?))).collect(),
            ))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        scalar => Some(scalar),
    }
}

fn is_list_directive(name: &str) -> bool {
    name == RETAIN_KEYS || name.starts_with(SET_ORDER) || name.starts_with(DELETE_FROM_LIST)
}

/// As Go's `%v` prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut entries: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
            entries.sort_unstable();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's name of the type that a JSON value becomes.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
