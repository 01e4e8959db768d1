//! From the API server to kubelets: logs, exec, attach and port-forward. A seam until it is built.

/// How to reach a kubelet: our client certificate and the CA of their serving certificates.
#[derive(Clone)]
pub struct KubeletDialer {
    /// Client authentication and trust.
    pub tls: std::sync::Arc<rustls::ClientConfig>,
}
