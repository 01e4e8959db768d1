//! Where a webhook is: from its configuration to a URL, and from that to an address.

use crate::cache::Caches;
use nauplius_base::{id, lookup};
use nauplius_meta::field::quote;
use nauplius_meta::object;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// A webhook's place, as its configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What the certificate must be of, and the `Host` of requests: a name or an address, and a port.
    pub host: String,
    pub port: u16,
    /// With a slash in front.
    pub path: String,
    pub service: Option<Service>,
}

/// The service behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub namespace: String,
    pub name: String,
}

impl Place {
    /// Reads a client configuration: `url`, or `service`.
    pub(super) fn of(config: &Value) -> Result<Self, String> {
        if let Some(url) = config["url"].as_str() {
            return Self::of_url(url);
        }
        let service = &config["service"];
        let text = |key: &str| object::get_str(service, &[key]).to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service["port"].as_i64().unwrap_or(443);
        let port = u16::try_from(port).map_err(|_| format!("invalid port {port}"))?;
        let path = text("path");
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Ok(Self {
            host: format!("{name}.{namespace}.svc"),
            port,
            path,
            service: Some(Service { namespace, name }),
        })
    }

    fn of_url(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("https://").ok_or_else(|| format!("{} is no https URL", quote(url)))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| format!("invalid port {}", quote(port)))?)
            }
            _ => (authority, 443),
        };
        if host.is_empty() {
            return Err(format!("{} names no host", quote(url)));
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { host: host.to_owned(), port, path: path.to_owned(), service: None })
    }

    /// The name that the certificate must carry, without the brackets of an address.
    pub(super) fn server_name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The URL that is asked, for messages.
    pub(super) fn url(&self, query: &str) -> String {
        format!("https://{}:{}{}?{query}", self.host, self.port, self.path)
    }

    /// Addresses to try.
    pub(super) async fn addresses(&self, caches: &Caches) -> Result<Vec<SocketAddr>, String> {
        if let Some(service) = &self.service {
            return service.addresses(caches, self.port);
        }
        let found = lookup::resolve(self.server_name()).await;
        let found = found.map_err(|error| format!("dial tcp: lookup {}: {error}", self.host))?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
    }
}

impl Service {
    /// Ready endpoints, beginning at any; the cluster address when nobody has written endpoints.
    fn addresses(&self, caches: &Caches, port: u16) -> Result<Vec<SocketAddr>, String> {
        let get = |plural: &str| caches.get("", plural, &self.namespace, &self.name)?.object().ok();
        let service = get("services").ok_or_else(|| format!("service {} not found", quote(&self.name)))?;
        let ports = object::get_array(&service, &["spec", "ports"]);
        let own = ports.iter().find(|own| object::get_i64(own, &["port"]) == Some(i64::from(port)));
        let own =
            own.ok_or_else(|| format!("no service port {port} found for service {}", quote(&self.name)))?;
        let endpoints = get("endpoints").map(|endpoints| ready(&endpoints, object::get_str(own, &["name"])));
        match endpoints {
            Some(found) if !found.is_empty() => Ok(found),
            Some(_) => Err(format!("no endpoints available for service {}", quote(&self.name))),
            None => {
                let ip = object::get_str(&service, &["spec", "clusterIP"]).parse();
                ip.map(|ip| vec![SocketAddr::new(ip, port)])
                    .map_err(|_| format!("no endpoints available for service {}", quote(&self.name)))
            }
        }
    }
}

fn ready(endpoints: &Value, port_name: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for subset in object::get_array(endpoints, &["subsets"]) {
        let ports = object::get_array(subset, &["ports"]).iter();
        let named = ports.filter(|port| object::get_str(port, &["name"]) == port_name);
        for port in named.filter_map(|port| u16::try_from(object::get_i64(port, &["port"])?).ok()) {
            let addresses = object::get_array(subset, &["addresses"]).iter();
            let ips =
                addresses.filter_map(|address| object::get_str(address, &["ip"]).parse::<IpAddr>().ok());
            found.extend(ips.map(|ip| SocketAddr::new(ip, port)));
        }
    }
    if !found.is_empty() {
        let first = usize::try_from(id::below(found.len() as u64)).unwrap_or(0);
        found.rotate_left(first);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(config: Value, expected: Result<&str, &str>) {
        let found = Place::of(&config).map(|place| format!("{} {}", place.url("q"), place.server_name()));
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn places_are_read_from_urls_and_services() {
        check(json!({"url": "https://a.b/c"}), Ok("https://a.b:443/c?q a.b"));
        check(json!({"url": "https://127.0.0.1:8443"}), Ok("https://127.0.0.1:8443/?q 127.0.0.1"));
        check(json!({"url": "https://[::1]:8443/x"}), Ok("https://[::1]:8443/x?q ::1"));
        check(json!({"url": "http://a"}), Err("\"http://a\" is no https URL"));
        let service = json!({"service": {"name": "hook", "namespace": "n", "path": "convert", "port": 9443}});
        check(service, Ok("https://hook.n.svc:9443/convert?q hook.n.svc"));
    }

    #[test]
    fn endpoints_are_those_of_the_port() {
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}]});
        assert_eq!(ready(&endpoints, "b"), ["10.0.0.1:2".parse().unwrap()]);
        assert_eq!(ready(&endpoints, "c"), []);
    }
}
