//! Where an HTTP probe or hook asks: an address as Go writes it, and where a redirection leads from there. Nobody is asked here.

use super::port;
use nauplius_kinds::api::core::{Container, HTTPGetAction};
use std::fmt;
use url::{ParseError, Url};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Over TLS.
    pub tls: bool,
    /// A name or an address, that without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, as they were given.
    path: String,
}

impl Location {
    /// Where an action asks; without a host of its own at `ip`.
    ///
    /// # Errors
    /// That the port is not known.
    pub fn of(container: &Container, action: &HTTPGetAction, ip: &str) -> Result<Self, String> {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
        Ok(Self {
            tls: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port(container, &action.port)?,
            path: action.path.clone().unwrap_or_else(|| "/".to_owned()),
        })
    }

    /// The same place, asked in the open.
    pub fn in_the_open(&self) -> Self {
        Self { tls: false, ..self.clone() }
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What stands in a request's first line.
    pub fn target(&self) -> String {
        let path = self.path.split('#').next().unwrap_or_default();
        if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
    }

    /// Where a `Location` header leads.
    ///
    /// # Errors
    /// That it is none.
    pub fn join(&self, location: &str) -> Result<Self, ParseError> {
        let next = Url::parse(&self.to_string())?.join(location)?;
        let host = next.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let query = next.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            tls: next.scheme() == "https",
            host,
            port: next.port_or_known_default().unwrap_or(80),
            path: format!("{}{query}", next.path()),
        })
    }

    /// Whether a `Location` header leaves the scheme out: the request's own `Host` then goes on.
    pub fn is_relative(location: &str) -> bool {
        Url::parse(location) == Err(ParseError::RelativeUrlWithoutBase)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::api::IntOrString;

    fn of(host: &str, path: &str) -> Location {
        let action = HTTPGetAction {
            host: Some(host.to_owned()),
            path: Some(path.to_owned()),
            port: IntOrString::Int(8080),
            ..HTTPGetAction::default()
        };
        Location::of(&Container::default(), &action, "10.0.0.7").unwrap()
    }

    #[test]
    fn locations_read_as_gos() {
        for (host, path, expected) in [
            ("", "/healthz?full=1#x", "http://10.0.0.7:8080/healthz?full=1"),
            ("localhost", "healthz", "http://localhost:8080/healthz"),
            ("::1", "/a/../b", "http://[::1]:8080/a/../b"),
        ] {
            assert_eq!(of(host, path).to_string(), expected);
        }
    }

    #[test]
    fn redirections_lead_on() {
        let from = of("localhost", "/a/b");
        for (location, expected, relative) in [
            ("c?d=1", "http://localhost:8080/a/c?d=1", true),
            ("/c", "http://localhost:8080/c", true),
            ("//other/c", "http://other:80/c", true),
            ("https://localhost/c", "https://localhost:443/c", false),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), expected);
            assert_eq!(Location::is_relative(location), relative, "{location}");
        }
    }
}
