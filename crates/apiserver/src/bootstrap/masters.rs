//! Which API servers there are: each keeps a key with a short lease in the store, and all keep the endpoints of the `kubernetes` service
//! at what those keys say. So a server that dies leaves the service within a lease's time, whoever notices. As upstream's lease
//! reconciler; the keys are where upstream has them.

use super::ensure::ensure;
use super::{BootstrapError, Settings, Wanted};
use crate::server::ApiServer;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::Client;
use nauplius_store::{LeaseId, Op, RangeRequest, Store, StoreError, Txn};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Upstream's.
const INTERVAL: Duration = Duration::from_secs(10);
const LEASE_MS: u64 = 15_000;
/// What the keys begin with that say which API servers run.
pub const KEYS: &str = "/registry/masterleases/";

fn failed(error: &StoreError) -> BootstrapError {
    BootstrapError { object: "the lease of this API server".to_owned(), reason: error.to_string() }
}

/// That this server is there: to be kept by [`run`].
pub struct Seat(LeaseId);

/// Says that this server is there, and returns the addresses of all.
///
/// # Errors
/// When the store refuses.
pub(super) async fn join(
    server: &Arc<ApiServer>,
    settings: &Settings,
) -> Result<(Seat, Vec<IpAddr>), BootstrapError> {
    let store = &*server.config.store;
    let seat = enter(store, settings.advertise_address).await.map_err(|error| failed(&error))?;
    Ok((Seat(seat), addresses(store).await.map_err(|error| failed(&error))?))
}

/// Keeps this server and the endpoints up to date until `shutdown`.
///
/// # Errors
/// Never: what fails is tried again at the next turn.
pub async fn run(
    server: Arc<ApiServer>,
    settings: Settings,
    seat: Seat,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let client = Client::new(
        server.transport(settings.loopback.user()),
        concat!("nauplius/", env!("CARGO_PKG_VERSION"), " (kubernetes endpoints)"),
    );
    let mut lease = seat.0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = time::sleep(INTERVAL) => {}
        }
        if let Err(error) = turn(&server, &client, &settings, &mut lease).await {
            tracing::warn!(%error, "the endpoints of the kubernetes service are tended again later");
        }
    }
    // Others leave it out with their next turn instead of when the lease ends, which it does if this fails.
    if let Err(error) = server.config.store.lease_revoke(lease).await {
        tracing::debug!(%error, "the lease of this API server ends by itself");
    }
    Ok(())
}

async fn turn(
    server: &Arc<ApiServer>,
    client: &Client,
    settings: &Settings,
    lease: &mut LeaseId,
) -> Result<(), BootstrapError> {
    let store = &*server.config.store;
    match store.lease_keep_alive(*lease).await {
        Ok(()) => {}
        Err(StoreError::LeaseNotFound(_)) => {
            *lease = enter(store, settings.advertise_address).await.map_err(|error| failed(&error))?;
        }
        Err(error) => return Err(failed(&error)),
    }
    let addresses = addresses(store).await.map_err(|error| failed(&error))?;
    for Wanted { place, object, mend } in super::endpoints(settings, &addresses) {
        ensure(client, server.caches(), place, object, mend).await?;
    }
    Ok(())
}

/// The lease replaces the one that the key had, so that only the last one counts.
async fn enter(store: &dyn Store, address: IpAddr) -> Result<LeaseId, StoreError> {
    let lease = store.lease_grant(LEASE_MS).await?;
    let key = format!("{KEYS}{address}").into();
    let put = Op::Put { key, value: address.to_string().into(), lease: Some(lease) };
    store.txn(Txn { compare: Vec::new(), ops: vec![put] }).await?;
    Ok(lease)
}

/// In a stable order, so that servers agree.
async fn addresses(store: &dyn Store) -> Result<Vec<IpAddr>, StoreError> {
    let found = store.range(RangeRequest { keys_only: true, ..RangeRequest::prefix(KEYS) }).await?;
    let address = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(KEYS)?.parse().ok(); // Only we write here.
    let mut addresses: Vec<IpAddr> = found.kvs.iter().filter_map(|kv| address(&kv.key)).collect();
    addresses.sort_unstable();
    Ok(addresses)
}
