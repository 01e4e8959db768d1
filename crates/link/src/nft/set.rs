//! Sets and maps, named or inside a rule.

use super::expr::Verdict;
use super::key::{Field, Key};

/// What a map leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapData {
    /// A verdict: a jump table.
    Verdict,
    /// Values of these fields.
    Fields(Vec<Field>),
}

/// A set, or a map when it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name in its table.
    pub name: String,
    /// The fields of a key.
    pub key: Vec<Field>,
    /// What the keys lead to, for a map.
    pub data: Option<MapData>,
    /// How long an element lives that says nothing else.
    pub timeout_ms: Option<u64>,
    /// Whether rules may add elements.
    pub dynamic: bool,
    /// The most elements it may hold.
    pub size: Option<u32>,
    /// Whether elements are ranges (each with [`Element::end`]).
    pub interval: bool,
}

impl Set {
    /// A plain set.
    pub fn new(name: impl Into<String>, key: impl Into<Vec<Field>>) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            data: None,
            timeout_ms: None,
            dynamic: false,
            size: None,
            interval: false,
        }
    }

    /// A map.
    pub fn map(name: impl Into<String>, key: impl Into<Vec<Field>>, data: MapData) -> Self {
        Self { data: Some(data), ..Self::new(name, key) }
    }
}

/// The value that a key of a map leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapValue {
    /// For [`MapData::Verdict`].
    Verdict(Verdict),
    /// For [`MapData::Fields`].
    Value(Key),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key; the first of a range in an interval set.
    pub key: Key,
    /// One behind the range's last key in an interval set; None there: to the end of the space.
    pub end: Option<Key>,
    /// What it leads to, in a map.
    pub value: Option<MapValue>,
    /// How long it lives, when the set has timeouts.
    pub timeout_ms: Option<u64>,
}

impl Element {
    /// A member of a set.
    pub fn new(key: Key) -> Self {
        Self { key, end: None, value: None, timeout_ms: None }
    }

    /// An entry of a jump table.
    pub fn verdict(key: Key, verdict: Verdict) -> Self {
        Self { value: Some(MapValue::Verdict(verdict)), ..Self::new(key) }
    }

    /// An entry of a map to values.
    pub fn value(key: Key, value: Key) -> Self {
        Self { value: Some(MapValue::Value(value)), ..Self::new(key) }
    }
}
