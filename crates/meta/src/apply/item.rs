//! By which element an item of a list is found. It must not know what becomes of the item.
use serde_json::Value;

use super::element::PathElement;
use super::node::{List, Relation};

/// The element of an item; the error is upstream's text.
pub(super) fn element(list: &List<'_>, item: &Value) -> Result<PathElement, String> {
    match list.relation {
        Relation::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        Relation::Set => of_value(item),
        Relation::Map(keys) => {
            let mut fields = Vec::new();
            for name in keys.names() {
                fields.push((name.to_owned(), key(list, item, name)?));
            }
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            Ok(PathElement::Key(fields))
        }
    }
}

fn of_value(item: &Value) -> Result<PathElement, String> {
    let refused = match item {
        Value::Object(_) => "associative list without keys has an element that's a map type",
        Value::Array(_) => "not supported: associative list with lists as elements",
        Value::Null => "associative list without keys has an element that's an explicit null",
        scalar => return Ok(PathElement::Value(scalar.clone())),
    };
    Err(refused.to_owned())
}

fn key(list: &List<'_>, item: &Value, name: &str) -> Result<Value, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    if let Some(value) = fields.get(name) {
        return Ok(value.clone());
    }
    let Some(map) = list.item.atom().map else {
        return Err(format!(
            "couldn't find default value for {name}: associative list may not have non-map types"
        ));
    };
    map.default(name).ok_or_else(|| {
        let name = crate::field::quote(name);
        format!("associative list with keys has an element that omits key field {name} (and doesn't have default value)")
    })
}
