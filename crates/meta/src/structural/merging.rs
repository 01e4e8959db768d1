//! How values of a schema merge in server-side apply. It must not know who applies.
use std::sync::Arc;

use serde_json::Value;

use super::{Additional, ListType, Schema, Type};
use crate::apply::{Atom, Keys, List, Map, Node, Relation, Scalar, Structural};
use crate::schema::lookup_type;

/// The field of an object that has a type of its own, whatever the schema says.
fn object_field<'s>(name: &str) -> Option<Node<'s>> {
    match name {
        "kind" | "apiVersion" => Some(Node::Text),
        "metadata" => lookup_type("meta/v1", "ObjectMeta").map(Node::Type),
        _ => None,
    }
}

impl Structural for Schema {
    fn atom(&self) -> Atom<'_> {
        let map = || Some(Map::custom(self, self.rest(), self.is_atomic_map()));
        match self.ty() {
            // Nothing is said: the value decides.
            Type::Any if self.properties.is_empty() => Node::Deduced.atom(),
            Type::Any | Type::Object => Atom { map: map(), ..Atom::default() },
            Type::Array => Atom { list: self.list(), ..Atom::default() },
            Type::Integer | Type::Number => Atom::scalar(Scalar::Numeric),
            Type::Boolean => Atom::scalar(Scalar::Boolean),
            Type::String => Atom::scalar(match self.rules.as_deref().map_or("", |rules| &rules.format) {
                "" | "byte" => Scalar::String,
                _ => Scalar::Untyped,
            }),
        }
    }

    fn field(&self, name: &str) -> Option<Node<'_>> {
        let embedded = self.is_embedded().then(|| object_field(name)).flatten();
        embedded.or_else(|| self.property(name).map(|schema| Node::Custom(schema)))
    }

    fn default(&self, name: &str) -> Option<Value> {
        self.property(name)?.default.as_deref().cloned()
    }
}

impl Schema {
    fn rest(&self) -> Option<Node<'_>> {
        match &self.additional {
            Additional::Schema(schema) => Some(Node::Custom(&**schema)),
            Additional::Allowed(true) => Some(Node::Deduced),
            Additional::Allowed(false) => None,
            Additional::Unsaid => {
                (self.preserves_unknown() || self.properties.is_empty()).then_some(Node::Deduced)
            }
        }
    }

    fn list(&self) -> Option<List<'_>> {
        let keys = self.rules.as_deref().map_or(&[][..], |rules| &rules.map_keys);
        let relation = match self.list_type() {
            ListType::Atomic => Relation::Atomic,
            ListType::Set => Relation::Set,
            ListType::Map => Relation::Map(Keys::Custom(keys)),
        };
        let item = self.items.as_deref().map_or(Node::Opaque, |items| Node::Custom(items));
        Some(List { relation, item })
    }
}

/// The schema of whole objects, which have metadata like all others.
#[derive(Debug, Clone)]
pub struct WholeObject(pub Arc<Schema>);

impl Structural for WholeObject {
    fn atom(&self) -> Atom<'_> {
        Atom::map(Map::custom(self, self.0.rest(), false))
    }

    fn field(&self, name: &str) -> Option<Node<'_>> {
        object_field(name).or_else(|| Structural::field(&*self.0, name))
    }

    fn default(&self, name: &str) -> Option<Value> {
        Structural::default(&*self.0, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{collect, validate};
    use serde_json::json;

    #[test]
    fn whole_objects_have_the_metadata_of_all_others() {
        let schema = WholeObject(Arc::new(Schema::read(&json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {
                "port": {"x-kubernetes-int-or-string": true},
                "when": {"type": "string", "format": "date-time"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                "closed": {"type": "object", "properties": {"a": {"type": "string"}}}}}}}))));
        let node = Node::Custom(&schema);
        let value = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"finalizers": ["a/b"], "labels": {"l": "v"}},
            "spec": {"port": "http", "when": "2026-01-01T00:00:00Z", "free": {"x": {"y": [1]}},
                "inner": {"kind": "Y", "metadata": {"finalizers": ["c/d"]}, "data": 1}, "closed": {"a": "b"}}});
        assert_eq!(validate(&value, node, false), Ok(()));
        assert_eq!(
            collect(&value, node).paths(),
            [
                ".apiVersion",
                ".kind",
                ".metadata.finalizers[=\"a/b\"]",
                ".metadata.labels.l",
                ".spec.port",
                ".spec.when",
                ".spec.closed.a",
                ".spec.free.x",
                ".spec.free.x.y",
                ".spec.inner.data",
                ".spec.inner.kind",
                ".spec.inner.metadata.finalizers[=\"c/d\"]",
            ]
        );
        let error = validate(&json!({"spec": {"closed": {"b": 1}}}), node, false).unwrap_err();
        assert_eq!(error.to_string(), ".spec.closed.b: field not declared in schema");
        let error = validate(&json!({"metadata": {"labels": []}}), node, false).unwrap_err();
        assert_eq!(error.to_string(), ".metadata.labels: expected map, got &{[]}");
    }
}
