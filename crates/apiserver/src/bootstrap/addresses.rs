//! Keeps the IPAddress objects of services: while a service has an address, nobody else must be given it. As upstream's repair of
//! addresses; a deletion that the watch cache tells of is repaired at once.

use super::ensure::{Place, ensure, keep as leave};
use super::keep::{FIRST_RETRY, LAST_RETRY};
use crate::cache::{Batch, Change, ResourceCache};
use crate::hooks::{address_object, service_addresses};
use crate::server::ApiServer;
use nauplius_base::backoff::Backoff;
use nauplius_base::time;
use nauplius_client::Client;
use nauplius_meta::{names, object};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

const ADDRESSES: Place = Place { group: "networking.k8s.io", version: "v1", plural: "ipaddresses" };

/// An address, and the namespace and name of the service that had it when its object went.
type Lost = BTreeSet<(IpAddr, String, String)>;

/// Restores what goes, for ever.
pub(super) async fn keep(server: &Arc<ApiServer>, client: &Client) {
    let Some(cache) = server.caches().resource(ADDRESSES.group, ADDRESSES.plural) else { return };
    let mut subscription = cache.subscribe();
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY).with_jitter(0.5);
    let (mut seen, mut missing) = (cache.snapshot().1, Lost::new());
    loop {
        let is_done = gather(server, &cache, &mut seen, &mut missing);
        match restore(server, client, &mut missing).await {
            Ok(()) if is_done => {
                backoff.reset();
                subscription.changed().await;
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "the address of a service is not kept; it is tried again");
                time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Adds what went since `seen`; says whether that was all.
fn gather(server: &ApiServer, cache: &ResourceCache, seen: &mut i64, missing: &mut Lost) -> bool {
    match cache.changes_after(*seen) {
        Ok(Batch { changes, .. }) => {
            missing.extend(changes.iter().filter_map(|change| lost(change)));
            let Some(last) = changes.last() else { return true };
            *seen = last.revision;
            false
        }
        Err(_) => {
            // The ring forgot some changes: what is missing is found by looking at every service.
            *seen = cache.snapshot().1;
            missing.extend(all(server));
            false
        }
    }
}

fn lost(change: &Change) -> Option<(IpAddr, String, String)> {
    let old = change.old.as_ref().filter(|_| change.new.is_none())?;
    let ip = names::parse_ip(old.name())?;
    let object = old.object().ok()?; // The feed reports what it cannot read.
    let parent = &object["spec"]["parentRef"];
    let text = |key: &str| parent[key].as_str().unwrap_or_default().to_owned();
    (text("resource") == "services").then(|| (ip, text("namespace"), text("name")))
}

fn all(server: &ApiServer) -> Lost {
    let Some(services) = server.caches().resource("", "services") else { return Lost::new() };
    let (snapshot, _) = services.snapshot();
    let of_service = |service: Value| {
        let (namespace, name) = (object::namespace(&service).to_owned(), object::name(&service).to_owned());
        service_addresses(&service).into_iter().map(move |ip| (ip, namespace.clone(), name.clone()))
    };
    let services = snapshot.iter().filter_map(|entry| entry.object().ok()); // As above.
    services.flat_map(of_service).collect()
}

async fn restore(
    server: &Arc<ApiServer>,
    client: &Client,
    missing: &mut Lost,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if missing.is_empty() {
        return Ok(());
    }
    // A service and its addresses go together: both caches must have seen it.
    server.caches().catch_up().await?;
    while let Some((ip, namespace, name)) = missing.first().cloned() {
        if let Some(entry) = server.caches().get("", "services", &namespace, &name) {
            let service = entry.object()?;
            if service_addresses(&service).contains(&ip) {
                ensure(client, server.caches(), ADDRESSES, address_object(&service, ip), leave).await?;
            }
        }
        missing.pop_first();
    }
    Ok(())
}
