//! A deleted namespace is emptied, pods first, and let go when nothing is left in it.

mod conditions;

use crate::context::{Context, enqueue};
use crate::graph::resources::Resource;
use crate::graph::{Graph, definitions};
use http::Method;
use nauplius_base::time::Timestamp;
use nauplius_client::{Client, ClientError};
use nauplius_kinds::{Namespace, Object, split_list};
use nauplius_reconcile::plan::Write;
use nauplius_reconcile::{Action, Asked, Controller, Informer, Key, Plan, Queue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 4;
const FINALIZER: &str = "kubernetes";
/// The graph catches up with what a list has shown within this time.
const GRAPH_LAG: Duration = Duration::from_millis(100);

struct Namespaces {
    namespaces: Informer<Namespace>,
    graph: Arc<Graph>,
}

/// What is left of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Left {
    count: usize,
    /// How many nobody has deleted yet.
    undeleted: usize,
    finalizers: BTreeMap<String, usize>,
}

#[derive(Debug, Clone)]
struct View {
    namespace: Arc<Namespace>,
    /// By index of the resource.
    left: BTreeMap<usize, Left>,
    /// The graph shows nothing, but a list does.
    is_behind: bool,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.namespaces, &queue, |change| Some(Key::of(&**change.object())));
    let (keys, namespaces) = (queue.clone(), context.namespaces.clone());
    context.graph.on_change(move |_, change| {
        let Some(thing) = change.new.or(change.old).filter(|thing| !thing.namespace.is_empty()) else {
            return;
        };
        let key = Key::new("", &*thing.namespace);
        if namespaces.snapshot().get(&key).is_some_and(|namespace| is_ending(namespace)) {
            keys.add(key);
        }
    });
    let controller = Namespaces { namespaces: context.namespaces.clone(), graph: Arc::clone(&context.graph) };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.namespaces));
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default()
}

fn is_ending(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers(namespace).iter().any(|known| known == FINALIZER)
}

/// Whether it stays for the sake of others when we are done with it.
fn is_kept(namespace: &Namespace) -> bool {
    let own = namespace.metadata.finalizers.as_deref().unwrap_or_default();
    !own.is_empty() || finalizers(namespace).iter().any(|known| known != FINALIZER)
}

impl Namespaces {
    fn left(&self, namespace: &str) -> BTreeMap<usize, Left> {
        let mut all: BTreeMap<usize, Left> = BTreeMap::new();
        for thing in self.graph.state().in_namespace(namespace) {
            let left = all.entry(thing.resource).or_default();
            left.count += 1;
            left.undeleted += usize::from(!thing.is_deleted);
            for finalizer in &thing.finalizers {
                *left.finalizers.entry(finalizer.to_string()).or_insert(0) += 1;
            }
        }
        all
    }

    /// What the graph may not have seen yet: it was made while the namespace was still active.
    async fn listed(&self, client: &Client, namespace: &str) -> Result<BTreeMap<usize, Left>, ClientError> {
        let mut all = BTreeMap::new();
        for resource in definitions::listed(client).await? {
            // What was defined a moment ago may hold something, too.
            if self.graph.resources.find(&resource.api_version(), &resource.kind).is_none() {
                self.graph.resources.add(resource);
            }
        }
        let watched = self.graph.resources.watched().into_iter();
        for (index, resource) in watched.filter(|(_, resource)| resource.namespaced) {
            let url = resource.path(namespace, None) + "?limit=1";
            let body = match client.request(Method::GET, &url, None, None).await {
                Ok(body) => body,
                // It went with its definition.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let malformed = |error: serde_json::Error| ClientError::Body(error.to_string());
            let count = split_list(&body).map_err(malformed)?.items.len();
            if count > 0 {
                all.insert(index, Left { count, undeleted: count, finalizers: BTreeMap::new() });
            }
        }
        Ok(all)
    }
}

impl Controller for Namespaces {
    type View = View;
    const NAME: &'static str = "namespace-controller";
    const QUEUE: &'static str = "namespace";

    fn view(&self, key: &Key) -> Option<View> {
        let namespace =
            self.namespaces.snapshot().get(key).cloned().filter(|namespace| is_ending(namespace))?;
        let left = self.left(namespace.name());
        Some(View { namespace, left, is_behind: false })
    }

    fn ask<'a>(&'a self, client: &'a Client, mut view: View) -> Asked<'a, View> {
        Box::pin(async move {
            if view.left.is_empty() {
                view.left = self.listed(client, view.namespace.name()).await?;
                view.is_behind = !view.left.is_empty();
            }
            Ok(view)
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(&self.graph, view, now)
    }

    fn after_failure(&self, view: &View, error: &ClientError, now: Timestamp) -> Vec<Action> {
        if error.is_conflict() || error.is_not_found() {
            return Vec::new();
        }
        let message = format!("Failed to delete all resource types, {} remaining: {error}", view.left.len());
        conditions::update(&self.graph, view, Some(&message), now).into_iter().collect()
    }
}

fn plan(graph: &Graph, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let namespace = &view.namespace;
    if view.left.is_empty() {
        // Whoever keeps it longer is not to read that something is left in it.
        if is_kept(namespace)
            && let Some(update) = conditions::update(graph, view, None, now)
        {
            plan.act(update);
            return plan;
        }
        // Nothing can be made any more, so that events, which nobody follows, are the last to go.
        let events = graph.resources.all().into_iter().find(|(_, resource)| resource.is_events());
        plan.actions.extend(events.map(|(_, resource)| delete_all(&resource, namespace.name())));
        plan.act(finalize(namespace));
        return plan;
    }
    let has_pods = view.left.keys().any(|index| graph.resources.get(*index).is_pods());
    for (index, left) in &view.left {
        let resource = graph.resources.get(*index);
        if left.undeleted > 0 && (resource.is_pods() || !has_pods) {
            plan.act(delete_all(&resource, namespace.name()));
        }
    }
    plan.actions.extend(conditions::update(graph, view, None, now));
    plan.because("waiting for the namespace's content to go");
    if view.is_behind {
        plan.again(GRAPH_LAG);
    }
    plan
}

fn delete_all(resource: &Resource, namespace: &str) -> Action {
    Action::Write(Box::new(Write {
        method: Method::DELETE,
        path: resource.path(namespace, None),
        content_type: "application/json",
        body: br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#.to_vec(),
        resource: "",
        batchable: true,
        on_success: None,
        on_failure: None,
    }))
}

fn finalize(namespace: &Namespace) -> Action {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|known| known != FINALIZER);
    }
    Action::update_subresource(&namespace, "finalize")
}

#[cfg(test)]
mod tests;
