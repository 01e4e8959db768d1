//! Renews certificates while the server runs: each is made anew with a third of its life left, and handshakes from then on show the
//! new one. People's kubeconfigs get theirs, too.

use super::Site;
use crate::failure::{Doing, Failure};
use crate::up;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_base::time;
use nauplius_client::kubeconfig;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The wall clock may be set, and machines sleep: so it is looked at now and then, whatever is due.
const LOOK_MAX: Duration = Duration::from_secs(3600);
/// How soon a renewal that failed is tried again.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// Renews until the shutdown.
pub fn start(site: &Arc<Site>, group: &Group) {
    group.spawn("certificate renewal", run(Arc::clone(site), group.token()));
}

async fn run(site: Arc<Site>, shutdown: CancellationToken) -> Result<(), Infallible> {
    loop {
        let wait = match site.credentials.until_renewal() {
            Ok(due) => due.unwrap_or(LOOK_MAX).clamp(LOOK_MIN, LOOK_MAX),
            // The renewal will say why.
            Err(_) => LOOK_MIN,
        };
        if shutdown.run_until_cancelled(time::sleep(wait)).await.is_none() {
            return Ok(());
        }
        let renewing = Arc::clone(&site);
        match tokio::task::spawn_blocking(move || renew(&renewing)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::error!(%failure, "certificates cannot be renewed, trying again"),
            Err(error) => tracing::error!(%error, "the renewal of certificates broke, trying again"),
        }
    }
}

fn renew(site: &Site) -> Result<(), Failure> {
    if !site.credentials.renew()? {
        return Ok(());
    }
    let entry = site.credentials.admin_entry(&site.cluster, site.node_ip)?;
    kubeconfig::merge(&site.cluster.admin_kubeconfig(), &entry)
        .doing("write the administrator's kubeconfig")?;
    for path in up::noted_kubeconfigs(&site.cluster)? {
        // A file that its owner has broken is not ours to mend.
        if let Err(error) = kubeconfig::refresh(&path, &entry) {
            tracing::warn!(%error, "a kubeconfig keeps its old certificate: run `nauplius up` again");
        }
    }
    Ok(())
}
