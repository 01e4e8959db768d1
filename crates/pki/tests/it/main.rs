//! The authority judged from outside: by rustls in a real handshake, and by files on disk.

use nauplius_base::time::unix_seconds;
use nauplius_pki::{
    Authority, CertificateFiles, CertificateRequest, LeafRequest, PeerCertificate, PkiError, PrivateKey,
    RenewalReason, TlsParts, Usages, renewal_reason, renewal_time,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

fn groups(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn server() -> LeafRequest {
    LeafRequest::server(
        "kube-apiserver",
        groups(&["kubernetes", "localhost"]),
        vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
    )
}

fn handshake(
    authority: &Authority,
    server: &LeafRequest,
    client: &LeafRequest,
    name: &'static str,
) -> Result<PeerCertificate, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in TlsParts::certificates(&authority.certificate_pem()).unwrap() {
        roots.add(certificate).unwrap();
    }
    let roots = Arc::new(roots);
    let parts = |request| {
        let issued = authority.issue(request).unwrap();
        TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap()
    };
    let (server, client) = (parts(server), parts(client));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let server_config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(server.chain, server.key)
        .unwrap();
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(client.chain, client.key)
        .unwrap();
    let mut server = ServerConnection::new(Arc::new(server_config)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config), name.try_into().unwrap()).unwrap();
    while server.is_handshaking() || client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().map_err(|error| error.to_string())?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(PeerCertificate::from_der(&server.peer_certificates().unwrap()[0]).unwrap())
}

#[test]
fn both_sides_of_a_handshake_believe_each_other() {
    let authority = Authority::create("kubernetes").unwrap();
    let client = LeafRequest::client("jane", groups(&["devs", "system:masters", "ops"]));
    for name in ["localhost", "10.96.0.1", "fd00::1"] {
        let peer = handshake(&authority, &server(), &client, name).unwrap();
        assert_eq!(peer.common_name, "jane");
        assert_eq!(peer.organizations, groups(&["devs", "system:masters", "ops"]));
        assert_eq!(peer.fingerprint.len(), 64);
    }
}

#[test]
fn wrong_names_and_wrong_uses_are_refused() {
    let authority = Authority::create("kubernetes").unwrap();
    let client = LeafRequest::client("jane", Vec::new());
    assert!(handshake(&authority, &server(), &client, "example.com").is_err());
    assert!(handshake(&authority, &client, &client, "localhost").is_err());
    assert!(handshake(&authority, &server(), &server(), "localhost").is_err());
}

#[test]
fn an_authority_survives_pem_and_its_end_bounds_its_leaves() {
    let authority = Authority::create("kubernetes").unwrap();
    let again = Authority::from_pem(&authority.certificate_pem(), &authority.key_pem()).unwrap();
    let long = LeafRequest { lifetime: Duration::from_secs(u64::MAX / 4), ..server() };
    let details = again.issue(&long).unwrap().details().unwrap();
    assert_eq!(details.not_after, authority.not_after());
    assert!(details.not_before < unix_seconds());
    assert_eq!(details.ip_addresses, server().ip_addresses);
    let years = (authority.not_after() - unix_seconds()) / (365 * 24 * 3600 - 10);
    assert_eq!(years, 10);
}

#[test]
fn what_is_no_authority_is_refused() {
    let authority = Authority::create("kubernetes").unwrap();
    let leaf = authority.issue(&server()).unwrap();
    let refused = Authority::from_pem(&leaf.certificate_pem, &leaf.key_pem).unwrap_err();
    assert_eq!(refused, PkiError::NotAnAuthority);
    let mixed = Authority::from_pem(&authority.certificate_pem(), &leaf.key_pem).unwrap_err();
    assert_eq!(mixed, PkiError::KeyMismatch);
    let name = LeafRequest::server("x", groups(&["bad name"]), Vec::new());
    assert_eq!(authority.issue(&name).unwrap_err(), PkiError::InvalidDnsName("bad name".to_owned()));
}

#[test]
fn files_are_private_and_renewed_when_they_no_longer_fit() {
    let directory = tempfile::tempdir().unwrap();
    let files = CertificateFiles::in_directory(directory.path(), "ca");
    let authority = files.load_or_create_authority("kubernetes").unwrap();
    let again = files.load_or_create_authority("kubernetes").unwrap();
    assert_eq!(authority.certificate_pem(), again.certificate_pem());
    let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let leaf = CertificateFiles::in_directory(directory.path(), "apiserver");
    let (first, reason) = leaf.load_or_issue(&authority, &server()).unwrap();
    assert_eq!(reason, Some(RenewalReason::Missing));
    let (same, reason) = leaf.load_or_issue(&authority, &server()).unwrap();
    assert_eq!((&same, reason), (&first, None));

    let mut wanted = server();
    wanted.dns_names.push("more".to_owned());
    assert_eq!(leaf.load_or_issue(&authority, &wanted).unwrap().1, Some(RenewalReason::Different));
    let stranger = Authority::create("kubernetes").unwrap();
    assert_eq!(leaf.load_or_issue(&stranger, &wanted).unwrap().1, Some(RenewalReason::OtherAuthority));
    std::fs::write(&leaf.key, "rubbish").unwrap();
    assert_eq!(leaf.load_or_issue(&stranger, &wanted).unwrap().1, Some(RenewalReason::Unreadable));
    let late = unix_seconds() + 300 * 24 * 3600;
    let due = renewal_time(&first, &authority).unwrap().unwrap();
    assert_eq!(renewal_reason(&first, &authority, &server(), due), None);
    assert_eq!(renewal_reason(&first, &authority, &server(), due + 1), Some(RenewalReason::Expiring));
    let short = LeafRequest { lifetime: Duration::from_secs(30), ..server() };
    let due = renewal_time(&authority.issue(&short).unwrap(), &authority).unwrap().unwrap();
    assert!((15..=25).contains(&(due - unix_seconds())), "{due}");
    let endless = LeafRequest { lifetime: Duration::from_secs(100 * 365 * 24 * 3600), ..server() };
    assert_eq!(renewal_time(&authority.issue(&endless).unwrap(), &authority).unwrap(), None);
    assert_eq!(renewal_reason(&first, &authority, &server(), late), Some(RenewalReason::Expiring));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4);
}

#[test]
fn a_broken_authority_is_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let files = CertificateFiles::in_directory(directory.path(), "ca");
    files.load_or_create_authority("kubernetes").unwrap();
    std::fs::remove_file(&files.key).unwrap();
    assert!(files.load_or_create_authority("kubernetes").is_err());
    std::fs::write(&files.certificate, "rubbish").unwrap();
    assert!(files.load_or_create_authority("kubernetes").is_err());
    assert_eq!(std::fs::read_to_string(&files.certificate).unwrap(), "rubbish");
}

#[test]
fn a_request_becomes_a_certificate() {
    let authority = Authority::create("kubernetes").unwrap();
    let key = PrivateKey::generate().unwrap();
    let text =
        CertificateRequest::create(&key, "system:node:n", &groups(&["system:nodes"]), &[], &[]).unwrap();
    let request = CertificateRequest::from_pem(&text).unwrap();
    let usages = Usages { server: false, client: true };
    let certificate = authority.sign_request(&request, usages, Duration::from_secs(3600)).unwrap();
    let details = PeerCertificate::from_pem(&certificate).unwrap();
    assert_eq!(
        (details.common_name.as_str(), details.organizations),
        ("system:node:n", groups(&["system:nodes"]))
    );
    let der = TlsParts::certificates(&certificate).unwrap().remove(0);
    assert!(authority.signed(&der));
    assert!(!Authority::create("kubernetes").unwrap().signed(&der));
}
