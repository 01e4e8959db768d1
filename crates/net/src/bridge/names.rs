//! Names and hardware addresses in the pod network: short enough for the kernel, carrying the cluster's name, and functions of
//! the address, so that they are unique without being looked up.

use nauplius_link::route::Mac;
use std::net::IpAddr;

/// Interface names have 15 bytes; six hexadecimal digits and a dash tell pods apart.
const PREFIX_MAX: usize = 8;

/// What a cluster's interface names start with: its name, or the start of it and a hash.
pub fn interface_prefix(cluster: &str) -> String {
    let plain = cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !cluster.is_empty() && cluster.len() <= PREFIX_MAX && plain {
        return cluster.to_owned();
    }
    let start: String = cluster.chars().filter(char::is_ascii_alphanumeric).take(3).collect();
    format!("{start}{:05x}", hash(cluster) & 0xf_ffff)
}

/// FNV-1a: the same in every version of ours, unlike the standard library's.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The name of the bridge whose interfaces begin with `prefix`.
pub fn bridge(prefix: &str) -> String {
    format!("{prefix}0")
}

/// The node's end of a pod's interface: the address's last 24 bits tell it from the node's other pods.
pub(super) fn veth(prefix: &str, address: IpAddr) -> String {
    format!("{prefix}-{:06x}", low_bits(address) & 0xff_ffff)
}

/// A locally administered address that follows from the IP address, so that neighbours' caches stay right when it is used again.
pub(super) fn mac(address: IpAddr) -> Mac {
    let [a, b, c, d] = low_bits(address).to_be_bytes();
    Mac([0x0a, 0x58, a, b, c, d])
}

fn low_bits(address: IpAddr) -> u32 {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
    };
    u32::from_be_bytes(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(interface_prefix("nauplius"), "nauplius");
        let (one, two) = (interface_prefix("nauplius-one"), interface_prefix("nauplius-two"));
        assert!(one != two && one.starts_with("nau") && one.len() <= PREFIX_MAX, "{one}");
        assert_eq!(veth("nauplius", [10, 244, 0, 5].into()), "nauplius-f40005");
        assert_eq!(veth("nauplius", "fd00:10::5".parse().unwrap()).len(), 15);
        assert_eq!(bridge("nauplius"), "nauplius0");
        assert_eq!(mac([10, 244, 0, 5].into()).to_string(), "0a:58:0a:f4:00:05");
    }
}
