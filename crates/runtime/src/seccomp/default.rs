//! The profile that containers get as `RuntimeDefault`: the calls that container runtimes agree on allowing, and what
//! capabilities add to them. Everything else is EPERM, so that programs fall back.

use super::number;
use super::profile::{Action, Profile, Rule};
use crate::capabilities;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

/// The calls that a capability in the bounding set adds.
const BY_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd \
         setdomainname sethostname setns syslog umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday clock_settime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;
/// Personalities that change nothing dangerous: Linux, 32-bit Linux, both with UNAME26, and asking.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The default profile for a process with this bounding set.
pub(crate) fn default_profile(bounding: u64) -> Profile {
    let has = |name: &str| capabilities::bit(name).is_some_and(|bit| bounding & bit != 0);
    let mut rules = vec![allow(include_str!("default.txt"), Vec::new())];
    rules.extend(
        BY_CAPABILITY.iter().filter(|(name, _)| has(name)).map(|(_, calls)| allow(calls, Vec::new())),
    );
    let personalities = PERSONALITIES.map(|value| vec![condition(0, SeccompCmpOp::Eq, value)]);
    rules.push(allow("personality", personalities.to_vec()));
    rules.push(allow("socket", vec![vec![condition(0, SeccompCmpOp::Ne, AF_VSOCK)]]));
    if !has("CAP_SYS_ADMIN") {
        rules.push(allow("clone", vec![vec![condition(0, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)]]));
        // clone3 hides its flags from filters; libc falls back to clone when it seems not to exist.
        rules.push(Rule {
            action: Action::Errno(libc::ENOSYS.cast_unsigned()),
            ..allow("clone3", Vec::new())
        });
    }
    Profile { default_action: Action::Errno(libc::EPERM.cast_unsigned()), flags: 0, rules }
}

fn allow(calls: &str, alternatives: Vec<Vec<SeccompCondition>>) -> Rule {
    let calls = calls.split_whitespace().filter_map(number).collect();
    Rule { action: Action::Allow, calls, alternatives }
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
        .expect("the only way to fail is an argument number above 5")
}
