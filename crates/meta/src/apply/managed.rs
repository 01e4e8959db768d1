//! Who owns which fields, as an object's `managedFields` say it. It must not know schemas.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields_v1;
use super::set::Set;
use crate::object;

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By anything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields: a name, by an operation, through a subresource, and for updates in a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// The name.
    pub manager: String,
    /// How.
    pub operation: Operation,
    /// The version of an update; empty for applies, which are one in all versions.
    pub api_version: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
}

impl ManagerId {
    /// A manager; a name that is missing is `unknown`.
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: if manager.is_empty() { "unknown" } else { manager }.to_owned(),
            operation,
            api_version: if operation == Operation::Apply { String::new() } else { api_version.to_owned() },
            subresource: subresource.to_owned(),
        }
    }

    /// As refusals name it.
    pub fn shown(&self) -> String {
        let mut text = crate::field::quote(&self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {}", crate::field::quote(&self.subresource));
        }
        match self.operation {
            Operation::Apply => text,
            Operation::Update => format!("{text} using {}", self.api_version),
        }
    }
}

/// The fields of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub set: Set,
    /// The version that the set's names are of.
    pub version: String,
    /// When it changed last.
    pub time: Option<String>,
}

/// Who owns which fields of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Managed {
    pub(super) owners: BTreeMap<ManagerId, Owned>,
}

/// Why `managedFields` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeManagedError {
    /// An entry has no known operation.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// An entry has no version.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// An entry does not say what its fields are.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// An entry's fields are of an unknown type.
    #[error("invalid fieldsType {} in managed fields entry {index}", crate::field::quote(fields_type))]
    FieldsType {
        /// Which.
        index: usize,
        /// Of what type.
        fields_type: String,
    },
    /// An entry's fields cannot be read.
    #[error("error decoding versioned set from {entry}: error decoding set: {error}")]
    Fields {
        /// The entry.
        entry: String,
        /// Why.
        error: super::ReadElementError,
    },
}

/// Whether `managedFields` ask to forget every owner: an empty list, or one empty entry.
pub fn is_reset(managed_fields: Option<&Value>) -> bool {
    match managed_fields {
        Some(Value::Array(entries)) => match &entries[..] {
            [] => true,
            [only] => only.as_object().is_some_and(Map::is_empty),
            _ => false,
        },
        _ => false,
    }
}

impl Managed {
    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Every manager with the version and the set of its fields.
    pub fn owners(&self) -> impl Iterator<Item = (&ManagerId, &str, &Set)> {
        self.owners.iter().map(|(id, owned)| (id, owned.version.as_str(), &owned.set))
    }

    /// Reads the entries.
    pub fn decode(entries: &[Value]) -> Result<Self, DecodeManagedError> {
        let mut managed = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let (id, owned) = decode_entry(index, entry)?;
            managed.owners.insert(id, owned);
        }
        Ok(managed)
    }

    /// Writes the entries in upstream's order: applies before updates, then by time and name.
    pub fn encode(&self) -> Vec<Value> {
        let mut entries: Vec<_> = self.owners.iter().collect();
        entries.sort_by(|(a, own_a), (b, own_b)| {
            let key = |id: &ManagerId| (id.operation, id.manager.clone());
            let seconds = |owned: &Owned| owned.time.clone().unwrap_or_default();
            (a.operation.cmp(&b.operation))
                .then_with(|| seconds(own_a).cmp(&seconds(own_b)))
                .then_with(|| key(a).cmp(&key(b)))
                .then_with(|| own_a.version.cmp(&own_b.version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        entries.into_iter().map(|(id, owned)| encode_entry(id, owned)).collect()
    }

    pub(super) fn drop_empty(&mut self) {
        self.owners.retain(|_, owned| !owned.set.is_empty());
    }
}

fn decode_entry(index: usize, entry: &Value) -> Result<(ManagerId, Owned), DecodeManagedError> {
    let text = |name: &str| object::get_str(entry, &[name]);
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(DecodeManagedError::Operation),
    };
    let version = text("apiVersion");
    if version.is_empty() {
        return Err(DecodeManagedError::ApiVersion);
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(DecodeManagedError::NoFieldsType(index)),
        other => return Err(DecodeManagedError::FieldsType { index, fields_type: other.to_owned() }),
    }
    let set = match object::get(entry, &["fieldsV1"]) {
        None => Set::default(),
        Some(tree) => fields_v1::from_tree(tree)
            .map_err(|error| DecodeManagedError::Fields { entry: entry.to_string(), error })?,
    };
    let id = ManagerId {
        manager: text("manager").to_owned(),
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { version.to_owned() },
        subresource: text("subresource").to_owned(),
    };
    let time = object::get(entry, &["time"]).and_then(Value::as_str).map(str::to_owned);
    Ok((id, Owned { set, version: version.to_owned(), time }))
}

fn encode_entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            entry.insert(name.to_owned(), Value::from(value));
        }
    };
    put("manager", &id.manager);
    put("operation", id.operation.as_str());
    put("apiVersion", &owned.version);
    put("time", owned.time.as_deref().unwrap_or_default());
    put("fieldsType", "FieldsV1");
    put("subresource", &id.subresource);
    entry.insert("fieldsV1".to_owned(), fields_v1::to_tree(&owned.set));
    Value::Object(entry)
}
