//! The cluster's certificates and keys: made at the first start, renewed when they near their end while they are in use, kept in the
//! data directory. Who may do what with them is the API server's business.

use crate::cluster::Cluster;
use crate::failure::{Doing, Failure};
use nauplius_base::time::unix_seconds;
use nauplius_client::kubeconfig;
use nauplius_pki::{
    Authority, CertificateFiles, Issued, LeafRequest, PrivateKey, TlsParts, renewal_time, write_private,
};
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The user whose certificate opens kubelets to the API server.
pub const KUBELET_CLIENT_USER: &str = "kube-apiserver-kubelet-client";
const ADMIN_USER: &str = "kubernetes-admin";
const ADMIN_GROUP: &str = "system:masters";

/// Everything that the wiring hands out.
pub struct Credentials {
    /// Signs every certificate here.
    pub authority: Authority,
    /// Signs the certificates of aggregating proxies; published for extension servers.
    pub front_proxy_authority: Authority,
    /// What the API server serves with.
    pub api_server: Arc<Live>,
    /// What the API server shows to kubelets.
    pub kubelet_client: Arc<Live>,
    /// What the kubelet serves with.
    pub kubelet: Arc<Live>,
    /// Signs tokens of service accounts.
    pub token_key: PrivateKey,
    leaves: Vec<Leaf>,
}

/// A certificate that is kept on disk and renewed.
struct Leaf {
    files: CertificateFiles,
    wanted: LeafRequest,
    live: Option<Arc<Live>>,
}

/// A certificate in use. Its renewal replaces it: handshakes from then on show the new one.
#[derive(Debug)]
pub struct Live(RwLock<Arc<CertifiedKey>>);

impl Live {
    fn new(issued: &Issued) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self(RwLock::new(certified(issued)?))))
    }

    fn replace(&self, issued: &Issued) -> Result<(), Failure> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(issued)?;
        Ok(())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Credentials {
    /// Reads what is there, makes what is missing or near its end.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn load_or_make(cluster: &Cluster, node_ip: Ipv4Addr) -> Result<Self, Failure> {
        let directory = cluster.data_dir.join("pki");
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::io("cannot make", &directory, &error))?;
        let files = |name: &str| CertificateFiles::in_directory(&directory, name);
        let authority =
            files("ca").load_or_create_authority("kubernetes-ca").doing("prepare the cluster's CA")?;
        let front_proxy_authority = files("front-proxy-ca")
            .load_or_create_authority("kubernetes-front-proxy-ca")
            .doing("prepare the front proxy's CA")?;
        let mut leaves = Vec::new();
        let mut live = |name: &str, wanted: LeafRequest| {
            let (files, wanted) = (files(name), cluster.with_lifetime(wanted));
            let live = Live::new(&issue(&files, &authority, &wanted)?.0)?;
            leaves.push(Leaf { files, wanted, live: Some(Arc::clone(&live)) });
            Ok::<_, Failure>(live)
        };
        let api_server = live("apiserver", api_server_request(cluster, node_ip))?;
        let kubelet_user = LeafRequest::client(KUBELET_CLIENT_USER, Vec::new());
        let kubelet_client = live("apiserver-kubelet-client", kubelet_user)?;
        let kubelet = live("kubelet", kubelet_request(cluster, node_ip))?;
        let admin = LeafRequest::client(ADMIN_USER, vec![ADMIN_GROUP.to_owned()]);
        leaves.push(Leaf { files: files("admin"), wanted: cluster.with_lifetime(admin), live: None });
        let token_key = token_key(&directory.join("sa.key"))?;
        Ok(Self { authority, front_proxy_authority, api_server, kubelet_client, kubelet, token_key, leaves })
    }

    /// Makes certificates anew that are near their end, and puts them to use; says whether there were any.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn renew(&self) -> Result<bool, Failure> {
        let mut any = false;
        for leaf in &self.leaves {
            let (issued, is_new) = issue(&leaf.files, &self.authority, &leaf.wanted)?;
            if let Some(live) = leaf.live.as_ref().filter(|_| is_new) {
                live.replace(&issued)?;
            }
            any |= is_new;
        }
        Ok(any)
    }

    /// How long until the next certificate is to be renewed; `None` when none ever is.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn until_renewal(&self) -> Result<Option<Duration>, Failure> {
        let mut next: Option<i64> = None;
        for leaf in &self.leaves {
            let issued = leaf.files.load().doing("read a certificate")?;
            let due = match issued {
                Some(issued) => renewal_time(&issued, &self.authority).doing("read a certificate")?,
                None => Some(0),
            };
            next = next.into_iter().chain(due).min();
        }
        let left = next.map(|due| due.saturating_add(1).saturating_sub(unix_seconds()));
        Ok(left.map(|left| Duration::from_secs(u64::try_from(left).unwrap_or(0))))
    }

    /// The administrator as a kubeconfig names them.
    ///
    /// # Errors
    /// When the certificate cannot be read or made.
    pub fn admin_entry(&self, cluster: &Cluster, node_ip: Ipv4Addr) -> Result<kubeconfig::Entry, Failure> {
        let admin = self.leaves.iter().find(|leaf| leaf.live.is_none());
        let admin = admin.ok_or_else(|| Failure::new("the administrator has no certificate"))?;
        let (issued, _) = issue(&admin.files, &self.authority, &admin.wanted)?;
        Ok(kubeconfig::Entry {
            name: cluster.name.clone(),
            server: format!("https://{node_ip}:{}", cluster.port),
            certificate_authority: self.authority.certificate_pem(),
            client_certificate: issued.certificate_pem,
            client_key: issued.key_pem,
            token: String::new(),
        })
    }

    /// Writes the administrator's kubeconfig into the data directory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_admin_kubeconfig(&self, cluster: &Cluster, node_ip: Ipv4Addr) -> Result<(), Failure> {
        let entry = self.admin_entry(cluster, node_ip)?;
        kubeconfig::merge(&cluster.admin_kubeconfig(), &entry).doing("write the administrator's kubeconfig")
    }

    /// Trusts the cluster's CA and nobody else.
    ///
    /// # Errors
    /// When the CA's certificate is no certificate.
    pub fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in TlsParts::certificates(&self.authority.certificate_pem()).doing("read the CA")? {
            roots.add(certificate).doing("trust the CA")?;
        }
        Ok(roots)
    }
}

/// The certificate, and whether it was made just now.
fn issue(
    files: &CertificateFiles,
    authority: &Authority,
    wanted: &LeafRequest,
) -> Result<(Issued, bool), Failure> {
    let (issued, reason) = files.load_or_issue(authority, wanted).doing("prepare a certificate")?;
    if let Some(reason) = reason {
        tracing::info!(certificate = wanted.common_name, ?reason, "issued");
    }
    Ok((issued, reason.is_some()))
}

fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, Failure> {
    let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).doing("read a certificate")?;
    let key = any_supported_type(&parts.key).doing("read a certificate's key")?;
    Ok(Arc::new(CertifiedKey::new(parts.chain, key)))
}

fn api_server_request(cluster: &Cluster, node_ip: Ipv4Addr) -> LeafRequest {
    let fixed = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let names = fixed.iter().map(ToString::to_string).chain([cluster.node_name.clone()]).collect();
    let addresses = [cluster.api_service_ip(), node_ip, Ipv4Addr::LOCALHOST];
    LeafRequest::server("kube-apiserver", names, addresses.into_iter().map(IpAddr::from).collect())
}

fn kubelet_request(cluster: &Cluster, node_ip: Ipv4Addr) -> LeafRequest {
    let user = format!("system:node:{}", cluster.node_name);
    LeafRequest::server(user, vec![cluster.node_name.clone()], vec![IpAddr::from(node_ip)])
}

fn token_key(path: &Path) -> Result<PrivateKey, Failure> {
    match std::fs::read_to_string(path) {
        Ok(pem) => PrivateKey::from_pem(&pem).doing("read the key of service account tokens"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = PrivateKey::generate().doing("make the key of service account tokens")?;
            write_private(path, key.to_pem().as_bytes()).doing("write the key of service account tokens")?;
            Ok(key)
        }
        Err(error) => Err(Failure::io("cannot read", path, &error)),
    }
}
