//! Endpoints that somebody wrote for a service without selector, mirrored into slices, since proxies and DNS read only those.
//! Endpoints that a controller made have slices of their own and are left alone.

mod slices;

use crate::context::{Context, SERVICE, enqueue, enqueue_all};
use nauplius_base::time::Timestamp;
use nauplius_kinds::{EndpointSlice, Endpoints, Object, Service};
use nauplius_reconcile::{Action, Controller, EventKind, Informer, Key, Plan, Queue};
use slices::Wanted;
use std::sync::Arc;

const WORKERS: usize = 5;
/// So many addresses of a subset are mirrored, upstream's default (`--mirroring-max-endpoints-per-subset`).
const ENDPOINTS_MAX: usize = 1000;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: (&str, &str) =
    ("endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io");
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that only carry a lock lead nowhere.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Mirroring {
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
}

struct View {
    service: Option<Arc<Service>>,
    endpoints: Option<Arc<Endpoints>>,
    /// Those that are mirrored already.
    slices: Vec<Arc<EndpointSlice>>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.services, &queue, |change| Some(Key::of(&**change.object())));
    enqueue(&context.endpoints, &queue, |change| Some(Key::of(&**change.object())));
    enqueue_all(&context.endpoint_slices, &queue, |slice: &EndpointSlice| {
        mirrored_for(slice).map(|name| Key::new(slice.namespace(), name)).into_iter().collect()
    });
    let controller = Mirroring {
        services: context.services.clone(),
        endpoints: context.endpoints.clone(),
        slices: context.endpoint_slices.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.endpoint_slices));
}

/// The service whose endpoints a slice mirrors.
fn mirrored_for(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    (labels.get(MANAGED_BY.0)? == MANAGED_BY.1)
        .then(|| labels.get(SERVICE_NAME).map(String::as_str))
        .flatten()
}

impl Controller for Mirroring {
    type View = View;
    const NAME: &'static str = "endpointslicemirroring-controller";
    const COMPONENT: &'static str = "endpoint-slice-mirroring-controller";
    const QUEUE: &'static str = "endpoint_slice_mirroring";

    fn view(&self, key: &Key) -> Option<View> {
        let service = self.services.snapshot().get(key).cloned();
        let endpoints = self.endpoints.snapshot().get(key).cloned();
        let (snapshot, name) = (self.slices.snapshot(), key.to_string());
        let mirrored = snapshot.indexed(SERVICE, &name).filter(|slice| mirrored_for(slice).is_some());
        let slices: Vec<_> = mirrored.cloned().collect();
        (endpoints.is_some() || !slices.is_empty()).then_some(View { service, endpoints, slices })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        plan(view)
    }
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    let Some(endpoints) = mirrorable(view) else {
        plan.actions.extend(view.slices.iter().map(|slice| Action::delete(&**slice)));
        return plan;
    };
    let wanted = Wanted::of(endpoints);
    plan.actions = slices::writes(endpoints, &wanted, &view.slices);
    if !plan.actions.is_empty() {
        plan.actions.extend(skipped(endpoints, &wanted));
    }
    plan
}

/// The endpoints, if they are to be mirrored.
fn mirrorable(view: &View) -> Option<&Endpoints> {
    let (service, endpoints) = (view.service.as_deref()?, view.endpoints.as_deref()?);
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let is_selecting = selector.is_some_and(|selector| !selector.is_empty());
    let metadata = &endpoints.metadata;
    let is_skipped = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP_MIRROR))
        .is_some_and(|skip| skip == "true");
    let is_lock = metadata.annotations.as_ref().is_some_and(|notes| notes.contains_key(LEADER));
    (!is_selecting && !is_skipped && !is_lock).then_some(endpoints)
}

/// Tells what could not be mirrored.
fn skipped(endpoints: &Endpoints, wanted: &Wanted) -> Vec<Action> {
    let mut events = Vec::new();
    if wanted.invalid > 0 {
        let message =
            format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", wanted.invalid);
        events.push(Action::event(endpoints, EventKind::Warning, "InvalidIPAddress", message));
    }
    if wanted.skipped > wanted.invalid {
        let message = format!(
            "A max of {ENDPOINTS_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
            wanted.skipped
        );
        events.push(Action::event(endpoints, EventKind::Warning, "TooManyAddressesToMirror", message));
    }
    events
}

#[cfg(test)]
mod tests;
