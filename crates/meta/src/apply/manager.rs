//! What a request does to an object's `managedFields`: whose fields changed hands, when, and which old entries are folded together. It
//! must not know registries: the time, the versions and an empty object come in with the request.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::collect::collect;
use super::compare::compare;
use super::conflict::Conflicts;
use super::last_applied;
use super::managed::{Managed, ManagerId, Operation, is_reset};
use super::node::Node;
use super::set::Set;
use super::updater::{Failure, Updater, Versions};
use super::validate::validate;
use crate::error::{ApiError, Reason, Status};
use crate::gvk::GroupVersionKind;
use crate::object;

/// Most managers of updates that are told apart.
const MAX_UPDATERS: usize = 10;
/// Who the updates of the oldest managers are put down to.
const ANCIENT: &str = "ancient-changes";
/// Who the fields are put down to that were there when an untracked object is first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager for which fields move over from client-side apply.
const KUBECTL: &str = "kubectl";

/// What nobody owns: the server sets it, or it is what the object is.
static UNTRACKED: std::sync::LazyLock<Set> = std::sync::LazyLock::new(|| {
    Set::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// A write, as far as ownership goes.
pub struct Request<'a> {
    /// Who writes.
    pub manager: &'a str,
    /// What is written, in which version.
    pub kind: &'a GroupVersionKind,
    /// Through which subresource; empty for the object itself.
    pub subresource: &'a str,
    /// When, as `metav1.Time` writes it.
    pub now: &'a str,
    /// The versions of the object.
    pub versions: &'a dyn Versions,
    /// An object in which nothing is set, in the version of the write.
    pub empty: &'a Value,
}

/// What an apply comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object in the version of the write; none where it stays as it is.
    pub object: Option<Value>,
    /// Its `managedFields`.
    pub managed_fields: Vec<Value>,
}

/// Why a configuration was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyFailure {
    /// The request makes no sense.
    BadRequest(String),
    /// Others own what it sets.
    Conflicts(Conflicts),
    /// The object, or the configuration, does not fit its schema.
    Other(String),
}

impl ApplyFailure {
    /// The refusal that upstream answers with.
    pub fn to_error(&self) -> ApiError {
        match self {
            Self::BadRequest(message) => ApiError::bad_request(message.as_str()),
            Self::Conflicts(conflicts) => conflicts.to_error(),
            // Upstream answers these as errors of its own.
            Self::Other(message) => {
                ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message.as_str())))
            }
        }
    }
}

impl From<Failure> for ApplyFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflicts(conflicts) => Self::Conflicts(conflicts),
            Failure::Other(message) => Self::Other(message),
        }
    }
}

impl Request<'_> {
    /// The `managedFields` of an object that was written in another way than by apply. Both objects are in the version of the write;
    /// a new one is compared with the empty object.
    pub fn update(&self, live: &Value, new: &Value) -> Vec<Value> {
        let before = object::managed_fields(live);
        // Whatever is wrong, a write is not refused for its managed fields.
        self.try_update(live, new).unwrap_or_else(|_| before.to_vec())
    }

    fn try_update(&self, live: &Value, new: &Value) -> Result<Vec<Value>, Failure> {
        let (before, sent) = (object::managed_fields(live), object::managed_fields(new));
        let (tracked, reset) =
            (!before.is_empty(), is_reset(object::get(new, &["metadata", "managedFields"])));
        let ignored = !self.subresource.is_empty() || (!reset && (sent.is_empty() || sent == before));
        let exists = !object::uid(live).is_empty();
        if ignored && exists && !tracked {
            return Ok(Vec::new());
        }
        let changes = self.updater().changes(live, new)?.without(&UNTRACKED);
        if ignored && changes.is_same() {
            return Ok(before.to_vec());
        }
        // Entries that cannot be read are as good as none.
        let stored = || Managed::decode(before).unwrap_or_default();
        let mut managed = match Managed::decode(sent) {
            _ if ignored => stored(),
            _ if reset => Managed::default(),
            Ok(sent) if !sent.is_empty() => sent,
            _ => stored(),
        };
        if managed.is_empty() && exists {
            return Ok(Vec::new());
        }
        self.take_over(live, new, changes, &mut managed, self.manager)?;
        Ok(managed.encode())
    }

    fn updater(&self) -> Updater<'_> {
        Updater { versions: self.versions, version: self.kind_version() }
    }

    fn kind_version(&self) -> &str {
        // Every object says its version; the empty one is made here.
        object::get_str(self.empty, &["apiVersion"])
    }

    fn take_over(
        &self,
        live: &Value,
        new: &Value,
        changes: super::Comparison,
        managed: &mut Managed,
        manager: &str,
    ) -> Result<(), Failure> {
        // Under a name of its own, what changed is taken from earlier updates of the same manager, too.
        let current = ManagerId::new("current-operation", Operation::Update, "", "");
        self.updater().update(live, new, changes, managed, &current)?;
        if let Some(mut owned) = managed.owners.remove(&current) {
            let id = ManagerId::new(manager, Operation::Update, self.kind_version(), self.subresource);
            if let Some(previous) = managed.owners.get(&id) {
                owned.set = owned.set.union(&previous.set);
            }
            owned.time = Some(self.now.to_owned());
            managed.owners.insert(id, owned);
        }
        cap_updaters(managed);
        Ok(())
    }

    /// Applies a configuration. `live` is the object in the version of the write, or the empty object.
    pub fn apply(&self, live: &Value, config: &Value, force: bool) -> Result<Applied, ApplyFailure> {
        let mut managed = Managed::decode(object::managed_fields(live))
            .map_err(|error| ApplyFailure::Other(format!("failed to decode managed fields: {error}")))?;
        self.check_kind(config)?;
        if managed.is_empty() {
            self.found_untracked(live, &mut managed)?;
        }
        let mut applied = self.apply_or_migrate(live, config, &mut managed, force)?;
        if self.manager == KUBECTL {
            self.keep_annotation(live, config, &mut applied);
        }
        Ok(Applied { object: applied, managed_fields: managed.encode() })
    }

    fn check_kind(&self, config: &Value) -> Result<(), ApplyFailure> {
        let kind = object::get_str(config, &["kind"]);
        let (group, version) = match object::get_str(config, &["apiVersion"]).split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", object::get_str(config, &["apiVersion"])),
        };
        if (kind, group, version) == (&*self.kind.kind, &*self.kind.group, &*self.kind.version) {
            return Ok(());
        }
        Err(ApplyFailure::BadRequest(format!("invalid object type: {group}/{version}, Kind={kind}")))
    }

    fn found_untracked(&self, live: &Value, managed: &mut Managed) -> Result<(), ApplyFailure> {
        let changes = self.updater().changes(self.empty, live).map(|changes| changes.without(&UNTRACKED));
        let found = changes
            .and_then(|changes| self.take_over(self.empty, live, changes, managed, BEFORE_FIRST_APPLY));
        found.map_err(|failure| match failure {
            Failure::Other(message) => {
                ApplyFailure::Other(format!("failed to create manager for existing fields: {message}"))
            }
            conflicts => conflicts.into(),
        })
    }

    fn apply_or_migrate(
        &self,
        live: &Value,
        config: &Value,
        managed: &mut Managed,
        force: bool,
    ) -> Result<Option<Value>, ApplyFailure> {
        let before = managed.clone();
        let conflicts = match self.apply_once(live, config, managed, force) {
            Err(ApplyFailure::Conflicts(conflicts)) if self.manager == KUBECTL => conflicts,
            other => return other,
        };
        let Some(allowed) = self.applied_by_client(live) else {
            return Err(ApplyFailure::Conflicts(conflicts));
        };
        let left = conflicts.outside(&allowed);
        if !left.0.is_empty() {
            return Err(ApplyFailure::Conflicts(left));
        }
        *managed = before;
        self.apply_once(live, config, managed, true)
    }

    fn apply_once(
        &self,
        live: &Value,
        config: &Value,
        managed: &mut Managed,
        force: bool,
    ) -> Result<Option<Value>, ApplyFailure> {
        if object::get(config, &["metadata", "managedFields"]).is_some() {
            return Err(ApplyFailure::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        let node = self.node()?;
        let typed = |what: &str, value: &Value, duplicates| {
            validate(value, node, duplicates).map_err(|error| {
                let whose = self.shown(value);
                ApplyFailure::Other(format!("failed to create typed {what} object ({whose}): {error}"))
            })
        };
        typed("patch", config, false)?;
        typed("live", live, true)?;
        let id = ManagerId::new(self.manager, Operation::Apply, "", self.subresource);
        let object = self.updater().apply(live, config, managed, &id, force)?;
        if let Some(owned) = managed.owners.get_mut(&id) {
            owned.set = owned.set.difference(&UNTRACKED);
            if object.is_some() {
                owned.time = Some(self.now.to_owned());
            }
        }
        managed.drop_empty();
        Ok(object)
    }

    fn node(&self) -> Result<Node<'_>, ApplyFailure> {
        let version = self.kind_version();
        self.versions
            .node(version)
            .ok_or_else(|| ApplyFailure::Other(format!("no corresponding type for {}", self.shown_kind())))
    }

    fn shown_kind(&self) -> String {
        format!("{}/{}, Kind={}", self.kind.group, self.kind.version, self.kind.kind)
    }

    fn shown(&self, value: &Value) -> String {
        format!("{}/{}; {}", object::namespace(value), object::name(value), self.shown_kind())
    }

    /// The fields that client-side apply set, and that are still as it set them.
    fn applied_by_client(&self, live: &Value) -> Option<Set> {
        let last: Value = serde_json::from_str(last_applied::of(live)?).ok()?;
        if object::get_str(&last, &["apiVersion"]) != self.kind_version() {
            return None;
        }
        // An annotation that cannot be understood gives no right to anything.
        let node = self.versions.node(self.kind_version())?;
        validate(&last, node, false).ok()?;
        let changes = compare(&last, live, node).ok()?;
        let set = collect(&last, node);
        Some(set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
    }

    /// Client-side apply, should it come back, must find what was applied last.
    fn keep_annotation(&self, live: &Value, config: &Value, applied: &mut Option<Value>) {
        let object = applied.as_ref().unwrap_or(live);
        if last_applied::of(object).is_none() {
            return;
        }
        let mut object = object.clone();
        last_applied::set(&mut object, &last_applied::build(config));
        if applied.is_some() || object != *live {
            *applied = Some(object);
        }
    }
}

/// Folds the oldest updates of a version into one entry, until there are few enough.
fn cap_updaters(managed: &mut Managed) {
    let mut updaters: Vec<(Option<String>, ManagerId)> = managed
        .owners
        .iter()
        .filter(|(id, _)| id.operation == Operation::Update)
        .map(|(id, owned)| (owned.time.clone(), id.clone()))
        .collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATERS {
        return;
    }
    updaters.sort();
    let mut first: BTreeMap<String, ManagerId> = BTreeMap::new();
    for (_, id) in updaters {
        if count <= MAX_UPDATERS {
            return;
        }
        let Some(version) = managed.owners.get(&id).map(|owned| owned.version.clone()) else { continue };
        let Some(earlier) = first.get(&version) else {
            first.insert(version, id);
            continue;
        };
        let bucket = ManagerId::new(ANCIENT, Operation::Update, &version, "");
        if !managed.owners.contains_key(&bucket)
            && let Some(owned) = managed.owners.remove(earlier)
        {
            managed.owners.insert(bucket.clone(), owned);
        }
        if let Some(younger) = managed.owners.remove(&id)
            && let Some(owned) = managed.owners.get_mut(&bucket)
        {
            owned.set = owned.set.union(&younger.set);
            owned.time = younger.time;
        }
        count -= 1;
    }
}

/// Whether two lists of entries differ in nothing but their times, and in some of these.
pub fn only_times_differ(old: &[Value], new: &[Value]) -> bool {
    let same = |old: &Value, new: &Value| match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let others = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key("time"));
            others(old) == others(new)
                && old.iter().all(|(name, value)| name == "time" || new.get(name) == Some(value))
        }
        _ => false,
    };
    old != new && old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new))
}
