//! What a write does to the ownership of fields, and what an apply does to the object. It must not know names of requests, times or
//! annotations.
use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::collect::collect;
use super::compare::{Comparison, compare};
use super::conflict::Conflicts;
use super::filter::Filter;
use super::managed::{Managed, ManagerId, Owned};
use super::merge::merge;
use super::node::Node;
use super::reconcile::reconcile;
use super::remove::remove;
use super::scalar::equal;
use super::set::Set;

/// The versions that an object can be seen in.
pub trait Versions: Sync {
    /// The schema of a version; none for one that is not served (any more).
    fn node(&self, version: &str) -> Option<Node<'_>>;

    /// The object in another version; none for one that is not served. The error is for people.
    fn convert<'o>(&self, object: &'o Value, from: &str, to: &str) -> Result<Option<Cow<'o, Value>>, String>;

    /// The fields that the write tracks in a version.
    fn filter(&self, version: &str) -> Filter;
}

/// Why ownership or an apply could not be worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Conflicts(Conflicts),
    Other(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

type Updated<T> = Result<T, Failure>;

/// An object in a version.
#[derive(Clone)]
struct Typed<'o> {
    value: Cow<'o, Value>,
    version: String,
}

pub(super) struct Updater<'a> {
    pub versions: &'a dyn Versions,
    /// The version of the write.
    pub version: &'a str,
}

impl<'a> Updater<'a> {
    fn typed<'o>(&self, value: &'o Value) -> Typed<'o> {
        Typed { value: Cow::Borrowed(value), version: self.version.to_owned() }
    }

    fn node(&self, version: &str) -> Updated<Node<'a>> {
        Ok(self.versions.node(version).ok_or_else(|| format!("no corresponding type for {version}"))?)
    }

    /// None where the version is not served.
    fn convert<'o>(&self, typed: &Typed<'o>, version: &str) -> Updated<Option<Typed<'o>>> {
        if typed.version == version {
            return Ok(Some(typed.clone()));
        }
        if self.versions.node(version).is_none() {
            return Ok(None);
        }
        // What is only borrowed here outlives neither the typed value nor the result.
        let converted = match &typed.value {
            Cow::Borrowed(value) => self.versions.convert(value, &typed.version, version)?,
            Cow::Owned(value) => {
                let converted = self.versions.convert(value, &typed.version, version)?;
                converted.map(|value| Cow::Owned(value.into_owned()))
            }
        };
        Ok(converted.map(|value| Typed { value, version: version.to_owned() }))
    }

    fn compare(&self, old: &Typed<'_>, new: &Typed<'_>) -> Updated<Comparison> {
        let node = self.node(&new.version)?;
        Ok(compare(&old.value, &new.value, node)
            .map_err(|error| format!("failed to compare objects: {error}"))?)
    }

    /// What changed, in the version of the write, without what never has an owner.
    pub fn changes(&self, live: &Value, new: &Value) -> Updated<Comparison> {
        self.compare(&self.typed(live), &self.typed(new))
    }

    /// Gives what changed to `id`, and takes it from all others.
    pub fn update(
        &self,
        live: &Value,
        new: &Value,
        changes: Comparison,
        managed: &mut Managed,
        id: &ManagerId,
    ) -> Updated<()> {
        self.reconcile(managed);
        let set = changes.modified.union(&changes.added);
        self.move_fields(&self.typed(live), &self.typed(new), Some(changes), managed, id, true)?;
        let set = self.versions.filter(self.version).apply(set);
        if !set.is_empty() {
            managed.owners.insert(id.clone(), Owned { set, version: self.version.to_owned(), time: None });
        }
        Ok(())
    }

    /// Applies a configuration. None where the object stays as it is.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: &mut Managed,
        id: &ManagerId,
        force: bool,
    ) -> Updated<Option<Value>> {
        self.reconcile(managed);
        let node = self.node(self.version)?;
        let merged = merge(live, config, node).map_err(|error| format!("failed to merge config: {error}"))?;
        let set = self.versions.filter(self.version).apply(collect(config, node));
        let owned = Owned { set, version: self.version.to_owned(), time: None };
        let last = managed.owners.insert(id.clone(), owned);
        if let Some(last) = &last
            && let Some(owned) = managed.owners.get_mut(id)
        {
            owned.time.clone_from(&last.time);
        }
        let merged = Typed { value: Cow::Owned(merged), version: self.version.to_owned() };
        let new = self.prune(merged, managed, last.as_ref())?;
        self.move_fields(&self.typed(live), &new, None, managed, id, force)?;
        let new = new.value.into_owned();
        Ok((!equal(live, &new)).then_some(new))
    }

    fn reconcile(&self, managed: &mut Managed) {
        managed.owners.retain(|_, owned| match self.versions.node(&owned.version) {
            // The version is not served any more: nobody can say what the names mean.
            None => false,
            Some(node) => {
                if let Some(set) = reconcile(&owned.set, node) {
                    owned.set = set;
                }
                true
            }
        });
    }

    /// Takes from everybody but `id` what changed or went.
    fn move_fields(
        &self,
        old: &Typed<'_>,
        new: &Typed<'_>,
        changes: Option<Comparison>,
        managed: &mut Managed,
        id: &ManagerId,
        force: bool,
    ) -> Updated<()> {
        let changes = changes.map_or_else(|| self.compare(old, new), Ok)?;
        let mut by_version = BTreeMap::new();
        by_version.insert(self.version.to_owned(), changes.filter(self.versions.filter(self.version)));
        let mut conflicts = Conflicts::default();
        let mut left = BTreeMap::new();
        let mut obsolete = Vec::new();
        for (other, owned) in managed.owners.iter().filter(|(other, _)| *other != id) {
            if !by_version.contains_key(&owned.version) {
                let Some(changes) = self.changes_in(old, new, &owned.version)? else {
                    obsolete.push(other.clone());
                    continue;
                };
                by_version.insert(owned.version.clone(), changes);
            }
            let changes = &by_version[&owned.version];
            let taken = owned.set.intersection(&changes.modified.union(&changes.added));
            conflicts.add(other, &taken);
            let set = owned.set.difference(&taken).difference(&changes.removed);
            if set != owned.set {
                left.insert(other.clone(), set);
            }
        }
        if !force && !conflicts.0.is_empty() {
            return Err(Failure::Conflicts(conflicts));
        }
        obsolete.iter().for_each(|id| drop(managed.owners.remove(id)));
        for (other, set) in left {
            if let Some(owned) = managed.owners.get_mut(&other) {
                owned.set = set;
            }
        }
        managed.drop_empty();
        Ok(())
    }

    fn changes_in(&self, old: &Typed<'_>, new: &Typed<'_>, version: &str) -> Updated<Option<Comparison>> {
        let convert = |typed, what: &str| match self.convert(typed, version) {
            Err(Failure::Other(error)) => {
                Err(Failure::Other(format!("failed to convert {what} object: {error}")))
            }
            other => other,
        };
        let (Some(old), Some(new)) = (convert(old, "old")?, convert(new, "new")?) else { return Ok(None) };
        Ok(Some(self.compare(&old, &new)?.filter(self.versions.filter(version))))
    }

    /// Removes what the manager applied last time and not this time, unless another owns it.
    fn prune<'o>(&self, merged: Typed<'o>, managed: &Managed, last: Option<&Owned>) -> Updated<Typed<'o>> {
        let Some(last) = last.filter(|last| !last.set.is_empty()) else { return Ok(merged) };
        let Some(converted) = self.convert(&merged, &last.version)? else { return Ok(merged) };
        let node = self.node(&last.version)?;
        let gone = last.set.with_named_fields(Some(node));
        let pruned = self.with_value(&converted, remove(&converted.value, &gone, node));
        let pruned = self.add_back_owned(&converted, pruned, managed)?;
        let pruned = self.add_back_dangling(&converted, pruned, last)?;
        Ok(self.convert(&pruned, self.version)?.unwrap_or(pruned))
    }

    fn with_value<'o>(&self, of: &Typed<'_>, value: Value) -> Typed<'o> {
        Typed { value: Cow::Owned(value), version: of.version.clone() }
    }

    /// Adds back what any manager owns.
    fn add_back_owned<'o>(
        &self,
        merged: &Typed<'o>,
        pruned: Typed<'o>,
        managed: &Managed,
    ) -> Updated<Typed<'o>> {
        let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
        for owned in managed.owners.values() {
            let set = by_version.entry(&owned.version).or_default();
            *set = set.union(&owned.set);
        }
        // What was pruned may be needed for a conversion, so its own version comes first.
        let own = by_version.remove(merged.version.as_str());
        let own = own.map(|set| (merged.version.clone(), set));
        let others = by_version.into_iter().map(|(version, set)| (version.to_owned(), set));
        let (mut merged, mut pruned) = (merged.clone(), pruned);
        for (version, set) in own.into_iter().chain(others) {
            (merged, pruned) = self.add_back_version(merged, pruned, &version, &set)?;
        }
        Ok(pruned)
    }

    fn add_back_version<'o>(
        &self,
        merged: Typed<'o>,
        pruned: Typed<'o>,
        version: &str,
        owned: &Set,
    ) -> Updated<(Typed<'o>, Typed<'o>)> {
        let Some(merged) = self.convert(&merged, version)? else { return Ok((merged, pruned)) };
        let Some(pruned) = self.convert(&pruned, version)? else { return Ok((merged, pruned)) };
        let node = self.node(version)?;
        let named = |set: &Set| set.with_named_fields(Some(node));
        let kept = named(&collect(&pruned.value, node)).union(&named(owned));
        let gone = named(&collect(&merged.value, node)).difference(&kept);
        let pruned = self.with_value(&merged, remove(&merged.value, &gone, node));
        Ok((merged, pruned))
    }

    /// Adds back what went although this manager did not own it.
    fn add_back_dangling<'o>(
        &self,
        merged: &Typed<'o>,
        pruned: Typed<'o>,
        last: &Owned,
    ) -> Updated<Typed<'o>> {
        let Some(pruned) = self.convert(&pruned, &last.version)? else { return Ok(merged.clone()) };
        let node = self.node(&last.version)?;
        let named = |set: &Set| set.with_named_fields(Some(node));
        let gone = named(&collect(&merged.value, node))
            .difference(&named(&collect(&pruned.value, node)))
            .intersection(&named(&last.set));
        Ok(self.with_value(merged, remove(&merged.value, &gone, node)))
    }
}
