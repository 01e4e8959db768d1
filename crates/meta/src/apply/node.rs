//! How the values of a type merge: what a value may be, which fields it has, and what is taken as one. Built-in types answer from the
//! generated table, custom resources through [`Structural`]. It must not know values.
use serde_json::Value;

use crate::schema::{Container, Field, Kind, ListType, TypeRef};

/// A place in a schema: a type, or a field of one.
#[derive(Clone, Copy)]
pub enum Node<'s> {
    /// A type with fields.
    Type(TypeRef),
    /// A field of a built-in type.
    Field(&'static Field),
    /// A value in the list or map that a field is.
    Item(&'static Field),
    /// A string.
    Text,
    /// Anything; maps merge by their keys, lists are one value.
    Deduced,
    /// Anything, as one value.
    Opaque,
    /// A schema of a custom resource.
    Custom(&'s dyn Structural),
}

/// A schema of a custom resource, or a part of one.
pub trait Structural: Sync {
    /// What its values may be and how they merge. The fields of its map are [`Map::custom`] of itself.
    fn atom(&self) -> Atom<'_>;

    /// The schema of a field that it declares.
    fn field(&self, name: &str) -> Option<Node<'_>>;

    /// The default of a field that it declares.
    fn default(&self, name: &str) -> Option<Value>;
}

/// What a value may be. Several may be set: then the value decides.
#[derive(Clone, Copy, Default)]
pub struct Atom<'s> {
    /// Text, number or boolean.
    pub scalar: Option<Scalar>,
    /// A list.
    pub list: Option<List<'s>>,
    /// A map or a structure.
    pub map: Option<Map<'s>>,
}

/// A kind of scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Whole or not.
    Numeric,
    /// Text.
    String,
    /// Truth.
    Boolean,
    /// Any of them.
    Untyped,
}

/// A list.
#[derive(Clone, Copy)]
pub struct List<'s> {
    /// How its items belong together.
    pub relation: Relation<'s>,
    /// The schema of an item.
    pub item: Node<'s>,
}

/// How the items of a list belong together.
#[derive(Clone, Copy)]
pub enum Relation<'s> {
    /// The list is one value.
    Atomic,
    /// Items are told apart by their value.
    Set,
    /// Items are told apart by these fields.
    Map(Keys<'s>),
}

/// The key fields of a list.
#[derive(Clone, Copy)]
pub enum Keys<'s> {
    /// Those of a built-in field.
    Field(&'static Field),
    /// Those of a custom resource's list.
    Custom(&'s [Box<str>]),
}

/// A map or a structure.
#[derive(Clone, Copy)]
pub struct Map<'s> {
    /// Whether it is one value.
    pub atomic: bool,
    /// The schema of what is not declared; none where that is not allowed.
    pub rest: Option<Node<'s>>,
    fields: Fields<'s>,
}

#[derive(Clone, Copy)]
enum Fields<'s> {
    None,
    Type(TypeRef),
    Custom(&'s dyn Structural),
}

impl<'s> Keys<'s> {
    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'s str> {
        let (field, custom): (Option<&'static Field>, &'s [Box<str>]) = match self {
            Self::Field(field) => (Some(field), &[]),
            Self::Custom(names) => (None, names),
        };
        field
            .into_iter()
            .flat_map(Field::map_keys)
            .map(|name| -> &'s str { name })
            .chain(custom.iter().map(|name| &**name))
    }
}

impl<'s> Map<'s> {
    /// A map whose declared fields are those of the schema.
    pub fn custom(schema: &'s dyn Structural, rest: Option<Node<'s>>, atomic: bool) -> Self {
        Self { atomic, rest, fields: Fields::Custom(schema) }
    }

    /// A map without declared fields.
    pub fn of(rest: Node<'s>, atomic: bool) -> Self {
        Self { atomic, rest: Some(rest), fields: Fields::None }
    }

    fn of_type(ty: TypeRef, atomic: bool) -> Self {
        // A structure without fields is published as an object of which nothing is said.
        let empty = !ty.is_kind() && ty.json_fields().next().is_none();
        Self { atomic, rest: empty.then_some(Node::Deduced), fields: Fields::Type(ty) }
    }

    /// The schema of a declared field.
    pub fn field(self, name: &str) -> Option<Node<'s>> {
        match self.fields {
            Fields::None => None,
            Fields::Type(ty) if ty.is_kind() && matches!(name, "kind" | "apiVersion") => Some(Node::Text),
            Fields::Type(ty) => ty.field(name).map(Node::Field),
            Fields::Custom(schema) => schema.field(name),
        }
    }

    /// The schema of a field or key, if it is allowed.
    pub fn member(self, name: &str) -> Option<Node<'s>> {
        self.field(name).or(self.rest)
    }

    /// The default of a declared field.
    pub fn default(self, name: &str) -> Option<Value> {
        match self.fields {
            Fields::None => None,
            // The table has defaults in their JSON form.
            Fields::Type(ty) => serde_json::from_str(ty.field(name)?.static_default()?).ok(),
            Fields::Custom(schema) => schema.default(name),
        }
    }

    /// Whether nothing is declared and anything may stand there.
    pub(super) fn is_deduced(self) -> bool {
        matches!((self.fields, self.rest), (Fields::None, Some(Node::Deduced)))
    }
}

impl<'s> Atom<'s> {
    /// A scalar.
    pub fn scalar(scalar: Scalar) -> Self {
        Self { scalar: Some(scalar), ..Self::default() }
    }

    /// A list.
    pub fn list(relation: Relation<'s>, item: Node<'s>) -> Self {
        Self { list: Some(List { relation, item }), ..Self::default() }
    }

    /// A map.
    pub fn map(map: Map<'s>) -> Self {
        Self { map: Some(map), ..Self::default() }
    }

    /// What is left when the value is known. A null, or a value of another kind, leaves everything.
    pub(super) fn deduce(self, value: Option<&Value>) -> Self {
        match value {
            Some(Value::Number(_) | Value::String(_) | Value::Bool(_)) if self.scalar.is_some() => {
                Self { scalar: self.scalar, ..Self::default() }
            }
            Some(Value::Array(_)) if self.list.is_some() => Self { list: self.list, ..Self::default() },
            Some(Value::Object(_)) if self.map.is_some() => Self { map: self.map, ..Self::default() },
            _ => self,
        }
    }

    /// Whether the same kinds of values are left, of two that were deduced from one.
    pub(super) fn same_kinds(&self, other: &Self) -> bool {
        let kinds = |atom: &Self| (atom.scalar.is_some(), atom.list.is_some(), atom.map.is_some());
        kinds(self) == kinds(other)
    }
}

impl<'s> Node<'s> {
    /// What its values may be.
    pub fn atom(self) -> Atom<'s> {
        match self {
            Self::Type(ty) => Atom::map(Map::of_type(ty, ty.is_atomic())),
            Self::Field(field) => of_field(field),
            Self::Item(field) => of_kind(field.kind(), false),
            Self::Text => Atom::scalar(Scalar::String),
            Self::Deduced => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(List { relation: Relation::Atomic, item: Self::Opaque }),
                map: Some(Map::of(Self::Deduced, false)),
            },
            Self::Opaque => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(List { relation: Relation::Atomic, item: Self::Opaque }),
                map: Some(Map::of(Self::Opaque, true)),
            },
            Self::Custom(schema) => schema.atom(),
        }
    }
}

fn of_field<'s>(field: &'static Field) -> Atom<'s> {
    match field.container() {
        Container::None => of_kind(field.kind(), field.is_atomic()),
        Container::Map => Atom::map(Map::of(Node::Item(field), field.is_atomic())),
        Container::List => {
            let relation = match field.list_type() {
                ListType::Atomic => Relation::Atomic,
                ListType::Set => Relation::Set,
                ListType::Map => Relation::Map(Keys::Field(field)),
            };
            Atom::list(relation, Node::Item(field))
        }
    }
}

fn of_kind<'s>(kind: Kind, atomic: bool) -> Atom<'s> {
    match kind {
        Kind::String | Kind::Bytes | Kind::Duration => Atom::scalar(Scalar::String),
        Kind::Bool => Atom::scalar(Scalar::Boolean),
        Kind::Int32 | Kind::Int64 | Kind::Float => Atom::scalar(Scalar::Numeric),
        Kind::Quantity | Kind::Time | Kind::MicroTime | Kind::IntOrString => Atom::scalar(Scalar::Untyped),
        Kind::RawExtension => Node::Opaque.atom(),
        Kind::FieldsV1 => Atom::map(Map::of(Node::Deduced, atomic)),
        Kind::Json | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => Node::Deduced.atom(),
        Kind::StringList => Atom::list(Relation::Atomic, Node::Text),
        Kind::Struct(ty) => Atom::map(Map::of_type(ty, atomic || ty.is_atomic())),
    }
}
