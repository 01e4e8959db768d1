//! Deletes what has lost its owners: in the background, before its owner (foreground), or not at all (orphans). What looks
//! ownerless in the graph is asked for before anything is deleted.

mod actions;

use crate::context::Context;
use crate::graph::{Change, Graph, Owner, Seen, State, Thing};
use nauplius_base::time::Timestamp;
use nauplius_client::{Client, ClientError};
use nauplius_kinds::Object;
use nauplius_reconcile::{Action, Asked, Controller, Key, Plan, Queue};
use std::sync::Arc;

const WORKERS: usize = 4;

struct GarbageCollector {
    graph: Arc<Graph>,
}

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is there and stays, or goes without its dependents.
    Solid,
    /// It waits for its dependents to go first.
    Waiting,
    /// It is gone, and the server was asked.
    Absent,
    /// The graph does not know it: the server must be asked.
    Unknown,
    /// A namespaced owner cannot own a cluster-scoped object, and nothing is ever deleted for that.
    Impossible,
}

#[derive(Debug, Clone)]
struct View {
    thing: Arc<Thing>,
    owners: Vec<(Owner, Standing)>,
    dependents: Vec<Arc<Thing>>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    let keys = queue.clone();
    context.graph.on_change(move |state, change| enqueue(state, change, &keys));
    let controller = GarbageCollector { graph: Arc::clone(&context.graph) };
    context.control(controller, &queue, WORKERS, |driver| driver);
}

fn key(thing: &Thing) -> Key {
    Key::new("", &*thing.uid)
}

/// A thing is looked at when its ownership changes, when an owner goes or begins to wait for it, and when it waits for a
/// dependent that goes.
fn enqueue(state: &State, change: Change<'_>, queue: &Queue<Key>) {
    if let Some(new) = change.new.filter(|new| !new.owners.is_empty() || new.is_deleted) {
        queue.add(key(new));
    }
    let waits = change.new.is_some_and(|new| new.waits_for_dependents());
    if let Some(thing) = change.new.filter(|_| waits).or(change.old.filter(|_| change.new.is_none())) {
        state.dependents(&thing.uid).for_each(|dependent| queue.add(key(dependent)));
    }
    let owners = change.old.iter().flat_map(|old| old.owners.iter());
    for owner in owners.filter_map(|owner| state.get(&owner.uid)).filter(|owner| owner.waits_for_dependents())
    {
        queue.add(key(owner));
    }
}

impl GarbageCollector {
    fn standing(&self, state: &State, thing: &Thing, owner: &Owner) -> Standing {
        let resource = self.graph.resources.find(&owner.api_version, &owner.kind);
        let is_namespaced = resource.is_some_and(|index| self.graph.resources.get(index).namespaced);
        if thing.namespace.is_empty() && is_namespaced {
            return Standing::Impossible;
        }
        match state.get(&owner.uid) {
            Some(known) if known.namespace.is_empty() || known.namespace == thing.namespace => {
                standing_of(known)
            }
            _ if state.is_gone(&owner.uid) => Standing::Absent,
            _ => Standing::Unknown,
        }
    }

    /// Whether the owner is there, from the server's mouth.
    async fn look_up(&self, client: &Client, thing: &Thing, owner: &Owner) -> Result<Standing, ClientError> {
        let Some(index) = self.graph.resources.find(&owner.api_version, &owner.kind) else {
            tracing::debug!(kind = %owner.kind, "an owner's kind is not known, so that it counts as there");
            return Ok(Standing::Solid);
        };
        let path = self.graph.resources.get(index).path(&thing.namespace, Some(&owner.name));
        match client.request(http::Method::GET, &path, None, None).await {
            Ok(body) => {
                let known = Seen::decode(&body)?.thing(index);
                Ok(if known.uid == owner.uid { standing_of(&known) } else { Standing::Absent })
            }
            Err(error) if error.is_not_found() => Ok(Standing::Absent),
            Err(error) => Err(error),
        }
    }
}

fn standing_of(owner: &Thing) -> Standing {
    if owner.waits_for_dependents() { Standing::Waiting } else { Standing::Solid }
}

impl Controller for GarbageCollector {
    type View = View;
    const NAME: &'static str = "generic-garbage-collector";
    const COMPONENT: &'static str = "garbage-collector-controller";
    const QUEUE: &'static str = "garbage_collector_attempt_to_delete";

    fn view(&self, key: &Key) -> Option<View> {
        let state = self.graph.state();
        let thing = Arc::clone(state.get(&key.name)?);
        let standing = |owner: &Owner| (owner.clone(), self.standing(&state, &thing, owner));
        let owners = thing.owners.iter().map(standing).collect();
        let dependents = state.dependents(&thing.uid).cloned().collect();
        Some(View { owners, dependents, thing: Arc::clone(&thing) })
    }

    fn ask<'a>(&'a self, client: &'a Client, mut view: View) -> Asked<'a, View> {
        Box::pin(async move {
            if view.thing.is_deleted {
                return Ok(view);
            }
            for (owner, standing) in view.owners.iter_mut().filter(|(_, known)| *known == Standing::Unknown) {
                *standing = self.look_up(client, &view.thing, owner).await?;
            }
            Ok(view)
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        plan(&self.graph, view)
    }
}

fn plan(graph: &Graph, view: &View) -> Plan {
    let mut plan = Plan::nothing();
    let thing = &view.thing;
    if thing.orphans_dependents() {
        let forget = |dependent: &Arc<Thing>| actions::drop_owners(graph, dependent, &[&thing.uid]);
        plan.actions = view.dependents.iter().map(forget).collect();
        plan.act(actions::drop_finalizer(graph, thing, nauplius_meta::metadata::ORPHAN_DEPENDENTS));
    } else if thing.waits_for_dependents() {
        let blocks = |dependent: &&Arc<Thing>| {
            dependent.owners.iter().any(|owner| owner.uid == thing.uid && owner.blocks)
        };
        match view.dependents.iter().filter(blocks).count() {
            0 => plan.act(actions::drop_finalizer(graph, thing, nauplius_meta::metadata::DELETE_DEPENDENTS)),
            count => plan.because(format!("waiting for {count} dependents to go")),
        }
    } else if !thing.is_deleted {
        plan.actions = collect(graph, view);
    }
    plan
}

/// What to do about a thing that nobody has deleted.
fn collect(graph: &Graph, view: &View) -> Vec<Action> {
    let has = |wanted: Standing| view.owners.iter().any(|(_, standing)| *standing == wanted);
    let thing = &view.thing;
    let mut actions: Vec<_> = view
        .owners
        .iter()
        .filter(|(_, standing)| *standing == Standing::Impossible)
        .map(|(owner, _)| actions::invalid_namespace(graph, thing, owner))
        .collect();
    if view.owners.is_empty() || has(Standing::Unknown) || has(Standing::Impossible) {
        return actions;
    }
    if has(Standing::Solid) {
        let lost: Vec<&str> = view
            .owners
            .iter()
            .filter(|(_, standing)| *standing != Standing::Solid)
            .map(|(owner, _)| &*owner.uid)
            .collect();
        if !lost.is_empty() {
            actions.push(actions::drop_owners(graph, thing, &lost));
        }
        return actions;
    }
    if has(Standing::Waiting) && !view.dependents.is_empty() {
        if view.dependents.iter().any(|dependent| dependent.waits_for_dependents()) {
            // A circle: one that blocked its owners would wait for itself.
            actions.push(actions::unblock_owners(graph, thing));
        }
        actions.push(actions::delete(graph, thing, "Foreground"));
    } else {
        actions.push(actions::delete(graph, thing, propagation(thing)));
    }
    actions
}

fn propagation(thing: &Thing) -> &'static str {
    if thing.has_finalizer(nauplius_meta::metadata::ORPHAN_DEPENDENTS) {
        "Orphan"
    } else if thing.has_finalizer(nauplius_meta::metadata::DELETE_DEPENDENTS) {
        "Foreground"
    } else {
        "Background"
    }
}

#[cfg(test)]
mod tests;
