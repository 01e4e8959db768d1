//! The writes of the garbage collector: to objects of any kind, of which it knows place, uid and finalizers.

use crate::graph::{Graph, Owner, Thing};
use http::Method;
use nauplius_reconcile::events::{EventKind, ObjectRef};
use nauplius_reconcile::plan::Write;
use nauplius_reconcile::{Action, Note};
use serde_json::{Value, json};

fn write(graph: &Graph, thing: &Thing, method: Method, content_type: &'static str, body: &Value) -> Action {
    let batchable = method == Method::DELETE;
    Action::Write(Box::new(Write {
        method,
        path: graph.resources.get(thing.resource).path(&thing.namespace, Some(&thing.name)),
        content_type,
        body: body.to_string().into_bytes(),
        // Uids and revisions guard every write, so that none has to be seen before the next look.
        resource: "",
        batchable,
        on_success: None,
        on_failure: None,
    }))
}

/// Deletes the thing, this very one.
pub(super) fn delete(graph: &Graph, thing: &Thing, propagation: &str) -> Action {
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation,
        "preconditions": {"uid": &*thing.uid}});
    write(graph, thing, Method::DELETE, "application/json", &options)
}

/// Makes the thing forget owners.
pub(super) fn drop_owners(graph: &Graph, thing: &Thing, owners: &[&str]) -> Action {
    let references: Vec<_> = owners.iter().map(|uid| json!({"$patch": "delete", "uid": uid})).collect();
    let patch = json!({"metadata": {"ownerReferences": references, "uid": &*thing.uid}});
    write(graph, thing, Method::PATCH, "application/strategic-merge-patch+json", &patch)
}

/// Lets the thing's owners go before it.
pub(super) fn unblock_owners(graph: &Graph, thing: &Thing) -> Action {
    let owners = thing.owners.iter().filter(|owner| owner.blocks);
    let references: Vec<_> =
        owners.map(|owner| json!({"uid": &*owner.uid, "blockOwnerDeletion": false})).collect();
    let patch = json!({"metadata": {"ownerReferences": references, "uid": &*thing.uid}});
    write(graph, thing, Method::PATCH, "application/strategic-merge-patch+json", &patch)
}

/// Takes a finalizer away; the resourceVersion guards the others.
pub(super) fn drop_finalizer(graph: &Graph, thing: &Thing, finalizer: &str) -> Action {
    let rest: Vec<&str> =
        thing.finalizers.iter().map(|known| &**known).filter(|known| *known != finalizer).collect();
    let patch = json!({"metadata": {"resourceVersion": &*thing.resource_version, "uid": &*thing.uid, "finalizers": rest}});
    write(graph, thing, Method::PATCH, "application/merge-patch+json", &patch)
}

/// Tells that an owner cannot be one.
pub(super) fn invalid_namespace(graph: &Graph, thing: &Thing, owner: &Owner) -> Action {
    let resource = graph.resources.get(thing.resource);
    let about = ObjectRef {
        api_version: resource.api_version(),
        kind: resource.kind.clone(),
        namespace: thing.namespace.to_string(),
        name: thing.name.to_string(),
        uid: thing.uid.to_string(),
        ..ObjectRef::default()
    };
    let message = format!(
        "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace \"{}\"",
        owner.api_version, owner.kind, thing.namespace, owner.name, owner.uid, thing.namespace
    );
    Action::Event(Box::new(Note {
        about,
        kind: EventKind::Warning,
        reason: "OwnerRefInvalidNamespace",
        message,
    }))
}
