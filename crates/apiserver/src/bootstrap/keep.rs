//! Keeps the objects that a cluster cannot do without: whoever deletes or empties one finds it there again. The watch caches tell of
//! every change, so nothing is polled. What upstream writes at a start alone (roles, priority classes, API services) is not kept.

use super::ensure::ensure;
use super::{Settings, Wanted, addresses};
use crate::cache::ResourceCache;
use crate::server::ApiServer;
use futures_util::future::join_all;
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::Client;
use nauplius_meta::object;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How soon what failed is tried again at first.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Upstream's slowest turn for such objects.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(60);

/// Keeps them until `shutdown`.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(
    server: Arc<ApiServer>,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let client = Client::new(
        server.transport(settings.loopback.user()),
        concat!("nauplius/", env!("CARGO_PKG_VERSION"), " (kept objects)"),
    );
    let keepers = super::kept(&server, &settings).into_iter().map(|wanted| Keeper {
        server: &server,
        client: &client,
        wanted,
    });
    let kept = join_all(keepers.map(Keeper::keep));
    let addresses = addresses::keep(&server, &client);
    shutdown.run_until_cancelled(async { tokio::join!(kept, addresses) }).await;
    Ok(())
}

/// Keeps one object.
struct Keeper<'a> {
    server: &'a Arc<ApiServer>,
    client: &'a Client,
    wanted: Wanted,
}

impl Keeper<'_> {
    async fn keep(self) {
        let place = self.wanted.place;
        let Some(cache) = self.server.caches().resource(place.group, place.plural) else { return };
        let mut subscription = cache.subscribe();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY).with_jitter(0.5);
        let mut seen = None;
        loop {
            let now = self.revision(&cache);
            if now.is_some() && now == seen {
                subscription.changed().await;
                continue;
            }
            match ensure(
                self.client,
                self.server.caches(),
                place,
                self.wanted.object.clone(),
                self.wanted.mend,
            )
            .await
            {
                Ok(()) => {
                    backoff.reset();
                    seen = now;
                    if now.is_none() {
                        // The cache has not seen yet what was written.
                        subscription.changed().await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "an object of the cluster's own is missing or damaged; it is tried again");
                    time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    fn revision(&self, cache: &ResourceCache) -> Option<i64> {
        let object = &self.wanted.object;
        let found = cache.get(object::namespace(object), object::name(object));
        found.map(|entry| entry.revision())
    }
}
