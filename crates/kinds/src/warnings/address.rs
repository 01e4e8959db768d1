//! Addresses and networks in forms that a later release will refuse, or that are not the one canonical form.

use super::Warnings;
use nauplius_meta::field::Path;
use nauplius_meta::names::{network, parse_cidr, parse_ip};
use std::net::IpAddr;

/// IPv4 inside IPv6 is shown and compared as IPv4, as Go does.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(inner) => inner.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn is_mapped(address: IpAddr) -> bool {
    address != plain(address)
}

/// Warns of an address that validation has let pass.
pub(crate) fn ip(text: &str, path: &Path, warnings: &mut Warnings) {
    let Some(address) = parse_ip(text) else { return };
    let usual = plain(address);
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        warnings.push(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \"{usual}\""
        ));
    } else if address.is_ipv6() && address.to_string() != text {
        warnings.push(format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"
        ));
    }
}

/// Warns of a network that validation has let pass.
pub(crate) fn cidr(text: &str, path: &Path, warnings: &mut Warnings) {
    let Some((address, length)) = parse_cidr(text) else { return };
    let mapped = is_mapped(address);
    // A mapped network counts its prefix from the IPv4 part, if it reaches that far.
    let shown = if mapped { length.saturating_sub(96) } else { length };
    let base = plain(network(address, length));
    let before = warnings.len();
    if network(address, length) != address {
        let all = if base.is_ipv4() { 32 } else { 128 };
        let single = plain(address);
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{base}/{shown}\" or \"{single}/{all}\"?)"
        ));
    }
    let (written, bits) = text.split_once('/').unwrap_or((text, ""));
    if written.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0')) || mapped {
        warnings.push(format!(
            "{path}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use \
             \"{base}/{shown}\""
        ));
    }
    let canonical = format!("{address}/{length}");
    if warnings.len() == before && address.is_ipv6() && canonical != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of: fn(&str, &Path, &mut Warnings), text: &str, expected: &[&str]) {
        let mut warnings = Warnings::new();
        of(text, &Path::new("p"), &mut warnings);
        assert_eq!(warnings, expected, "{text}");
    }

    #[test]
    fn odd_addresses_are_named() {
        check(ip, "10.0.0.1", &[]);
        check(ip, "2001:db8::1", &[]);
        check(
            ip,
            "010.0.0.1",
            &[
                "p: non-standard IP address \"010.0.0.1\" will be considered invalid in a future Kubernetes release: use \"10.0.0.1\"",
            ],
        );
        check(
            ip,
            "::ffff:1.2.3.4",
            &[
                "p: non-standard IP address \"::ffff:1.2.3.4\" will be considered invalid in a future Kubernetes release: use \"1.2.3.4\"",
            ],
        );
        check(
            ip,
            "2001:DB8::1",
            &["p: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"],
        );
    }

    #[test]
    fn odd_networks_are_named() {
        check(cidr, "10.0.0.0/8", &[]);
        check(
            cidr,
            "10.1.2.3/8",
            &[
                "p: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)",
            ],
        );
        check(
            cidr,
            "10.0.0.0/08",
            &[
                "p: non-standard CIDR value \"10.0.0.0/08\" will be considered invalid in a future Kubernetes release: use \"10.0.0.0/8\"",
            ],
        );
        check(
            cidr,
            "2001:DB8::/64",
            &[
                "p: IPv6 CIDR value \"2001:DB8::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")",
            ],
        );
    }
}
