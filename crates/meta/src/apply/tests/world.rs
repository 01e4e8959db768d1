//! One object that managers write, for tests: a tiny server with versions whose conversion renames a field.
use std::borrow::Cow;

use serde_json::{Value, json};

use crate::apply::{ApplyFailure, Filter, Managed, Node, Operation, Request, Versions, display_path};
use crate::gvk::GroupVersionKind;
use crate::object;
use crate::schema::{TypeRef, lookup_kind};
use crate::structural::Schema;

/// Where the versions of the object get their schemas from.
pub enum Schemas {
    BuiltIn(TypeRef),
    /// `v1` and `v2`, which says `renamed` for what `v1` calls `name`; a version without a schema is not served.
    Custom {
        v1: Option<Schema>,
        v2: Option<Schema>,
    },
}

impl Versions for World {
    fn node(&self, version: &str) -> Option<Node<'_>> {
        match (&self.schemas, version) {
            (Schemas::BuiltIn(ty), version) => (version == ty.gvk().api_version()).then_some(Node::Type(*ty)),
            (Schemas::Custom { v1: Some(schema), .. }, "x.io/v1") => Some(Node::Custom(schema)),
            (Schemas::Custom { v2: Some(schema), .. }, "x.io/v2") => Some(Node::Custom(schema)),
            _ => None,
        }
    }

    fn convert<'o>(
        &self,
        object: &'o Value,
        _from: &str,
        to: &str,
    ) -> Result<Option<Cow<'o, Value>>, String> {
        let mut object = object.clone();
        let (old, new) = if to == "x.io/v2" { ("name", "renamed") } else { ("renamed", "name") };
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
            && let Some(value) = spec.remove(old)
        {
            spec.insert(new.to_owned(), value);
        }
        object["apiVersion"] = to.into();
        Ok(Some(Cow::Owned(object)))
    }

    fn filter(&self, _version: &str) -> Filter {
        self.filter
    }
}

pub struct World {
    pub schemas: Schemas,
    pub filter: Filter,
    pub object: Value,
    /// Counts up with every write.
    pub clock: u32,
    pub subresource: &'static str,
}

impl World {
    pub fn of(schemas: Schemas) -> Self {
        Self { schemas, filter: Filter::ALL, object: Value::Null, clock: 0, subresource: "" }
    }

    pub fn built_in(group: &str, version: &str, kind: &str) -> Self {
        Self::of(Schemas::BuiltIn(lookup_kind(&GroupVersionKind::new(group, version, kind)).unwrap()))
    }

    /// A custom resource whose `spec` has this schema in both versions.
    pub fn custom(spec: &Value) -> Self {
        let schema = json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object"}, "spec": spec, "status": {"type": "object"}}});
        Self::of(Schemas::Custom { v1: Some(Schema::read(&schema)), v2: Some(Schema::read(&schema)) })
    }

    fn gvk(&self, object: &Value) -> GroupVersionKind {
        GroupVersionKind::of(object).unwrap()
    }

    fn empty(&self, gvk: &GroupVersionKind) -> Value {
        let mut empty = json!({"apiVersion": gvk.api_version(), "kind": gvk.kind});
        if let Schemas::BuiltIn(ty) = self.schemas {
            crate::normalize::fill(&mut empty, ty);
        }
        empty
    }

    fn live(&self, gvk: &GroupVersionKind) -> Value {
        let version = gvk.api_version();
        if self.object.is_null() {
            return self.empty(gvk);
        }
        let own = object::get_str(&self.object, &["apiVersion"]);
        if own == version {
            return self.object.clone();
        }
        self.convert(&self.object, own, &version).unwrap().unwrap().into_owned()
    }

    fn tick(&mut self) -> String {
        self.clock += 1;
        format!("2026-01-01T00:{:02}:{:02}Z", self.clock / 60, self.clock % 60)
    }

    fn store(&mut self, mut object: Value, managed_fields: Vec<Value>) {
        object["metadata"]["uid"] = "1".into();
        object["metadata"]["managedFields"] = managed_fields.into();
        self.object = object;
    }

    pub fn try_apply(&mut self, manager: &str, config: &Value, force: bool) -> Result<bool, ApplyFailure> {
        let (gvk, now) = (self.gvk(config), self.tick());
        let (live, empty) = (self.live(&gvk), self.empty(&gvk));
        let request = Request {
            manager,
            kind: &gvk,
            subresource: self.subresource,
            now: &now,
            versions: &*self,
            empty: &empty,
        };
        let applied = request.apply(&live, config, force)?;
        let changed = applied.object.is_some();
        self.store(applied.object.unwrap_or(live), applied.managed_fields);
        Ok(changed)
    }

    pub fn apply(&mut self, manager: &str, config: &Value) {
        self.try_apply(manager, config, false).unwrap();
    }

    pub fn force(&mut self, manager: &str, config: &Value) {
        self.try_apply(manager, config, true).unwrap();
    }

    /// Writes a whole object, which keeps its entries unless it has some.
    pub fn update(&mut self, manager: &str, object: &Value) {
        let (gvk, now) = (self.gvk(object), self.tick());
        let (live, empty) = (self.live(&gvk), self.empty(&gvk));
        let mut new = object.clone();
        if self.object.get("metadata").is_some() {
            new["metadata"]["uid"] = "1".into();
        }
        let request = Request {
            manager,
            kind: &gvk,
            subresource: self.subresource,
            now: &now,
            versions: &*self,
            empty: &empty,
        };
        let managed_fields = request.update(&live, &new);
        self.store(new, managed_fields);
    }

    pub fn conflict(&mut self, manager: &str, config: &Value) -> String {
        let before = self.object.clone();
        let failure = self.try_apply(manager, config, false).unwrap_err();
        assert_eq!(self.object, before);
        failure.to_error().message()
    }

    /// `manager Apply: .spec.a .spec.b`, one line a manager. The version is shown where it is not the object's.
    pub fn owners(&self) -> Vec<String> {
        let managed = Managed::decode(object::managed_fields(&self.object)).unwrap();
        let own = object::get_str(&self.object, &["apiVersion"]);
        let lines = managed.owners().map(|(id, version, set)| {
            let operation = if id.operation == Operation::Apply { "Apply" } else { "Update" };
            let version = if version == own { String::new() } else { format!(" {version}") };
            let mut paths = Vec::new();
            set.for_each(&mut |path| paths.push(display_path(path)));
            format!("{} {operation}{version}: {}", id.manager, paths.join(" "))
        });
        lines.collect()
    }

    pub fn spec(&self) -> &Value {
        &self.object["spec"]
    }
}
