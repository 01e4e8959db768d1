//! Names: the sandbox's resolver by the pod's DNS policy, its hostname and domain. Pure over the node's own resolver file.

use crate::pod::facts;
use nauplius_cri::v1::DnsConfig;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use std::net::IpAddr;

/// The kernel's limit on host names.
const HOSTNAME_MAX: usize = 63;
const FQDN_MAX: usize = 64;
/// More name servers are not used by resolvers, nor passed on by upstream.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// The cluster's side of it.
pub struct Cluster<'a> {
    /// Addresses of cluster DNS.
    pub servers: &'a [IpAddr],
    /// `cluster.local`
    pub domain: &'a str,
    /// The node's resolver file.
    pub host_resolv_conf: &'a str,
}

/// Reads a resolver file.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search") => config.searches = words.collect(),
            Some("options") => config.options = words.collect(),
            _ => {}
        }
    }
    config
}

/// The resolver of the pod's sandbox.
pub fn resolver(pod: &Pod, cluster: &Cluster<'_>) -> DnsConfig {
    let spec = facts::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host = || parse(cluster.host_resolv_conf);
    let in_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !facts::host_network(pod),
        _ => false,
    } && !cluster.servers.is_empty();
    let mut config = match policy {
        _ if in_cluster => {
            let mut searches = vec![
                format!("{}.svc.{}", pod.namespace(), cluster.domain),
                format!("svc.{}", cluster.domain),
                cluster.domain.to_owned(),
            ];
            searches.extend(host().searches);
            DnsConfig {
                servers: cluster.servers.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        "None" => DnsConfig::default(),
        _ => host(),
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.clone().unwrap_or_default());
        config.searches.extend(own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|known| known.split(':').next() != Some(&name));
            config
                .options
                .push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    config.servers.truncate(SERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    config
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}

/// Hostname and domain of the pod, before `setHostnameAsFQDN`.
pub fn names(pod: &Pod, domain: &str) -> (String, String) {
    let spec = facts::spec(pod);
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return (name.to_owned(), String::new());
    }
    let own = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let hostname = own.map_or_else(|| short(pod.name()), str::to_owned);
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty());
    let domain = subdomain.map_or_else(String::new, |sub| format!("{sub}.{}.svc.{domain}", pod.namespace()));
    (hostname, domain)
}

/// A pod's name may be longer than a hostname.
fn short(name: &str) -> String {
    if name.len() <= HOSTNAME_MAX {
        name.to_owned()
    } else {
        name[..HOSTNAME_MAX].trim_end_matches(['-', '.']).to_owned()
    }
}

/// What the kernel is told.
///
/// # Errors
/// When the fully qualified name was asked for and is too long.
pub fn kernel_hostname(pod: &Pod, domain: &str) -> Result<String, String> {
    let (hostname, domain) = names(pod, domain);
    if facts::spec(pod).set_hostname_as_fqdn != Some(true) || domain.is_empty() {
        return Ok(hostname);
    }
    let full = format!("{hostname}.{domain}");
    if full.len() > FQDN_MAX {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({FQDN_MAX} characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: (&[&str], &[&str], &[&str])) {
        let json =
            format!(r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"containers":[]{spec}}}}}"#);
        let pod = Pod::decode(json.as_bytes()).unwrap();
        let servers = ["10.96.0.10".parse().unwrap()];
        let host = "search corp\nnameserver 9.9.9.9\noptions edns0\n";
        let cluster = Cluster { servers: &servers, domain: "cluster.local", host_resolv_conf: host };
        let got = resolver(&pod, &cluster);
        assert_eq!(got.servers, expected.0, "{spec}");
        assert_eq!(got.searches, expected.1, "{spec}");
        assert_eq!(got.options, expected.2, "{spec}");
    }

    #[test]
    fn policies() {
        let inside: &[&str] = &["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"];
        check("", (&["10.96.0.10"], inside, &["ndots:5"]));
        check(r#","dnsPolicy":"Default""#, (&["9.9.9.9"], &["corp"], &["edns0"]));
        check(r#","hostNetwork":true"#, (&["9.9.9.9"], &["corp"], &["edns0"]));
        check(
            r#","hostNetwork":true,"dnsPolicy":"ClusterFirstWithHostNet""#,
            (&["10.96.0.10"], inside, &["ndots:5"]),
        );
        let own = r#","dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1"],"searches":["x"],"options":[{"name":"ndots","value":"2"}]}"#;
        check(own, (&["1.1.1.1"], &["x"], &["ndots:2"]));
    }
}
