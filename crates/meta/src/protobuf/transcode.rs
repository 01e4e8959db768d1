//! JSON bytes to messages with no tree between them: what is read is written at once, and put into the order of its numbers when its
//! message ends. The bytes are those that `encode` makes of the same object; what is rare is left to that. It must not know the envelope.
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;
use serde_json::value::RawValue;

use super::encode;
use super::wire::Writer;
use crate::schema::{Container, Field, Kind, TypeRef};

/// The message of an object.
///
/// # Errors
/// When the bytes are no JSON object, or one that does not fit the type.
pub(super) fn message(json: &[u8], ty: TypeRef) -> serde_json::Result<Vec<u8>> {
    let mut out = Writer::after(Vec::with_capacity(json.len()));
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Message { ty, out: &mut out }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(out.finish())
}

fn mismatch<E: de::Error>(field: &Field) -> E {
    E::custom(format_args!("field {} does not have the type that its schema says", field.name()))
}

/// The fields of a message that were written, and where.
type Written = Vec<(&'static Field, Range<usize>)>;

/// Writes a message's fields; `null` is a message without any.
struct Message<'o> {
    ty: TypeRef,
    out: &'o mut Writer,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ty.name())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        fields(self.out, self.ty, &Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { ty, out } = self;
        let start = out.len();
        let mut written = Written::with_capacity(8);
        while let Some(field) = map.next_key_seed(Name(ty))? {
            let Some(field) = field.filter(|field| field.number() > 0) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let from = out.len();
            if map.next_value_seed(Contents { field, out })? {
                written.push((field, from..out.len()));
            }
        }
        let end = out.len();
        fields(out, ty, &written)?;
        out.cut(start..end);
        Ok(())
    }
}

/// Writes the fields of a type in the order of their numbers: those that were written already, and zeros for others that are no pointers.
fn fields<E: Error>(out: &mut Writer, ty: TypeRef, written: &Written) -> Result<(), E> {
    for field in ty.fields().iter().filter(|field| field.number() > 0) {
        if let (true, Kind::Struct(inner)) = (field.is_inline(), field.kind()) {
            let start = out.len();
            fields(out, inner, written)?;
            out.wrap(field.number(), start);
        } else if let Some((_, range)) = written.iter().rev().find(|(own, _)| std::ptr::eq(*own, field)) {
            out.repeat(range.clone());
        } else if field.container() == Container::None && !field.is_pointer() {
            encode::zero(out, field).map_err(E::custom)?;
        }
    }
    Ok(())
}

/// The field that a key names.
struct Name(TypeRef);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(name))
    }
}

/// Writes all that a field holds, and says whether it holds something.
struct Contents<'o> {
    field: &'static Field,
    out: &'o mut Writer,
}

impl<'de> DeserializeSeed<'de> for Contents<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        match self.field.container() {
            Container::None => {
                let number = self.field.number();
                Single { field: self.field, number, may_lack: true, out: self.out }.deserialize(deserializer)
            }
            Container::List | Container::Map => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Contents<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name())
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let Self { field, out } = self;
        if field.container() != Container::List {
            return Err(mismatch(field));
        }
        let number = field.number();
        while items.next_element_seed(Single { field, number, may_lack: false, out: &mut *out })?.is_some() {}
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Self { field, out } = self;
        if field.container() != Container::Map {
            return Err(mismatch(field));
        }
        let start = out.len();
        let mut written: Vec<(String, Range<usize>)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let from = out.len();
            out.bytes(1, key.as_bytes());
            let may_lack = field.kind() == Kind::Bytes;
            map.next_value_seed(Single { field, number: 2, may_lack, out: &mut *out })?;
            out.wrap(field.number(), from);
            written.push((key, from..out.len()));
        }
        if !written.is_sorted_by(|one, next| one.0 < next.0) {
            // Of a key that stands there twice the last value counts.
            written.reverse();
            written.sort_by(|one, next| one.0.cmp(&next.0));
            written.dedup_by(|next, one| next.0 == one.0);
            let end = out.len();
            written.into_iter().for_each(|(_, range)| out.repeat(range));
            out.cut(start..end);
        }
        Ok(true)
    }
}

/// Writes one value of a field, and says whether there is one; `null` is none where it may be lacking, and the type's zero elsewhere.
struct Single<'o> {
    field: &'static Field,
    number: u32,
    may_lack: bool,
    out: &'o mut Writer,
}

impl<'de> DeserializeSeed<'de> for Single<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let Self { field, number, may_lack, out } = self;
        match field.kind() {
            Kind::String
            | Kind::Bool
            | Kind::Int32
            | Kind::Int64
            | Kind::Float
            | Kind::Bytes
            | Kind::Struct(_) => deserializer.deserialize_any(Self { field, number, may_lack, out }),
            Kind::RawExtension | Kind::FieldsV1 | Kind::Json => {
                let text = <&RawValue>::deserialize(deserializer)?.get();
                let (is_null, start) = (text == "null", out.len());
                if !is_null {
                    out.bytes(1, text.as_bytes());
                }
                if !(is_null && may_lack) {
                    out.wrap(number, start);
                }
                Ok(!(is_null && may_lack))
            }
            Kind::Quantity
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::IntOrString
            | Kind::StringList
            | Kind::SchemaOrArray
            | Kind::SchemaOrBool
            | Kind::SchemaOrStrings => {
                let value = Value::deserialize(deserializer)?;
                if value.is_null() && may_lack {
                    return Ok(false);
                }
                encode::single(out, field, number, &value).map_err(D::Error::custom)?;
                Ok(true)
            }
        }
    }
}

impl Single<'_> {
    fn wrong<E: Error>(&self) -> E {
        mismatch(self.field)
    }
}

impl<'de> Visitor<'de> for Single<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name())
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        if self.may_lack {
            return Ok(false);
        }
        encode::single(self.out, self.field, self.number, &Value::Null).map_err(E::custom)?;
        Ok(true)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        match self.field.kind() {
            Kind::Bool => self.out.varint(self.number, value.into()),
            _ => return Err(self.wrong()),
        }
        Ok(true)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        match self.field.kind() {
            Kind::Int32 | Kind::Int64 => self.out.varint(self.number, value),
            #[allow(clippy::cast_precision_loss)] // What a tree gives, too.
            Kind::Float => self.out.double(self.number, value as f64),
            _ => return Err(self.wrong()),
        }
        Ok(true)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match (self.field.kind(), i64::try_from(value)) {
            (Kind::Int32 | Kind::Int64, Ok(value)) => self.out.varint(self.number, value),
            #[allow(clippy::cast_precision_loss)] // What a tree gives, too.
            (Kind::Float, _) => self.out.double(self.number, value as f64),
            _ => return Err(self.wrong()),
        }
        Ok(true)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        match self.field.kind() {
            Kind::Float => self.out.double(self.number, value),
            _ => return Err(self.wrong()),
        }
        Ok(true)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        match self.field.kind() {
            Kind::String => self.out.bytes(self.number, text.as_bytes()),
            Kind::Bytes => {
                let bytes = STANDARD.decode(text).map_err(|_| self.wrong())?;
                self.out.bytes(self.number, &bytes);
            }
            _ => return Err(self.wrong()),
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let Kind::Struct(ty) = self.field.kind() else { return Err(self.wrong()) };
        let start = self.out.len();
        Message { ty, out: &mut *self.out }.visit_map(map)?;
        self.out.wrap(self.number, start);
        Ok(true)
    }
}
