//! The upstream resolvers in a `resolv.conf`.

use std::net::{IpAddr, SocketAddr};

const PORT: u16 = 53;
/// As many as the C library uses.
const SERVERS_MAX: usize = 3;

/// The name servers that `text` lists, without those in `own`: addresses that lead back to us.
pub fn upstreams(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_whitespace);
    let servers = words.filter_map(|mut words| match (words.next(), words.next()) {
        // A scoped or misspelled address is skipped, as the C library does.
        (Some("nameserver"), Some(address)) => address.parse::<IpAddr>().ok(),
        _ => None,
    });
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in servers.take(SERVERS_MAX).filter(|address| !own.contains(address)) {
        if !found.iter().any(|known| known.ip() == address) {
            found.push(SocketAddr::new(address, PORT));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> =
                upstreams(text, &[[10, 96, 0, 10].into()]).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("# nameserver 9.9.9.9\nsearch a\n nameserver\t1.1.1.1 \n", &["1.1.1.1:53"]);
        check("nameserver 10.96.0.10\nnameserver ::1\nnameserver ::1", &["[::1]:53"]);
        check("nameserver x\nnameserver 1.1.1.1", &["1.1.1.1:53"]);
        check(&"nameserver 1.1.1.1\nnameserver 1.1.1.2\n".repeat(4), &["1.1.1.1:53", "1.1.1.2:53"]);
    }
}
