//! Which etcd can say how far a watch is when it is asked. Before 3.4.25 and 3.5.8 the answer could overtake events that it promises
//! were delivered, so it is not asked for there; upstream draws the same line.

/// Whether the answer of a member with this version can be trusted.
pub(super) fn tells_progress(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    match (next(), next(), next()) {
        (Some(3), Some(4), Some(patch)) => patch >= 25,
        (Some(3), Some(5), Some(patch)) => patch >= 8,
        (Some(3), Some(minor), _) => minor >= 6,
        (Some(major), ..) => major > 3,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_upstreams() {
        for (version, expected) in [
            ("3.4.23", false),
            ("3.4.25", true),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.5.8-rc.1", true),
            ("3.6.0-alpha.0", true),
            ("3.3.27", false),
            ("4.0.0", true),
            ("unknown", false),
        ] {
            assert_eq!(tells_progress(version), expected, "{version}");
        }
    }
}
