//! Where a proxied request goes: the forms of names (`https:name:port`), the address of a pod or of an endpoint behind a service, and
//! the path there. Pure: objects come in as trees, and chance as a number.

use crate::error::ApiResult;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::quote;
use nauplius_meta::object;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// What a name in the path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub tls: bool,
    pub name: &'a str,
    /// A number or, for services, a port's name; may be empty.
    pub port: &'a str,
}

/// Reads `name`, `name:port` or `scheme:name:port`; `what` is the resource that a refusal names.
pub(super) fn named<'a>(id: &'a str, what: &str) -> ApiResult<Named<'a>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme @ ("" | "http" | "https"), name, port] => (scheme, name, port),
        _ => ("", "", ""),
    };
    if name.is_empty() {
        return Err(ApiError::bad_request(format!("invalid {what} request {}", quote(id))));
    }
    Ok(Named { tls: scheme == "https", name, port })
}

/// Refuses what reaches this machine itself or nothing in particular.
pub(super) fn check_address(ip: IpAddr) -> ApiResult<()> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local {
        return Err(ApiError::bad_request("address not allowed"));
    }
    Ok(())
}

/// The address of a pod: the port named, or the first that one of its containers declares.
pub(super) fn of_pod(pod: &Value, named: Named<'_>) -> ApiResult<SocketAddr> {
    let ips = object::get_array(pod, &["status", "podIPs"]);
    let ip = ips.first().map_or("", |ip| object::get_str(ip, &["ip"]));
    let ip: IpAddr = ip.parse().map_err(|_| ApiError::bad_request("address not allowed"))?;
    check_address(ip)?;
    let port = if named.port.is_empty() { first_port(pod) } else { number(named.port) };
    let port = port.ok_or_else(|| no_port(&ip.to_string(), named.port))?;
    Ok(SocketAddr::new(ip, port))
}

/// A pod that declares no port is asked where its scheme has one.
fn first_port(pod: &Value) -> Option<u16> {
    let declared = object::get_array(pod, &["spec", "containers"])
        .iter()
        .find_map(|container| object::get_array(container, &["ports"]).first())
        .and_then(|port| object::get_i64(port, &["containerPort"]));
    declared.map_or(Some(80), |port| u16::try_from(port).ok())
}

fn number(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port > 0)
}

/// Only numbers lead to a pod or node.
fn no_port(host: &str, port: &str) -> ApiError {
    ApiError::ServiceUnavailable(format!(
        "error trying to reach service: dial tcp: lookup {host}:{port}: unknown port"
    ))
}

/// The port of a node that is not its kubelet's.
pub(super) fn of_node(kubelet: SocketAddr, named: Named<'_>) -> ApiResult<Option<SocketAddr>> {
    if named.port.is_empty() || number(named.port) == Some(kubelet.port()) {
        return Ok(None);
    }
    check_address(kubelet.ip())?;
    let port = number(named.port).ok_or_else(|| no_port(&kubelet.ip().to_string(), named.port))?;
    Ok(Some(SocketAddr::new(kubelet.ip(), port)))
}

/// The name of the port of a service that is asked for.
pub(super) fn port_name<'a>(service: &'a Value, named: Named<'a>) -> ApiResult<&'a str> {
    let Ok(wanted) = named.port.parse::<i64>() else { return Ok(named.port) };
    let ports = object::get_array(service, &["spec", "ports"]);
    let found = ports.iter().find(|port| object::get_i64(port, &["port"]) == Some(wanted));
    found.map(|port| object::get_str(port, &["name"])).ok_or_else(|| {
        let message = format!("no service port {wanted} found for service {}", quote(named.name));
        ApiError::ServiceUnavailable(message)
    })
}

/// The ready addresses of Endpoints at the port of that name, beginning at one that `chance` picks. Each comes with the pod that it
/// says it is of.
pub(super) fn of_endpoints<'a>(
    endpoints: &'a Value,
    port: &'a str,
    chance: u64,
) -> impl Iterator<Item = (SocketAddr, &'a Value)> {
    let subsets = object::get_array(endpoints, &["subsets"]);
    let mut found = Vec::new();
    for subset in subsets {
        let ports = object::get_array(subset, &["ports"]);
        let of_name = ports.iter().filter(|own| object::get_str(own, &["name"]) == port);
        for port in of_name.filter_map(|port| u16::try_from(object::get_i64(port, &["port"])?).ok()) {
            for address in object::get_array(subset, &["addresses"]) {
                // Validation admits addresses only; another text leads nowhere.
                if let Ok(ip) = object::get_str(address, &["ip"]).parse::<IpAddr>() {
                    found.push((SocketAddr::new(ip, port), &address["targetRef"]));
                }
            }
        }
    }
    let length = found.len();
    let start = if length == 0 { 0 } else { usize::try_from(chance % length as u64).unwrap_or(0) };
    found.into_iter().cycle().skip(start).take(length)
}

/// Whether an address of Endpoints is that of the pod that it refers to: an address that anyone may have written leads nowhere else.
pub(super) fn is_pods(pod: &Value, ip: IpAddr) -> bool {
    let ips = object::get_array(pod, &["status", "podIPs"]);
    ips.iter().any(|own| object::get_str(own, &["ip"]).parse() == Ok(ip))
}

/// The path that is asked of the backend; empty when nothing, not even a slash, follows `proxy`.
pub(super) fn path(trailing: &[String], request_path: &str) -> String {
    let mut path = if trailing.is_empty() { String::new() } else { clean(&trailing.join("/")) };
    if request_path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// An absolute path without empty, `.` and `..` elements.
pub(super) fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Escapes what a path may not hold as it is, as Go does.
pub(super) fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(id: &str) -> String {
        match named(id, "pod") {
            Ok(named) => {
                format!("{}|{}|{}", if named.tls { "https" } else { "http" }, named.name, named.port)
            }
            Err(error) => error.message(),
        }
    }

    #[test]
    fn names_have_three_forms() {
        assert_eq!(shown("p"), "http|p|");
        assert_eq!(shown("p:80"), "http|p|80");
        assert_eq!(shown("https:p:web"), "https|p|web");
        assert_eq!(shown(":p:"), "http|p|");
        assert_eq!(shown("ftp:p:1"), "invalid pod request \"ftp:p:1\"");
        assert_eq!(shown("a:b:c:d"), "invalid pod request \"a:b:c:d\"");
        assert_eq!(shown(":80"), "invalid pod request \":80\"");
    }

    #[test]
    fn pods_are_asked_at_the_first_declared_port() {
        let pod = |ip: &str| {
            json!({"status": {"podIPs": [{"ip": ip}]}, "spec": {"containers": [
            {"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}, {"containerPort": 9}]}]}})
        };
        let of = |ip, id| of_pod(&pod(ip), named(id, "pod").unwrap()).map_err(|error| error.message());
        assert_eq!(of("10.0.0.1", "p"), Ok("10.0.0.1:8080".parse().unwrap()));
        assert_eq!(of("10.0.0.1", "p:9"), Ok("10.0.0.1:9".parse().unwrap()));
        assert_eq!(of("fd00::1", "p"), Ok("[fd00::1]:8080".parse().unwrap()));
        for ip in ["127.0.0.1", "169.254.1.1", "", "0.0.0.0", "::1"] {
            assert_eq!(of(ip, "p"), Err("address not allowed".to_owned()), "{ip}");
        }
    }

    #[test]
    fn services_are_asked_at_ready_endpoints() {
        let service =
            json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "other", "port": 81}]}});
        let port = |id| port_name(&service, named(id, "service").unwrap()).map_err(|error| error.message());
        assert_eq!((port("s:80"), port("s:web"), port("s")), (Ok("web"), Ok("web"), Ok("")));
        assert_eq!(port("s:82"), Err("no service port 82 found for service \"s\"".to_owned()));
        let endpoints = json!({"subsets": [
            {"notReadyAddresses": [{"ip": "10.0.0.9"}], "ports": [{"name": "web", "port": 1}]},
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "other", "port": 2}, {"name": "web", "port": 3}]},
        ]});
        let found = |port, chance| {
            of_endpoints(&endpoints, port, chance).map(|(address, _)| address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("web", 4), ["10.0.0.1:3", "10.0.0.2:3"]);
        assert_eq!(found("web", 5), ["10.0.0.2:3", "10.0.0.1:3"]);
        assert!(found("", 1).is_empty());
    }

    #[test]
    fn paths_keep_their_last_slash() {
        let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        assert_eq!(path(&[], "/x/proxy"), "");
        assert_eq!(path(&[], "/x/proxy/"), "/");
        assert_eq!(path(&owned(&["a", "", "b"]), "/x/proxy/a//b/"), "/a/b/");
        assert_eq!(path(&owned(&["a", "..", "..", "b"]), "/x"), "/b");
        assert_eq!(escape("/a b/ü?(x)"), "/a%20b/%C3%BC%3F%28x%29");
    }
}
