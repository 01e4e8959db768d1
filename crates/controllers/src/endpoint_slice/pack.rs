//! Which endpoint goes into which slice: those that are in one stay there, changed slices are filled first, and as few slices as
//! possible are touched.

use crate::backends::{TRIGGER_TIME, trigger_time};
use nauplius_base::time::Timestamp;
use nauplius_kinds::EndpointSlice;
use nauplius_kinds::api::discovery::{Endpoint, EndpointPort};
use nauplius_reconcile::Action;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Upstream's limit of endpoints in a slice.
pub(super) const ENDPOINTS_MAX: usize = 100;

/// An endpoint that must be in some slice.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub endpoint: Endpoint,
    /// Since when it is as it is.
    pub changed_at: Option<Timestamp>,
}

/// What an endpoint is recognised by: the pod, else its address.
pub(super) fn identity(endpoint: &Endpoint) -> (Option<&str>, &[String]) {
    (endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()), &endpoint.addresses)
}

/// A slice and what it will hold.
struct Filling {
    known: Option<Arc<EndpointSlice>>,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    is_changed: bool,
    changed_at: Option<Timestamp>,
}

impl Filling {
    fn new(ports: &[EndpointPort]) -> Self {
        Self { known: None, ports: ports.to_vec(), endpoints: Vec::new(), is_changed: true, changed_at: None }
    }

    fn room(&self) -> usize {
        ENDPOINTS_MAX.saturating_sub(self.endpoints.len())
    }

    fn change(&mut self, at: Option<Timestamp>) {
        self.is_changed = true;
        self.changed_at = match (self.changed_at, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn take(&mut self, desired: Desired) {
        self.change(desired.changed_at);
        self.endpoints.push(desired.endpoint);
    }
}

/// The writes that lead from `slices` to what is desired, for one address type.
pub(super) fn pack(
    template: &EndpointSlice,
    desired: Vec<(Vec<EndpointPort>, Vec<Desired>)>,
    slices: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut unused: Vec<_> = slices.to_vec();
    let mut fillings = Vec::new();
    for (ports, endpoints) in desired {
        let (same, other): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|slice| slice.ports.as_deref().unwrap_or_default() == ports);
        unused = other;
        let (kept, emptied) = fill(&ports, endpoints, same);
        fillings.extend(kept);
        unused.extend(emptied);
    }
    if fillings.is_empty() {
        // A service without endpoints has one empty slice, so that readers know that it was looked at.
        fillings.push(Filling::new(&[]));
    }
    reuse(&mut fillings, &mut unused);
    let writes = fillings.iter().filter_map(|filling| write(template, filling));
    writes.chain(unused.iter().map(|slice| Action::delete(&**slice))).collect()
}

/// Fills slices with these ports; those that nothing is left in come second.
fn fill(
    ports: &[EndpointPort],
    endpoints: Vec<Desired>,
    slices: Vec<Arc<EndpointSlice>>,
) -> (Vec<Filling>, Vec<Arc<EndpointSlice>>) {
    let mut wanted: BTreeMap<_, _> = endpoints
        .into_iter()
        .map(|desired| {
            let (uid, addresses) = identity(&desired.endpoint);
            ((uid.map(str::to_owned), addresses.to_vec()), desired)
        })
        .collect();
    let mut fillings: Vec<_> = slices.into_iter().map(|slice| keep(ports, slice, &mut wanted)).collect();
    let emptied: Vec<_> = fillings.extract_if(.., |filling| filling.endpoints.is_empty()).collect();
    let mut rest = wanted.into_values();
    for filling in fillings.iter_mut().filter(|filling| filling.is_changed) {
        rest.by_ref().take(filling.room()).for_each(|desired| filling.take(desired));
    }
    place(ports, rest.collect(), &mut fillings);
    (fillings, emptied.into_iter().filter_map(|filling| filling.known).collect())
}

/// The endpoints that are in `slice` already and still wanted, as they are now.
fn keep(
    ports: &[EndpointPort],
    slice: Arc<EndpointSlice>,
    wanted: &mut BTreeMap<(Option<String>, Vec<String>), Desired>,
) -> Filling {
    let mut filling = Filling { is_changed: false, ..Filling::new(ports) };
    for known in slice.endpoints.iter().flatten() {
        let (uid, addresses) = identity(known);
        let Some(desired) = wanted.remove(&(uid.map(str::to_owned), addresses.to_vec())) else {
            filling.change(None);
            continue;
        };
        if is_same(known, &desired.endpoint) {
            filling.endpoints.push(known.clone());
        } else {
            filling.take(desired);
        }
    }
    filling.known = Some(slice);
    filling
}

/// Readers do not care which revision of its pod an endpoint was made from.
fn is_same(known: &Endpoint, wanted: &Endpoint) -> bool {
    let mut known = known.clone();
    if let Some(target) = &mut known.target_ref {
        target.resource_version = None;
    }
    known.hints = None;
    known == *wanted
}

/// What fits into one untouched slice goes into the fullest that has room, the rest into new ones.
fn place(ports: &[EndpointPort], mut rest: Vec<Desired>, fillings: &mut Vec<Filling>) {
    while rest.len() >= ENDPOINTS_MAX {
        push_new(ports, rest.drain(..ENDPOINTS_MAX).collect(), fillings);
    }
    if rest.is_empty() {
        return;
    }
    let roomy = fillings.iter_mut().filter(|filling| filling.room() >= rest.len());
    match roomy.min_by_key(|filling| filling.room()) {
        Some(filling) => rest.into_iter().for_each(|desired| filling.take(desired)),
        None => push_new(ports, rest, fillings),
    }
}

fn push_new(ports: &[EndpointPort], endpoints: Vec<Desired>, fillings: &mut Vec<Filling>) {
    let mut filling = Filling::new(ports);
    endpoints.into_iter().for_each(|desired| filling.take(desired));
    fillings.push(filling);
}

/// A slice to delete and one to create are one slice to update.
fn reuse(fillings: &mut [Filling], unused: &mut Vec<Arc<EndpointSlice>>) {
    for filling in fillings.iter_mut().filter(|filling| filling.known.is_none()) {
        filling.known = if unused.is_empty() { None } else { Some(unused.remove(0)) };
    }
}

fn write(template: &EndpointSlice, filling: &Filling) -> Option<Action> {
    let Some(known) = &filling.known else {
        let mut slice = template.clone();
        let created = slice.metadata.creation_timestamp.take().map(|time| time.0);
        put(&mut slice, filling, filling.changed_at.or(created));
        return Some(Action::create(&slice));
    };
    let mut slice = EndpointSlice::clone(known);
    slice.metadata.labels.clone_from(&template.metadata.labels);
    let is_owned = slice.metadata.owner_references.iter().flatten().any(|owner| {
        template.metadata.owner_references.iter().flatten().any(|wanted| wanted.uid == owner.uid)
    });
    if !is_owned {
        slice.metadata.owner_references.clone_from(&template.metadata.owner_references);
    }
    let is_settled = !filling.is_changed || (is_empty(filling) && is_empty_slice(known));
    if is_settled && slice == **known {
        return None;
    }
    put(&mut slice, filling, filling.changed_at);
    Some(Action::update(&slice))
}

fn is_empty(filling: &Filling) -> bool {
    filling.endpoints.is_empty() && filling.ports.is_empty()
}

fn is_empty_slice(slice: &EndpointSlice) -> bool {
    slice.endpoints.as_ref().is_none_or(Vec::is_empty) && slice.ports.as_ref().is_none_or(Vec::is_empty)
}

fn put(slice: &mut EndpointSlice, filling: &Filling, changed_at: Option<Timestamp>) {
    slice.endpoints = Some(filling.endpoints.clone());
    slice.ports = Some(filling.ports.clone()).filter(|ports| !ports.is_empty());
    let annotations = slice.metadata.annotations.get_or_insert_default();
    match changed_at {
        Some(at) => annotations.insert(TRIGGER_TIME.to_owned(), trigger_time(at)),
        None => annotations.remove(TRIGGER_TIME),
    };
    if annotations.is_empty() {
        slice.metadata.annotations = None;
    }
}
