//! A schema of a custom resource for tests, read from the JSON that a definition has.
use serde_json::Value;

use crate::apply::{Atom, Keys, List, Map, Node, Relation, Scalar, Structural};
use crate::object;

/// A part of a schema, with its parts owned.
pub struct Schema {
    json: Value,
    keys: Vec<String>,
    fields: Vec<(String, Schema)>,
    item: Option<Box<Schema>>,
    rest: Option<Box<Schema>>,
}

impl Schema {
    pub fn new(json: &Value) -> Self {
        let part =
            |name: &str| json.get(name).filter(|part| part.is_object()).map(|part| Box::new(Self::new(part)));
        let fields = object::get_object(json, &["properties"]);
        Self {
            keys: object::get_strings(json, &["x-kubernetes-list-map-keys"])
                .into_iter()
                .map(str::to_owned)
                .collect(),
            fields: fields.iter().map(|(name, part)| (name.clone(), Self::new(part))).collect(),
            item: part("items"),
            rest: part("additionalProperties"),
            json: json.clone(),
        }
    }

    fn text(&self, name: &str) -> &str {
        object::get_str(&self.json, &[name])
    }

    fn list(&self) -> Option<List<'_>> {
        let relation = match self.text("x-kubernetes-list-type") {
            "set" => Relation::Set,
            "map" => Relation::Map(Keys::Custom(&self.keys)),
            _ => Relation::Atomic,
        };
        Some(List { relation, item: Node::Custom(self.item.as_deref()?) })
    }
}

impl Structural for Schema {
    fn atom(&self) -> Atom<'_> {
        match self.text("type") {
            "string" => Atom::scalar(Scalar::String),
            "integer" | "number" => Atom::scalar(Scalar::Numeric),
            "boolean" => Atom::scalar(Scalar::Boolean),
            "array" => Atom { list: self.list(), ..Atom::default() },
            "object" => {
                let open = self.fields.is_empty() && self.rest.is_none();
                let rest = match &self.rest {
                    Some(rest) => Some(Node::Custom(&**rest)),
                    None => open.then_some(Node::Deduced),
                };
                Atom::map(Map::custom(self, rest, self.text("x-kubernetes-map-type") == "atomic"))
            }
            _ => Node::Deduced.atom(),
        }
    }

    fn field(&self, name: &str) -> Option<Node<'_>> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, part)| Node::Custom(part))
    }

    fn default(&self, name: &str) -> Option<Value> {
        self.fields
            .iter()
            .find(|(own, _)| own == name)
            .and_then(|(_, part)| part.json.get("default").cloned())
    }
}
