//! Why a strategic merge patch cannot be applied, in upstream's words. It must not know how patches are merged.
use serde_json::Value;

use crate::go;
use crate::object::Object;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// The patch is no object.
    #[error("json: cannot unmarshal {0} into Go value of type map[string]interface {{}}")]
    NotAnObject(&'static str),
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
    /// The type has no fields.
    #[error("merging an object in json but data type is not struct, instead is: {0}")]
    NoFields(&'static str),
    /// An order is stated for what is no list.
    #[error("expected slice or array type, but got: struct")]
    NotAList,
    /// A directive asks to merge a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    /// A list that is to be merged holds objects and has no key.
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(&'static str),
    /// A list holds lists.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// A list holds values of several types.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// Nothing is there to be put into order.
    #[error("no elements in any of the given slices")]
    NoElements,
    /// An order names things that have no key.
    #[error("value for key {0} is not a map.")]
    NotAMap(usize),
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

pub(super) type Merged<T = ()> = Result<T, StrategicError>;

impl StrategicError {
    pub(super) fn unknown_directive(directive: &Value, map: &Object) -> Self {
        Self::UnknownDirective { directive: go::text(directive), map: shown(map) }
    }

    pub(super) fn no_merge_key(map: &Object, key: &str) -> Self {
        Self::NoMergeKey { map: shown(map), key: key.to_owned() }
    }

    pub(super) fn no_map(value: &Value) -> Self {
        Self::BadType { expected: "map[string]interface {}", received: received(value) }
    }

    pub(super) fn no_list(value: &Value) -> Self {
        Self::BadType { expected: "[]interface {}", received: received(value) }
    }
}

fn shown(map: &Object) -> String {
    go::value(&Value::Object(map.clone()))
}

fn received(value: &Value) -> &'static str {
    if value.is_null() { "%!s(<nil>)" } else { go::type_name(value) }
}
