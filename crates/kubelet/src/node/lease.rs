//! The node's heartbeat: a lease that is renewed every ten seconds and runs out after forty.

use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::{Api, Client, ClientError};
use nauplius_kinds::api::coordination::{Lease, LeaseSpec};
use nauplius_kinds::api::meta::{MicroTime, OwnerReference};
use std::convert::Infallible;
use std::time::Duration;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_S: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);

/// The lease of one node.
pub struct Heart {
    api: Api<Lease>,
    node_name: String,
    node_uid: String,
    last: Option<Lease>,
}

impl Heart {
    /// Of the node with this name and uid.
    pub fn new(client: &Client, node_name: &str, node_uid: &str) -> Self {
        let api = client.namespaced(NAMESPACE);
        Self { api, node_name: node_name.to_owned(), node_uid: node_uid.to_owned(), last: None }
    }

    /// Beats until shutdown.
    ///
    /// # Errors
    /// Never: a beat that fails is tried again sooner.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        shutdown.run_until_cancelled(self.beat_on()).await;
        Ok(())
    }

    async fn beat_on(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7)).with_jitter(0.2);
        loop {
            match self.beat().await {
                Ok(()) => {
                    backoff.reset();
                    time::sleep(RENEW).await;
                }
                Err(error) => {
                    self.last = None;
                    tracing::warn!(%error, "the node's lease could not be renewed, trying again");
                    time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// One renewal, from the lease as the last one left it.
    async fn beat(&mut self) -> Result<(), ClientError> {
        let known = match self.last.take() {
            Some(lease) => Some(lease),
            None => match self.api.get(&self.node_name).await {
                Ok(lease) => Some(lease),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            },
        };
        let written = match known {
            Some(lease) => self.api.update(&self.renewed(lease)).await?,
            None => self.api.create(&self.renewed(Lease::default())).await?,
        };
        self.last = Some(written);
        Ok(())
    }

    fn renewed(&self, mut lease: Lease) -> Lease {
        lease.metadata.name = Some(self.node_name.clone());
        lease.metadata.namespace = Some(NAMESPACE.to_owned());
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node_name.clone(),
            uid: self.node_uid.clone(),
            ..OwnerReference::default()
        }]);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.node_name.clone()),
            lease_duration_seconds: Some(DURATION_S),
            renew_time: Some(MicroTime(time::now())),
            ..lease.spec.unwrap_or_default()
        });
        lease
    }
}
