//! Whose an object is: adoption and release through the controller reference, as upstream's ControllerRefManager decides. It
//! never knows what an owner does with its own.

use nauplius_client::Patch;
use nauplius_kinds::api::meta::{LabelSelector, OwnerReference};
use nauplius_kinds::{Object, labels};
use nauplius_reconcile::{Action, Key};
use serde_json::json;
use std::sync::Arc;

/// An object that may control others.
pub(crate) struct Owner<'a> {
    pub reference: OwnerReference,
    pub selector: &'a LabelSelector,
    /// It is being deleted: it neither adopts nor releases.
    pub leaving: bool,
}

/// What an owner has to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing.
    None,
    /// It controls it and selects it.
    Own,
    /// It selects it and nobody controls it.
    Adopt,
    /// It controls it but does not select it any more.
    Release,
}

/// The objects of an owner, and what to do to make them so.
#[derive(Debug)]
pub(crate) struct Claimed<T> {
    pub own: Vec<Arc<T>>,
    pub changes: Vec<Action>,
}

impl<'a> Owner<'a> {
    pub fn new<T: Object>(owner: &T, selector: &'a LabelSelector) -> Self {
        Self {
            reference: controller_reference(owner),
            selector,
            leaving: owner.meta().deletion_timestamp.is_some(),
        }
    }

    pub fn claim<T: Object>(&self, object: &T) -> Claim {
        let is_selected = || {
            let none = std::collections::BTreeMap::new();
            labels::selects(self.selector, object.meta().labels.as_ref().unwrap_or(&none))
        };
        match labels::controller_of(object.meta()) {
            Some(owner) if owner.uid != self.reference.uid => Claim::None,
            Some(_) if is_selected() => Claim::Own,
            Some(_) if self.leaving => Claim::None,
            Some(_) => Claim::Release,
            None if self.leaving || object.meta().deletion_timestamp.is_some() || !is_selected() => {
                Claim::None
            }
            None => Claim::Adopt,
        }
    }

    /// Sorts `objects` into the owner's and the rest. An object that is adopted counts from the next look on.
    pub fn sort<T: Object>(&self, objects: &[Arc<T>]) -> Claimed<T> {
        let mut claimed = Claimed { own: Vec::new(), changes: Vec::new() };
        for object in objects {
            match self.claim(&**object) {
                Claim::None => {}
                Claim::Own => claimed.own.push(Arc::clone(object)),
                Claim::Adopt => claimed.changes.push(self.adopt(&**object)),
                Claim::Release => claimed.changes.push(self.release(&**object)),
            }
        }
        claimed
    }

    fn adopt<T: Object>(&self, object: &T) -> Action {
        let owner = &self.reference;
        let reference = json!({"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "controller": true, "blockOwnerDeletion": true});
        let patch = json!({"metadata": {"ownerReferences": [reference], "uid": object.uid()}});
        Action::patch(object, None, Patch::Strategic(patch))
    }

    fn release<T: Object>(&self, object: &T) -> Action {
        let reference = json!({"$patch": "delete", "uid": self.reference.uid});
        let patch = json!({"metadata": {"ownerReferences": [reference], "uid": object.uid()}});
        Action::patch(object, None, Patch::Strategic(patch))
    }
}

/// The reference by which `owner` controls an object.
pub(crate) fn controller_reference<T: Object>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The key of the `Owner` that controls `object`, if its controller is of that kind.
pub(crate) fn controller_key<O: Object, T: Object>(object: &T) -> Option<Key> {
    let owner = labels::controller_of(object.meta())?;
    let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    (owner.kind == O::KIND && group == O::GROUP).then(|| Key::new(object.namespace(), owner.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::{Pod, ReplicaSet};
    use serde_json::Value;

    fn check(owner: Value, pod: Value, expected: Claim) {
        let set = json!({"metadata": owner, "spec": {"selector": {"matchLabels": {"app": "a"}}}});
        let set = ReplicaSet::decode(set.to_string().as_bytes()).unwrap();
        let pod = Pod::decode(json!({"metadata": pod}).to_string().as_bytes()).unwrap();
        assert_eq!(Owner::new(&set, &set.spec.selector).claim(&pod), expected, "{:?}", pod.metadata);
    }

    #[test]
    fn an_owner_claims_what_it_selects_and_nobody_else_controls() {
        let owned = |uid: &str| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": uid, "controller": true}]);
        let (here, leaving) =
            (json!({"uid": "u"}), json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        check(here.clone(), json!({"labels": {"app": "a"}, "ownerReferences": owned("u")}), Claim::Own);
        check(here.clone(), json!({"labels": {"app": "a"}, "ownerReferences": owned("v")}), Claim::None);
        check(here.clone(), json!({"labels": {"app": "b"}, "ownerReferences": owned("u")}), Claim::Release);
        check(leaving.clone(), json!({"labels": {"app": "b"}, "ownerReferences": owned("u")}), Claim::None);
        check(here.clone(), json!({"labels": {"app": "a"}}), Claim::Adopt);
        check(here.clone(), json!({"labels": {"app": "b"}}), Claim::None);
        check(leaving, json!({"labels": {"app": "a"}}), Claim::None);
        check(
            here,
            json!({"labels": {"app": "a"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
            Claim::None,
        );
    }
}
