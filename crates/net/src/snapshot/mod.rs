//! API objects to the plain records that the dataplane and DNS are built from. Pure. A field that makes no sense is left out, as
//! upstream does; the API server does not let it in.

pub(crate) mod names;
pub(crate) mod services;

use nauplius_kinds::api::discovery;
use nauplius_kinds::{EndpointSlice, Object};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The label that names an EndpointSlice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const NONE: &str = "None";
const EXTERNAL_NAME: &str = "ExternalName";

/// EndpointSlices by the namespace and name of their service.
pub(crate) type Slices = HashMap<(String, String), Vec<Arc<EndpointSlice>>>;

pub(crate) fn by_service<'a>(slices: impl Iterator<Item = &'a Arc<EndpointSlice>>) -> Slices {
    let mut grouped = Slices::new();
    for slice in slices {
        let service = slice.meta().labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let Some(service) = service {
            let key = (slice.namespace().to_owned(), service.clone());
            grouped.entry(key).or_default().push(Arc::clone(slice));
        }
    }
    grouped
}

/// Conditions as the specification reads absent ones.
struct Conditions {
    ready: bool,
    serving: bool,
    terminating: bool,
}

fn conditions(endpoint: &discovery::Endpoint) -> Conditions {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    Conditions {
        ready,
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
    }
}

fn addresses(words: Option<&Vec<String>>) -> Vec<IpAddr> {
    words.into_iter().flatten().filter_map(|word| word.parse().ok()).collect()
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}
