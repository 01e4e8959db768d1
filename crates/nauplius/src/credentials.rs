//! The cluster's certificates and keys: made at the first start, renewed when they near their end, kept in the data
//! directory. Who may do what with them is the API server's business.

use crate::cluster::Cluster;
use crate::failure::{Doing, Failure};
use nauplius_client::kubeconfig;
use nauplius_pki::{Authority, CertificateFiles, Issued, LeafRequest, PrivateKey, TlsParts, write_private};
use rustls::RootCertStore;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

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
    pub api_server: TlsParts,
    /// What the API server shows to kubelets.
    pub kubelet_client: TlsParts,
    /// What the kubelet serves with.
    pub kubelet: TlsParts,
    /// Signs tokens of service accounts.
    pub token_key: PrivateKey,
    admin: Issued,
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
        let leaf = |name: &str, wanted: &LeafRequest| issue(&files(name), &authority, wanted);
        let kubelet_client = LeafRequest::client(KUBELET_CLIENT_USER, Vec::new());
        let admin = LeafRequest::client(ADMIN_USER, vec![ADMIN_GROUP.to_owned()]);
        Ok(Self {
            api_server: parts(&leaf("apiserver", &api_server_request(cluster, node_ip))?)?,
            kubelet_client: parts(&leaf("apiserver-kubelet-client", &kubelet_client)?)?,
            kubelet: parts(&leaf("kubelet", &kubelet_request(cluster, node_ip))?)?,
            admin: leaf("admin", &admin)?,
            token_key: token_key(&directory.join("sa.key"))?,
            authority,
            front_proxy_authority,
        })
    }

    /// Writes the administrator's kubeconfig into the data directory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_admin_kubeconfig(&self, cluster: &Cluster, node_ip: Ipv4Addr) -> Result<(), Failure> {
        let entry = kubeconfig::Entry {
            name: cluster.name.clone(),
            server: format!("https://{node_ip}:{}", cluster.port),
            certificate_authority: self.authority.certificate_pem(),
            client_certificate: self.admin.certificate_pem.clone(),
            client_key: self.admin.key_pem.clone(),
            token: String::new(),
        };
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

fn issue(files: &CertificateFiles, authority: &Authority, wanted: &LeafRequest) -> Result<Issued, Failure> {
    let (issued, reason) = files.load_or_issue(authority, wanted).doing("prepare a certificate")?;
    if let Some(reason) = reason {
        tracing::info!(certificate = wanted.common_name, ?reason, "issued");
    }
    Ok(issued)
}

fn parts(issued: &Issued) -> Result<TlsParts, Failure> {
    TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).doing("read a certificate")
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
