//! Capabilities: their names and numbers, and the sets of a container from what CRI asks to add and drop. Pure.

use crate::spec::Capabilities;

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers get when nothing is said: the set that container runtimes agree on.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The bit of a capability, with or without `CAP_`, in any case.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare).map(|index| 1 << index)
}

/// What a container asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request<'a> {
    pub privileged: bool,
    pub add: &'a [String],
    pub drop: &'a [String],
    pub ambient: &'a [String],
    pub root: bool,
}

/// The sets of a container. `available` is the runtime's own bounding set: what it has not cannot be given. The error is the
/// unknown or unavailable name.
pub(crate) fn sets(request: &Request<'_>, available: u64) -> Result<Capabilities, String> {
    let everything = available & ((1 << NAMES.len()) - 1);
    let mut set = if request.privileged { everything } else { default_set() & available };
    if !request.privileged {
        let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        // "ALL" comes first in either list, so that single names refine it.
        if all(request.add) {
            set = everything;
        }
        if all(request.drop) {
            set = 0;
        }
        for name in request.add.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
            set |= known(name, available)?;
        }
        for name in request.drop.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
            set &= !bit(name).ok_or_else(|| format!("unknown capability {name:?}"))?;
        }
    }
    let mut ambient = 0;
    for name in request.ambient {
        ambient |= known(name, available)?;
    }
    set |= ambient;
    // The kernel empties these sets when root becomes somebody else; a process that starts as somebody else starts with that.
    let effective = if request.root { set } else { ambient };
    Ok(Capabilities { bounding: set, permitted: effective, effective, inheritable: ambient, ambient })
}

fn known(name: &str, available: u64) -> Result<u64, String> {
    let bit = bit(name).ok_or_else(|| format!("unknown capability {name:?}"))?;
    if available & bit == 0 {
        return Err(format!("capability {name:?} is not available on this machine"));
    }
    Ok(bit)
}

fn default_set() -> u64 {
    DEFAULT.iter().filter_map(|name| bit(name)).fold(0, |set, bit| set | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &Request<'_>, expected: (u64, u64, u64)) {
        let sets = sets(request, u64::MAX).unwrap();
        assert_eq!((sets.bounding, sets.effective, sets.ambient), expected, "{request:?}");
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn sets_follow_cri() {
        let default = 0xa804_25fb;
        let (all, net) = (names(&["ALL"]), names(&["NET_ADMIN"]));
        let root = Request { root: true, ..Request::default() };
        check(&root, (default, default, 0));
        check(&Request::default(), (default, 0, 0));
        check(&Request { drop: &all, ..root.clone() }, (0, 0, 0));
        check(&Request { drop: &all, add: &net, ..root.clone() }, (1 << 12, 1 << 12, 0));
        check(&Request { add: &all, ..root.clone() }, ((1 << 41) - 1, (1 << 41) - 1, 0));
        check(&Request { privileged: true, ..root }, ((1 << 41) - 1, (1 << 41) - 1, 0));
        check(&Request { drop: &all, ambient: &net, ..Request::default() }, (1 << 12, 1 << 12, 1 << 12));
    }

    #[test]
    fn unknown_and_missing_names_are_refused() {
        let add = names(&["NOSUCH"]);
        assert!(sets(&Request { add: &add, ..Request::default() }, u64::MAX).is_err());
        let add = names(&["CAP_SYS_RESOURCE"]);
        assert!(sets(&Request { add: &add, ..Request::default() }, !(1 << 24)).is_err());
    }
}
