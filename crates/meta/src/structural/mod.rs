//! Structural schemas: what a custom resource definition says of its objects. A schema is read once from its JSON form; then it
//! validates, prunes, fills defaults and coerces embedded metadata. It must not know definitions, versions or requests.
mod coerce;
mod defaults;
mod formats;
mod lists;
mod merging;
mod pattern;
mod prune;
mod read;
mod validate;

use serde_json::Value;

pub use coerce::coerce;
pub use defaults::{fill, prune_nulls};
pub use lists::validate_lists;
pub use merging::WholeObject;
pub use pattern::{Pattern, PatternError};
pub use prune::{prune, prune_value};
pub use validate::{has_wrong_shape, validate, validate_update};

/// Which JSON types a value may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type {
    /// Nothing is said.
    #[default]
    Any,
    /// A map or a structure.
    Object,
    /// A list.
    Array,
    /// A string.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A boolean.
    Boolean,
}

impl Type {
    /// Reads the word of a schema.
    pub fn parse(text: &str) -> Self {
        match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Any,
        }
    }

    /// The word of a schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How a list merges, and which duplicates it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// As one value.
    #[default]
    Atomic,
    /// By value, each once.
    Set,
    /// By key fields, each combination once.
    Map,
}

/// What is said of properties that have no name of their own.
#[derive(Debug, Default)]
pub enum Additional {
    /// Nothing.
    #[default]
    Unsaid,
    /// They are allowed, or not.
    Allowed(bool),
    /// They have this schema.
    Schema(Box<Schema>),
}

/// A schema, or a part of one. Parts of `allOf` and its like are schemas too, which only validate.
#[derive(Debug, Default)]
pub struct Schema {
    ty: Type,
    flags: Flags,
    list_type: ListType,
    properties: Box<[(Box<str>, Schema)]>,
    additional: Additional,
    items: Option<Box<Schema>>,
    default: Option<Box<Value>>,
    rules: Option<Box<Rules>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Flags {
    nullable: bool,
    preserves_unknown: bool,
    embedded: bool,
    int_or_string: bool,
    atomic_map: bool,
    /// There are defaults here or below.
    defaults: bool,
    /// There are sets or maps among the lists here or below.
    lists: bool,
}

/// What most schemas say little of.
#[derive(Debug, Default)]
struct Rules {
    format: Box<str>,
    maximum: Option<Bound>,
    minimum: Option<Bound>,
    multiple_of: Option<f64>,
    max_length: Option<i64>,
    min_length: Option<i64>,
    max_items: Option<i64>,
    min_items: Option<i64>,
    max_properties: Option<i64>,
    min_properties: Option<i64>,
    unique_items: bool,
    pattern: Option<Pattern>,
    values: Box<[Value]>,
    required: Box<[Box<str>]>,
    map_keys: Box<[Box<str>]>,
    all_of: Box<[Schema]>,
    any_of: Box<[Schema]>,
    one_of: Box<[Schema]>,
    not: Option<Schema>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    value: f64,
    exclusive: bool,
}

impl Schema {
    /// Its type.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Whether null is a value.
    pub fn is_nullable(&self) -> bool {
        self.flags.nullable
    }

    /// Whether fields that it does not name stay.
    pub fn preserves_unknown(&self) -> bool {
        self.flags.preserves_unknown
    }

    /// Whether values are whole objects with kind, apiVersion and metadata.
    pub fn is_embedded(&self) -> bool {
        self.flags.embedded
    }

    /// Whether values are integers or strings.
    pub fn is_int_or_string(&self) -> bool {
        self.flags.int_or_string
    }

    /// Whether server-side apply takes its map as one value.
    pub fn is_atomic_map(&self) -> bool {
        self.flags.atomic_map
    }

    /// How its list merges.
    pub fn list_type(&self) -> ListType {
        self.list_type
    }

    /// The key fields of a list of type map.
    pub fn map_keys(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rules| rules.map_keys.iter()).map(|key| &**key)
    }

    /// The properties by name.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &Schema)> {
        self.properties.iter().map(|(name, schema)| (&**name, schema))
    }

    /// The schema of a named property.
    pub fn property(&self, name: &str) -> Option<&Schema> {
        let found = self.properties.binary_search_by(|(own, _)| (**own).cmp(name));
        // Not being there is the answer.
        found.ok().map(|at| &self.properties[at].1)
    }

    /// What is said of properties without a name of their own.
    pub fn additional(&self) -> &Additional {
        &self.additional
    }

    /// The schema of a property, named or not.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.property(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::Unsaid | Additional::Allowed(_) => None,
        })
    }

    /// The schema of list items.
    pub fn items(&self) -> Option<&Schema> {
        self.items.as_deref()
    }

    /// The default value.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_deref()
    }
}
