//! What is known of the type of a value on the way down, and how a field of it merges. It must not know values.
use super::error::{Merged, StrategicError};
use crate::schema::{Container, Field, Kind, PatchStrategy, TypeRef};

/// The Go type of a value.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A type with fields.
    Struct(TypeRef),
    /// A structure that reads itself from JSON: it has a name and no fields of which a merge could know.
    Opaque(&'static str),
    /// Something else, by its `reflect.Kind`.
    Other(&'static str),
}

/// How a field merges, and the shape of its value or of its items.
pub(super) struct Plan {
    pub shape: Shape,
    pub strategy: PatchStrategy,
    pub merge_key: &'static str,
}

impl Shape {
    /// The shape of a value, or of an item of a list.
    pub(super) fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Struct(ty) => Self::Struct(ty),
            Kind::String => Self::Other("string"),
            Kind::Bool => Self::Other("bool"),
            Kind::Int32 => Self::Other("int32"),
            Kind::Int64 => Self::Other("int64"),
            Kind::Float => Self::Other("float64"),
            Kind::Bytes | Kind::StringList => Self::Other("slice"),
            Kind::Quantity => Self::Opaque("Quantity"),
            Kind::Time => Self::Opaque("Time"),
            Kind::MicroTime => Self::Opaque("MicroTime"),
            Kind::Duration => Self::Opaque("Duration"),
            Kind::IntOrString => Self::Opaque("IntOrString"),
            Kind::RawExtension => Self::Opaque("RawExtension"),
            Kind::FieldsV1 => Self::Opaque("FieldsV1"),
            Kind::Json => Self::Opaque("JSON"),
            Kind::SchemaOrArray => Self::Opaque("JSONSchemaPropsOrArray"),
            Kind::SchemaOrBool => Self::Opaque("JSONSchemaPropsOrBool"),
            Kind::SchemaOrStrings => Self::Opaque("JSONSchemaPropsOrStringArray"),
        }
    }

    /// The `reflect.Kind`.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Struct(_) | Self::Opaque(_) => "struct",
            Self::Other(kind) => kind,
        }
    }

    fn field(self, name: &str) -> Merged<&'static Field> {
        let unknown =
            |owner: &str| StrategicError::UnknownField { owner: owner.to_owned(), field: name.to_owned() };
        match self {
            Self::Struct(ty) => ty.field(name).ok_or_else(|| unknown(ty.name())),
            Self::Opaque(owner) => Err(unknown(owner)),
            Self::Other(kind) => Err(StrategicError::NoFields(kind)),
        }
    }

    /// How an object in the field merges.
    pub(super) fn map_plan(self, name: &str) -> Merged<Plan> {
        let field = self.field(name)?;
        Ok(plan(
            field,
            match field.container() {
                Container::None => Self::of_kind(field.kind()),
                Container::List => Self::Other("slice"),
                Container::Map => Self::Other("map"),
            },
        ))
    }

    /// How a list in the field merges. The shape is that of its items.
    pub(super) fn list_plan(self, name: &str) -> Merged<Plan> {
        let field = self.field(name)?;
        match (field.container(), field.kind()) {
            (Container::List, kind) => Ok(plan(field, Self::of_kind(kind))),
            (Container::None, Kind::Bytes) => Ok(plan(field, Self::Other("uint8"))),
            (Container::None, Kind::StringList) => Ok(plan(field, Self::Other("string"))),
            // What a pointer leads to is taken for an item.
            (Container::None, kind) if field.is_pointer() => Ok(plan(field, Self::of_kind(kind))),
            _ => Err(StrategicError::NotAList),
        }
    }
}

fn plan(field: &'static Field, shape: Shape) -> Plan {
    Plan { shape, strategy: field.patch_strategy(), merge_key: field.merge_key() }
}
