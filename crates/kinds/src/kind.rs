//! The erased kind: what the API server knows of a resource. A built-in kind and a custom resource are the same trait; the
//! verbs are compiled once against it. Objects are `serde_json::Value` trees that the schema has already normalised, so
//! accessors may rely on types.

use crate::gates::FieldPath;
use nauplius_meta::apply::{Filter, Node};
use nauplius_meta::field::FieldError;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::schema::lookup_kind;
use nauplius_meta::structural::Schema;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A name that is static for built-in kinds and owned for custom resources.
pub type Name = Cow<'static, str>;

/// Which operations a resource serves; discovery lists them in upstream's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs {
    /// Objects are stored: get, list, watch, create, update, patch, delete, deletecollection.
    pub stored: bool,
    /// Only `create`, nothing is stored (TokenReview, SubjectAccessReview, ...).
    pub create_only: bool,
}

impl Verbs {
    /// The full set of a stored resource.
    pub const STORED: Verbs = Verbs { stored: true, create_only: false };
    /// A virtual resource that only answers `create`.
    pub const CREATE_ONLY: Verbs = Verbs { stored: false, create_only: true };
    /// A virtual resource that only answers `get` and `list`.
    pub const READ_ONLY: Verbs = Verbs { stored: false, create_only: false };
}

/// One subresource of a kind, as discovery shows it.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// Its path element: `status`, `scale`, `log`, ...
    pub name: Name,
    /// The kind of its body when it differs from the parent's (`autoscaling/v1 Scale`, `Binding`, `policy/v1 Eviction`,
    /// `authentication.k8s.io/v1 TokenRequest`, `PodExecOptions`): group, version, kind.
    pub body: Option<(Name, Name, Name)>,
    /// Its verbs as discovery lists them.
    pub verbs: &'static [&'static str],
}

/// One served version of a kind.
pub struct Version {
    /// `v1`, `v1beta1`, ...
    pub name: Name,
    /// Fills the defaults of this version, before conversion to the hub.
    pub default: fn(&mut Value),
    /// Turns an object of this version into the hub's form; `None` where they are the same but for `apiVersion`.
    pub to_hub: Option<fn(&mut Value)>,
    /// The way back.
    pub from_hub: Option<fn(&mut Value)>,
    /// The `Warning` header that a use of this version earns, if it is deprecated.
    pub deprecation_warning: Option<Name>,
}

/// Where a kind keeps what the `scale` subresource shows, as paths of field names.
#[derive(Debug, Clone)]
pub struct Scale {
    /// For example `["spec", "replicas"]`.
    pub spec_replicas: Vec<Name>,
    /// For example `["status", "replicas"]`.
    pub status_replicas: Vec<Name>,
    /// The selector (a string, a map or a LabelSelector); for example `["spec", "selector"]`.
    pub selector: Option<Vec<Name>>,
}

/// What never changes about a kind.
pub struct Descriptor {
    /// `""` for the core group.
    pub group: Name,
    /// `Pod`
    pub kind: Name,
    /// `PodList`
    pub list_kind: Name,
    /// `pods`
    pub plural: Name,
    /// `pod`
    pub singular: Name,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// `po`
    pub short_names: Vec<Name>,
    /// `all`
    pub categories: Vec<Name>,
    /// Served versions, preferred first.
    pub versions: Vec<Version>,
    /// The version that is stored and that strategies see.
    pub hub: Name,
    /// What it serves.
    pub verbs: Verbs,
    /// What hangs below an object.
    pub subresources: Vec<Subresource>,
    /// Set where the `scale` subresource is served.
    pub scale: Option<Scale>,
    /// Set for a kind that is another group's view of a kind: group and plural of the kind under whose storage key, and in
    /// whose hub form, its objects are stored. Its own versions convert to that form.
    pub stored_as: Option<(Name, Name)>,
    /// Seconds after which a stored object disappears (events: 3600); 0 = never.
    pub ttl_s: i64,
}

impl Descriptor {
    /// `pods` or `deployments.apps`, as error messages name a resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The served version of that name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Whether `name` is one of its subresources.
    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|subresource| subresource.name == name)
    }
}

/// One column of a Table.
#[derive(Debug, Clone)]
pub struct Column {
    /// The heading, for example `Ready`.
    pub name: Name,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: Name,
    /// `name` for the name column, else empty.
    pub format: Name,
    /// What the column shows.
    pub description: Name,
    /// 0 = always shown, 1 = with `-o wide`.
    pub priority: i32,
}

/// What a strategy may know of the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// `None` for the object itself, else the subresource written to.
    pub subresource: Option<&'a str>,
    /// The name of the user who asks.
    pub user: &'a str,
    /// The user's uid, empty for most.
    pub uid: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// What else is known of the user.
    pub extra: Option<&'a BTreeMap<String, Vec<String>>>,
    /// The wall clock, in seconds since the epoch.
    pub now_s: i64,
}

/// A kind as the generic registry uses it. Every method is pure; objects are in the hub version.
pub trait Kind: Send + Sync + 'static {
    /// The fixed facts.
    fn descriptor(&self) -> &Descriptor;

    /// The status that a new object starts with, for kinds with a `status` subresource.
    fn initial_status(&self, _object: &Value) -> Value {
        Value::Object(serde_json::Map::new())
    }

    /// Before a create: drop what a client may not set. The default resets the `status` of kinds with a `status`
    /// subresource to [`Kind::initial_status`] and sets `metadata.generation` to 1 for kinds that count generations.
    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        if self.descriptor().has_subresource("status") {
            let status = self.initial_status(object);
            put(object, "status", Some(status));
        }
        if self.counts_generations() {
            put(&mut object["metadata"], "generation", Some(1.into()));
        }
    }

    /// Before an update of the object itself: the default keeps the old `status` (for kinds with that subresource) and the
    /// generation, which moves when anything but metadata and status changed.
    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        if self.descriptor().has_subresource("status") {
            carry(new, old, "status");
        }
        count_generation(self.counts_generations(), new, old);
    }

    /// Before an update through a subresource that writes the object (`status`, and what a kind adds): the default takes
    /// status and metadata of the new object and keeps everything else of the old one; metadata, too, where the kind tracks
    /// nothing of it in such writes.
    fn prepare_subresource_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        keep_content(new, old);
        if let Filter::Exclude(paths) = self.tracked(context.subresource.unwrap_or_default())
            && paths.contains(&["metadata"].as_slice())
        {
            keep_metadata(new, old);
        }
        count_generation(false, new, old);
    }

    /// The schema of a kind that an object defines. Built-in kinds have tables of types instead.
    fn schema(&self) -> Option<&Arc<Schema>> {
        None
    }

    /// The same schema as it was written, with descriptions, for OpenAPI.
    fn schema_json(&self) -> Option<&str> {
        None
    }

    /// Fills the defaults of a schema; built-in kinds fill theirs for each [`Version`].
    fn default_fields(&self, _object: &mut Value) {}

    /// Brings an object that was stored under an earlier definition into the form that it has now.
    fn refresh_stored(&self, _object: &mut Value) {}

    /// How values merge in server-side apply, in a version such as `apps/v1`; `None` for one that is not served.
    fn merging(&self, api_version: &str) -> Option<Node<'_>> {
        let descriptor = self.descriptor();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if group != descriptor.group || descriptor.version(version).is_none() {
            return None;
        }
        lookup_kind(&GroupVersionKind::new(group, version, &*descriptor.kind)).map(Node::Type)
    }

    /// Which fields have owners when the object is written itself (an empty name) or through a subresource: those that the write
    /// takes (upstream's reset fields are the others).
    fn tracked(&self, subresource: &str) -> Filter {
        match subresource {
            "" if self.descriptor().has_subresource("status") => Filter::Exclude(&[&["status"]]),
            "status" => Filter::Exclude(&[&["spec"]]),
            _ => Filter::ALL,
        }
    }

    /// Fields whose feature gates are off; see [`crate::drop_gated`].
    fn gated_fields(&self) -> Vec<FieldPath> {
        Vec::new()
    }

    /// Field errors of an object about to be created; metadata itself is checked by the registry through
    /// [`Kind::validate_name`].
    fn validate(&self, object: &Value) -> Vec<FieldError>;

    /// Field errors of an update; upstream validates the new object as on create, too, unless a kind says otherwise.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;

    /// Field errors of a write through a subresource.
    fn validate_subresource_update(&self, _subresource: &str, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Field errors of a write through a subresource that depend on when it is made; asked only if there are no others.
    fn validate_moment(&self, _context: &Context<'_>, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Why `name` is not a valid name for this kind: messages without path. `prefix` when it is a `generateName`.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;

    /// Warnings for the client (`Warning` headers) about a new or changed object.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Whether `metadata.generation` counts changes of the spec.
    fn counts_generations(&self) -> bool {
        false
    }

    /// PUT to a name that is not there creates it (leases, roles, endpoints, ... as upstream's `AllowCreateOnUpdate`).
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// PUT without a resourceVersion overwrites (upstream's `AllowUnconditionalUpdate`).
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// Field selector names beyond `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Field selector names of a kind that an object defines; they take the place of [`Kind::selectable_fields`].
    fn named_fields(&self) -> Option<&Arc<[Box<str>]>> {
        None
    }

    /// The value of a selectable field.
    fn selectable_field(&self, _object: &Value, _name: &str) -> String {
        String::new()
    }

    /// Seconds of grace for a deletion: `None` and `Some(0)` delete at once. `requested` is `gracePeriodSeconds` of the options.
    fn grace_period_s(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// What the namespace or another rule forbids to delete: `Some(message)` refuses with 403.
    fn forbids_delete(&self, _object: &Value) -> Option<String> {
        None
    }

    /// The columns of a Table.
    fn columns(&self) -> Vec<Column>;

    /// The cells of one row, in the order of [`Kind::columns`]. `now_s` dates ages.
    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value>;

    /// The default propagation of a delete without options: upstream orphans for some old kinds, else background.
    fn default_propagation(&self) -> &'static str {
        "Background"
    }
}

pub(crate) fn put(object: &mut Value, key: &str, value: Option<Value>) {
    if object.is_null() && value.is_some() {
        // Metadata that nobody has written yet.
        *object = Value::Object(serde_json::Map::new());
    }
    let Some(map) = object.as_object_mut() else { return };
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

/// Keeps the old generation, or moves it on if the kind counts and the content differs.
fn count_generation(counts: bool, new: &mut Value, old: &Value) {
    let generation = old["metadata"].get("generation").cloned();
    let generation = if counts && content_differs(new, old) {
        Some((generation.and_then(|generation| generation.as_i64()).unwrap_or(0) + 1).into())
    } else {
        generation
    };
    put(&mut new["metadata"], "generation", generation);
}

/// Makes everything but metadata, status, kind and version that of `old`.
pub fn keep_content(new: &mut Value, old: &Value) {
    for key in content_keys(new).union(&content_keys(old)) {
        carry(new, old, key);
    }
}

fn content_keys(value: &Value) -> BTreeSet<String> {
    let ignored = ["metadata", "status", "kind", "apiVersion"];
    let keys = value.as_object().into_iter().flat_map(|map| map.keys());
    keys.filter(|key| !ignored.contains(&key.as_str())).cloned().collect()
}

/// Makes what a client may say in metadata that of `old`; who wrote the object and what it was read at stay (upstream's
/// `ResetObjectMetaForStatus`).
pub(crate) fn keep_metadata(new: &mut Value, old: &Value) {
    for key in ["deletionTimestamp", "generation", "labels", "annotations", "finalizers", "ownerReferences"] {
        carry(&mut new["metadata"], &old["metadata"], key);
    }
}

/// What is tracked of a kind whose status is written without any metadata.
pub(crate) fn tracked_without_metadata(subresource: &str) -> Filter {
    match subresource {
        "status" => Filter::Exclude(&[&["metadata"], &["spec"]]),
        _ => Filter::Exclude(&[&["status"]]),
    }
}

/// Replaces `key` of `new` by what `old` has there.
pub fn carry(new: &mut Value, old: &Value, key: &str) {
    put(new, key, old.get(key).cloned());
}

/// Whether anything but `metadata`, `status`, `kind` and `apiVersion` differs.
pub fn content_differs(new: &Value, old: &Value) -> bool {
    content_keys(new).union(&content_keys(old)).any(|key| new.get(key) != old.get(key))
}
