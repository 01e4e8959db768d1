//! Who each component is: upstream's own users and service accounts, in process as over TLS.

use nauplius_apiserver::{ApiServer, UserInfo};
use nauplius_client::Client;
use std::sync::Arc;

const NODES: &str = "system:nodes";
const DNS_ACCOUNT: &str = "coredns";

/// Hands out clients, each with one identity.
#[derive(Clone)]
pub struct Identities {
    server: Arc<ApiServer>,
}

impl Identities {
    /// Clients of `server`, in process.
    pub fn new(server: Arc<ApiServer>) -> Self {
        Self { server }
    }

    fn client(&self, component: &str, user: UserInfo) -> Client {
        let agent = format!("{component}/v{}", env!("CARGO_PKG_VERSION"));
        Client::new(self.server.transport(user), &agent)
    }

    /// The administrator, for what a person would otherwise apply: the add-ons.
    pub fn admin(&self) -> Client {
        self.client("nauplius", UserInfo::authenticated("kubernetes-admin", &["system:masters"]))
    }

    /// `system:kube-controller-manager`
    pub fn controller_manager(&self) -> Client {
        let user = UserInfo::authenticated("system:kube-controller-manager", &[]);
        self.client("kube-controller-manager", user)
    }

    /// A controller's own service account in `kube-system`.
    pub fn controller(&self, name: &str) -> Client {
        let agent = format!("kube-controller-manager/{name}");
        self.client(&agent, UserInfo::service_account("kube-system", name))
    }

    /// `system:kube-scheduler`
    pub fn scheduler(&self) -> Client {
        self.client("kube-scheduler", UserInfo::authenticated("system:kube-scheduler", &[]))
    }

    /// `system:node:NAME` in `system:nodes`
    pub fn kubelet(&self, node: &str) -> Client {
        self.client("kubelet", UserInfo::authenticated(format!("system:node:{node}"), &[NODES]))
    }

    /// `system:kube-proxy`
    pub fn proxy(&self) -> Client {
        self.client("kube-proxy", UserInfo::authenticated("system:kube-proxy", &[]))
    }

    /// The service account of cluster DNS.
    pub fn dns(&self) -> Client {
        self.client("coredns", UserInfo::service_account("kube-system", DNS_ACCOUNT))
    }
}
