//! The server's identity lease: others learn from it that this API server is alive.

use super::Settings;
use crate::server::ApiServer;
use http::Method;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::{Client, ClientError};
use nauplius_pki::PeerCertificate;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// As upstream's identity leases.
const RENEW: Duration = Duration::from_secs(10);
const DURATION_S: i64 = 3600;
const COLLECTION: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// Keeps the lease fresh until `shutdown`.
///
/// # Errors
/// Never: a renewal that fails is tried again at the next turn.
pub async fn run(
    server: Arc<ApiServer>,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let client = Client::new(
        server.transport(settings.loopback.user()),
        concat!("nauplius/", env!("CARGO_PKG_VERSION"), " (identity lease)"),
    );
    // The CA tells clusters apart, the host's name tells servers of one cluster apart.
    let cluster = PeerCertificate::from_pem(&settings.client_ca).map(|ca| ca.fingerprint).unwrap_or_default();
    let name = name_of(&settings.host_name, &cluster);
    loop {
        if let Err(error) = renew(&client, &name, &settings.host_name).await {
            tracing::warn!(%error, lease = name, "cannot renew the identity lease");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = time::sleep(RENEW) => {}
        }
    }
}

/// The same after each restart, so that leases do not pile up.
fn name_of(host: &str, cluster: &str) -> String {
    let seed = format!("{host}/{cluster}");
    // FNV-1a: an identifier, not a secret.
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("apiserver-{hash:016x}")
}

async fn renew(client: &Client, name: &str, host: &str) -> Result<(), ClientError> {
    let now = time::rfc3339_micros(time::now());
    let patch = json!({"spec": {"renewTime": now, "holderIdentity": format!("{name}_{host}")}});
    let path = format!("{COLLECTION}/{name}");
    let body = Some(patch.to_string().into_bytes());
    match client.request(Method::PATCH, &path, Some("application/merge-patch+json"), body).await {
        Err(error) if error.is_not_found() => create(client, name, host, &now).await,
        outcome => outcome.map(drop),
    }
}

async fn create(client: &Client, name: &str, host: &str, now: &str) -> Result<(), ClientError> {
    let lease: Value = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host},
        },
        "spec": {
            "holderIdentity": format!("{name}_{host}"),
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": now,
            "renewTime": now,
        },
    });
    let body = Some(lease.to_string().into_bytes());
    client.request(Method::POST, COLLECTION, Some("application/json"), body).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_apart() {
        assert_eq!(name_of("a", "c"), name_of("a", "c"));
        assert_ne!(name_of("a", "c"), name_of("b", "c"));
    }
}
