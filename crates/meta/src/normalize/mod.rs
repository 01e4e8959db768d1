//! Brings a decoded tree into the form that upstream's typed objects have: types are checked, unknown fields dropped and reported, nulls
//! and zero values left out or written as Go does, quantities and times made canonical. It must not know defaults or rules of kinds.
mod error;
mod scalar;
mod zero;

use serde_json::Value;

use crate::json::{Decoded, Place};
use crate::schema::{Container, Field, Kind, TypeRef, lookup_type};

pub use error::{DecodeError, StrictIssue, strict_error};

/// How many strict issues are reported.
pub const MAX_ISSUES: usize = 100;

/// What is done with zero values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As Go encodes them: optional ones are left out, required ones and structures are written. What is stored and served.
    Full,
    /// They stay as they are, for documents that say only a part: apply configurations and patches.
    Sparse,
}

/// Brings the tree into the form of the type. Fields that the type does not have are dropped, and returned in the order of the tree.
pub fn normalize(value: &mut Value, ty: TypeRef, mode: Mode) -> Result<Vec<StrictIssue>, DecodeError> {
    let mut walker = Walker { mode, issues: Vec::new(), names: Vec::new() };
    if !value.is_object() {
        return Err(DecodeError::value(value, zero::go_struct(ty)));
    }
    walker.structure(value, ty, &Place::Root)?;
    Ok(walker.issues)
}

/// Brings a tree that was just read into the form of the type; fields that stood in it twice come first among the issues.
pub fn normalize_decoded(
    decoded: Decoded,
    ty: TypeRef,
    mode: Mode,
) -> Result<(Value, Vec<StrictIssue>), DecodeError> {
    let Decoded { mut value, duplicates } = decoded;
    let mut issues: Vec<_> = duplicates.into_iter().map(StrictIssue::DuplicateField).collect();
    issues.extend(normalize(&mut value, ty, mode)?);
    issues.truncate(MAX_ISSUES);
    Ok((value, issues))
}

/// Writes the zero values that Go writes where fields are missing, after something was removed from a normalised tree.
pub fn fill(value: &mut Value, ty: TypeRef) {
    if let Value::Object(fields) = value {
        zero::fill(fields, ty);
    }
}

struct Walker {
    mode: Mode,
    issues: Vec<StrictIssue>,
    /// The JSON names of the fields on the way, which Go's errors show.
    names: Vec<&'static str>,
}

/// What is being decoded, as Go's errors name it.
#[derive(Clone, Copy)]
struct Target<'a> {
    owner: TypeRef,
    field: &'a Field,
}

/// Whether a field stays in the tree.
type Kept = Result<bool, DecodeError>;

impl Walker {
    fn full(&self) -> bool {
        self.mode == Mode::Full
    }

    fn structure(&mut self, value: &mut Value, ty: TypeRef, at: &Place<'_>) -> Result<(), DecodeError> {
        let Value::Object(fields) = value else { return Ok(()) };
        let mut failure = None;
        fields.retain(|name, value| {
            if failure.is_some() {
                return true;
            }
            self.member(name, value, ty, at).unwrap_or_else(|error| {
                failure = Some(error);
                true
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        if self.full() {
            zero::fill(fields, ty);
        }
        Ok(())
    }

    fn member(&mut self, name: &str, value: &mut Value, ty: TypeRef, at: &Place<'_>) -> Kept {
        if ty.is_kind() && matches!(name, "kind" | "apiVersion") {
            return self.type_meta(name, value, ty);
        }
        let Some(field) = ty.field(name) else {
            if self.issues.len() < MAX_ISSUES {
                self.issues.push(StrictIssue::UnknownField(Place::Field(at, name).to_string()));
            }
            return Ok(false);
        };
        self.names.push(field.name());
        let kept = self.field(Target { owner: ty, field }, value, &Place::Field(at, name));
        self.names.pop();
        kept
    }

    fn type_meta(&mut self, name: &str, value: &Value, ty: TypeRef) -> Kept {
        match value {
            Value::Null => Ok(false),
            Value::String(text) => Ok(!text.is_empty() || !self.full()),
            other => {
                let name = if name == "kind" { "kind" } else { "apiVersion" };
                self.names.push(name);
                let error = DecodeError::field(other, ty, &self.names, "string".to_owned());
                self.names.pop();
                Err(error)
            }
        }
    }

    fn field(&mut self, target: Target<'_>, value: &mut Value, at: &Place<'_>) -> Kept {
        match target.field.container() {
            Container::None => self.single(target, value, at),
            Container::List => self.list(target, value, at),
            Container::Map => self.map(target, value, at),
        }
    }

    fn list(&mut self, target: Target<'_>, value: &mut Value, at: &Place<'_>) -> Kept {
        let written = target.field.is_always_written() && self.full();
        match value {
            Value::Null => Ok(written),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.element(target, item, &Place::Item(at, index))?;
                }
                Ok(self.keep_container(items.is_empty(), written, value))
            }
            other => Err(self.mismatch(target, other, true)),
        }
    }

    fn map(&mut self, target: Target<'_>, value: &mut Value, at: &Place<'_>) -> Kept {
        let written = target.field.is_always_written() && self.full();
        match value {
            Value::Null => Ok(written),
            Value::Object(entries) => {
                for (key, entry) in entries.iter_mut() {
                    self.element(target, entry, &Place::Field(at, key))?;
                }
                Ok(self.keep_container(entries.is_empty(), written, value))
            }
            other => Err(self.mismatch(target, other, true)),
        }
    }

    /// An empty list or map is nil once it was stored.
    fn keep_container(&self, empty: bool, written: bool, value: &mut Value) -> bool {
        if !empty || !self.full() {
            return true;
        }
        *value = Value::Null;
        written
    }

    /// An item of a list or map is always there; a null is its zero value.
    fn element(&mut self, target: Target<'_>, value: &mut Value, at: &Place<'_>) -> Result<(), DecodeError> {
        if value.is_null() {
            *value = zero::element(target.field.kind());
            return Ok(());
        }
        self.content(target, value, at)
    }

    fn single(&mut self, target: Target<'_>, value: &mut Value, at: &Place<'_>) -> Kept {
        let field = target.field;
        if value.is_null() {
            // What Go writes for it is filled in behind all fields.
            return Ok(field.is_always_written() && field.is_pointer() && self.full());
        }
        self.content(target, value, at)?;
        let leave_out = self.full()
            && !field.is_pointer()
            && !field.is_always_written()
            && zero::is_empty_scalar(field, value);
        Ok(!leave_out)
    }

    fn content(&mut self, target: Target<'_>, value: &mut Value, at: &Place<'_>) -> Result<(), DecodeError> {
        match target.field.kind() {
            Kind::Struct(ty) if value.is_object() => self.structure(value, ty, at),
            Kind::Struct(_) => Err(self.mismatch(target, value, false)),
            Kind::SchemaOrArray => self.schema_or(target, value, at, |value| value.is_array()),
            Kind::SchemaOrBool => self.schema_or(target, value, at, |value| value.is_boolean()),
            Kind::SchemaOrStrings => self.schema_or(target, value, at, |value| value.is_array()),
            Kind::StringList => self.string_list(target, value),
            _ => scalar::check(self, target, value),
        }
    }

    /// JSON schemas have places where something else than a schema may stand.
    fn schema_or(
        &mut self,
        target: Target<'_>,
        value: &mut Value,
        at: &Place<'_>,
        is_other: fn(&Value) -> bool,
    ) -> Result<(), DecodeError> {
        let ty = lookup_type("apiextensions/v1", "JSONSchemaProps")
            .expect("the table has the type of JSON schemas");
        if value.is_object() {
            return self.structure(value, ty, at);
        }
        if !is_other(value) {
            return Err(self.mismatch(target, value, false));
        }
        let Value::Array(items) = value else { return Ok(()) };
        for (index, item) in items.iter_mut().enumerate() {
            match (target.field.kind(), &*item) {
                (Kind::SchemaOrArray, Value::Object(_)) => {
                    self.structure(item, ty, &Place::Item(at, index))?
                }
                (Kind::SchemaOrStrings, Value::String(_)) => {}
                _ => return Err(self.mismatch(target, item, false)),
            }
        }
        Ok(())
    }

    fn string_list(&mut self, target: Target<'_>, value: &mut Value) -> Result<(), DecodeError> {
        let Value::Array(items) = value else { return Err(self.mismatch(target, value, false)) };
        match items.iter().find(|item| !item.is_string()) {
            Some(item) => Err(DecodeError::field(item, target.owner, &self.names, "string".to_owned())),
            None => Ok(()),
        }
    }

    /// The value does not fit; `whole` says that it stands for the containers of the field, too.
    fn mismatch(&self, target: Target<'_>, value: &Value, whole: bool) -> DecodeError {
        DecodeError::field(value, target.owner, &self.names, zero::go_type(target.field, whole))
    }
}

#[cfg(test)]
mod tests;
