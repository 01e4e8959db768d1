//! Whose fields a write changes: between the registry's hub objects and `meta::apply`. Computed from what the client sent, before
//! admission and strategies, as upstream does it. What an owner may do is not known here.

use super::conversions::Conversions;
use super::convert;
use super::lens::Lens;
use super::{Resource, Scope, Served};
use crate::error::ApiResult;
use http::header::USER_AGENT;
use nauplius_base::time;
use nauplius_kinds::Descriptor;
use nauplius_meta::apply::scale::ScalePaths;
use nauplius_meta::apply::{Applied, Filter, Managed, Node, Request, Versions, only_times_differ};
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::metadata::FIELD_MANAGER_MAX;
use nauplius_meta::{normalize, object, schema};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

/// The versions of a kind. A custom resource has a kind, and a resource, of its own for each of them.
struct KindVersions<'k> {
    resource: &'k Resource,
    served: Arc<Served>,
    subresource: &'k str,
    conversions: &'k Conversions,
}

impl KindVersions<'_> {
    fn sibling(&self, api_version: &str) -> Option<&Resource> {
        sibling(self.resource, &self.served, api_version).map(Arc::as_ref)
    }
}

/// The resource of another version of a kind.
fn sibling<'s>(resource: &Resource, served: &'s Served, api_version: &str) -> Option<&'s Arc<Resource>> {
    let own = &resource.group_resource;
    let (group, version) = api_version.split_once('/')?;
    (group == own.group).then(|| served.version(group, version, &own.resource)).flatten()
}

impl Versions for KindVersions<'_> {
    fn node(&self, version: &str) -> Option<Node<'_>> {
        let own = self.resource.kind.merging(version);
        own.or_else(|| self.sibling(version)?.kind.merging(version))
    }

    fn convert<'o>(&self, object: &'o Value, from: &str, to: &str) -> Result<Option<Cow<'o, Value>>, String> {
        if self.resource.is_custom() {
            if self.sibling(to).is_none() {
                return Ok(None);
            }
            return self.conversions.get(object, to).map(|object| Some(Cow::Owned(object)));
        }
        let descriptor = self.resource.kind.descriptor();
        let version = |name: &str| {
            descriptor.versions.iter().find(|version| convert::api_version(descriptor, &version.name) == name)
        };
        let (Some(from), Some(to)) = (version(from), version(to)) else { return Ok(None) };
        let mut object = object.clone();
        convert::between(&*self.resource.kind, from, to, &mut object);
        Ok(Some(Cow::Owned(object)))
    }

    fn filter(&self, _version: &str) -> Filter {
        self.resource.kind.tracked(self.subresource)
    }
}

/// A scale has one version.
struct ScaleVersions;

impl Versions for ScaleVersions {
    fn node(&self, version: &str) -> Option<Node<'_>> {
        let gvk = scale_kind();
        (version == gvk.api_version()).then(|| schema::lookup_kind(&gvk).map(Node::Type)).flatten()
    }

    fn convert<'o>(
        &self,
        _object: &'o Value,
        _from: &str,
        _to: &str,
    ) -> Result<Option<Cow<'o, Value>>, String> {
        Ok(None)
    }

    fn filter(&self, _version: &str) -> Filter {
        Filter::ALL
    }
}

fn scale_kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

/// An object of the kind in which nothing is set.
fn empty(gvk: &GroupVersionKind) -> Value {
    let mut empty = json!({"apiVersion": gvk.api_version(), "kind": gvk.kind});
    if let Some(ty) = schema::lookup_kind(gvk) {
        normalize::fill(&mut empty, ty);
    }
    empty
}

/// The options' manager, or what the client calls itself, up to the first slash.
fn manager(scope: &Scope) -> String {
    if let Some(manager) = scope.call.query.non_empty("fieldManager") {
        return manager.to_owned();
    }
    let agent = scope.call.header(USER_AGENT).unwrap_or_default();
    let mut name = String::new();
    for character in agent.chars().take_while(|character| *character != '/').filter(|c| !c.is_control()) {
        if name.len() + character.len_utf8() > FIELD_MANAGER_MAX {
            break;
        }
        name.push(character);
    }
    name
}

fn set_entries(object: &mut Value, entries: Vec<Value>) {
    let value = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
    object::set_metadata(object, "managedFields", value);
}

/// What a write is about, for `meta::apply`.
struct Write<'s> {
    scope: &'s Scope,
    gvk: GroupVersionKind,
    empty: Value,
    manager: String,
    now: String,
}

impl<'s> Write<'s> {
    fn new(scope: &'s Scope, lens: Lens) -> Self {
        let gvk = lens.gvk(scope);
        let now = time::rfc3339_seconds(time::now());
        Self { scope, empty: empty(&gvk), gvk, manager: manager(scope), now }
    }

    /// Works out who owns what, as often as it takes to know the object in every version that somebody owns fields in.
    async fn with<T>(&self, lens: Lens, act: impl Fn(&Request<'_>) -> T) -> T {
        let conversions = Conversions::default();
        loop {
            let outcome = self.with_known(lens, &conversions, &act);
            let Some(wanted) = conversions.take_wanted() else { return outcome };
            let (object, version) = wanted.clone();
            conversions.learn(wanted, self.convert(object, &version).await);
        }
    }

    async fn convert(&self, object: Value, version: &str) -> ApiResult<Value> {
        let (resource, served) = (&self.scope.resource, self.scope.server.registry.served());
        match sibling(resource, &served, version).cloned() {
            Some(sibling) => sibling.form_of(object).await,
            None => Err(ApiError::internal(format!("{version} is not served any more"))),
        }
    }

    fn with_known<T>(&self, lens: Lens, conversions: &Conversions, act: impl Fn(&Request<'_>) -> T) -> T {
        let subresource = self.scope.call.info.subresource.as_str();
        let served = self.scope.server.registry.served();
        let own = KindVersions { resource: &self.scope.resource, served, subresource, conversions };
        let versions: &dyn Versions = match lens {
            Lens::Version => &own,
            Lens::Scale => &ScaleVersions,
        };
        act(&Request {
            manager: &self.manager,
            kind: &self.gvk,
            subresource,
            now: &self.now,
            versions,
            empty: &self.empty,
        })
    }
}

/// Records who made a new object.
pub(super) async fn created(scope: &Scope, new: &mut Value) {
    let write = Write::new(scope, Lens::Version);
    let shown = in_version(scope, new);
    let entries = write.with(Lens::Version, |request| request.update(&write.empty, &shown)).await;
    set_entries(new, entries);
}

/// Records who changed what between two forms of an object.
pub(super) async fn updated(scope: &Scope, lens: Lens, new: &mut Value, old: &Value) -> ApiResult<()> {
    let write = Write::new(scope, lens);
    let entries = match lens {
        Lens::Version => {
            let (before, after) = (in_version(scope, old), in_version(scope, new));
            write.with(lens, |request| request.update(&before, &after)).await
        }
        Lens::Scale => {
            let old_scale = scale_with_entries(scope, old)?;
            let new_scale = lens.show(scope, new)?;
            let entries = write.with(lens, |request| request.update(&old_scale, &new_scale)).await;
            parent_entries(scope, old, &entries)
        }
    };
    set_entries(new, entries);
    Ok(())
}

/// Applies a configuration to what is there, if anything. The object, in the form of the lens, has its entries.
pub(super) async fn apply(
    scope: &Scope,
    lens: Lens,
    old: Option<&Value>,
    config: &Value,
    force: bool,
) -> ApiResult<Value> {
    let write = Write::new(scope, lens);
    let live = match (lens, old) {
        (_, None) => write.empty.clone(),
        (Lens::Version, Some(old)) => lens.show(scope, old)?,
        (Lens::Scale, Some(old)) => scale_with_entries(scope, old)?,
    };
    let applied = write.with(lens, |request| request.apply(&live, config, force)).await;
    let Applied { object, managed_fields } = applied.map_err(|failure| failure.to_error())?;
    let mut object = object.unwrap_or(live);
    set_entries(&mut object, managed_fields);
    Ok(object)
}

/// After a scale was folded back into its object: whose the replicas are now.
pub(super) fn fold_scale_entries(scope: &Scope, new: &mut Value, old: &Value, scale: &Value) {
    let entries = parent_entries(scope, old, object::managed_fields(scale));
    set_entries(new, entries);
}

fn in_version<'o>(scope: &Scope, hub: &'o Value) -> Cow<'o, Value> {
    if scope.version().from_hub.is_none() {
        return Cow::Borrowed(hub);
    }
    let mut object = hub.clone();
    convert::from_hub(&*scope.resource.kind, scope.version(), &mut object);
    Cow::Owned(object)
}

fn with_paths<T>(scope: &Scope, act: impl FnOnce(&ScalePaths<'_>) -> T) -> T {
    let descriptor = scope.resource.kind.descriptor();
    let version = scope.api_version();
    act(&ScalePaths { version: &version, path: &|version| replicas_path(descriptor, version) })
}

fn replicas_path(descriptor: &Descriptor, version: &str) -> Option<Vec<String>> {
    let served = descriptor.versions.iter().any(|own| convert::api_version(descriptor, &own.name) == version);
    let path = &descriptor.scale.as_ref()?.spec_replicas;
    served.then(|| path.iter().map(ToString::to_string).collect())
}

fn scale_with_entries(scope: &Scope, hub: &Value) -> ApiResult<Value> {
    let mut scale = Lens::Scale.show(scope, hub)?;
    // Entries that cannot be read are as good as none.
    let entries = with_paths(scope, |paths| paths.to_scale(object::managed_fields(hub))).unwrap_or_default();
    set_entries(&mut scale, entries);
    Ok(scale)
}

fn parent_entries(scope: &Scope, old: &Value, scale: &[Value]) -> Vec<Value> {
    let parent = object::managed_fields(old);
    // Entries that cannot be read stay as they are.
    with_paths(scope, |paths| paths.to_parent(parent, scale)).unwrap_or_else(|_| parent.to_vec())
}

/// A write that changes nothing but the times of entries is none.
pub(super) fn settle_times(new: &mut Value, old: &Value) {
    let (before, after) = (object::managed_fields(old), object::managed_fields(new));
    if !only_times_differ(before, after) {
        return;
    }
    let (before, after) = (before.to_vec(), after.to_vec());
    set_entries(new, before);
    if !super::write::same(new, old) {
        set_entries(new, after);
    }
}

/// Puts the entries back that admission made unreadable, and says so.
pub(super) fn check_admitted(scope: &Scope, object: &mut Value, before: Option<Value>) {
    let entries = object::managed_fields(object);
    if object::get(object, &["metadata", "managedFields"]) == before.as_ref() {
        return;
    }
    if let Err(error) = Managed::decode(entries) {
        object::set_metadata(object, "managedFields", before.unwrap_or_default());
        scope.call.warnings.add(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
             admission controller; please fix your requests: {error}"
        ));
    }
}
