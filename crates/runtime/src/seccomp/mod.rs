//! Seccomp: profiles become BPF filters in the server, a file carries them to the shim, and a new process installs them. A
//! profile with several actions becomes a stack of filters, of which the kernel obeys the strictest. It must not know CRI.

mod default;
mod profile;

use default::default_profile;
pub(crate) use profile::{Profile, ProfileError};

use crate::sys::process::Instruction;
use profile::{Action, Rule};
use seccompiler::{BpfProgram, SeccompFilter, SeccompRule, TargetArch};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One program, and how to install it.
pub(crate) struct Filter {
    pub flags: u32,
    pub program: Vec<Instruction>,
}

/// More filters than any profile makes; a bound for reading files.
const FILTER_LIMIT: u32 = 64;
const INSTRUCTION_LIMIT: u32 = 4096;

/// The encoded default profile for a bounding set. Compiling takes milliseconds, and nearly all containers have one of few sets.
pub(crate) fn encoded_default(bounding: u64) -> Result<Vec<u8>, ProfileError> {
    const KEPT: usize = 8;
    static CACHE: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = cache.get(&bounding) {
        return Ok(bytes.clone());
    }
    let bytes = encode(&default_profile(bounding))?;
    if cache.len() >= KEPT {
        cache.pop_first();
    }
    cache.insert(bounding, bytes.clone());
    Ok(bytes)
}

/// The filters of a profile, in the order of their installation, as bytes for [`decode`].
pub(crate) fn encode(profile: &Profile) -> Result<Vec<u8>, ProfileError> {
    let programs = compile(profile)?;
    let mut bytes = (programs.len() as u32).to_le_bytes().to_vec(); // Bounded by the number of actions.
    for program in programs {
        bytes.extend(profile.flags.to_le_bytes());
        bytes.extend((program.len() as u32).to_le_bytes()); // At most 4096.
        for instruction in program {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
    }
    Ok(bytes)
}

/// Reads what [`encode`] wrote; `None` when it is something else.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<Filter>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = bytes.split_first_chunk()?;
        *bytes = tail;
        Some(*head)
    }
    let count = u32::from_le_bytes(take(&mut bytes)?);
    if count > FILTER_LIMIT {
        return None;
    }
    let mut filters = Vec::new();
    for _ in 0..count {
        let flags = u32::from_le_bytes(take(&mut bytes)?);
        let length = u32::from_le_bytes(take(&mut bytes)?);
        if length > INSTRUCTION_LIMIT {
            return None;
        }
        let mut program = Vec::with_capacity(length as usize);
        for _ in 0..length {
            let code = u16::from_le_bytes(take(&mut bytes)?);
            let [jump_true, jump_false] = take(&mut bytes)?;
            program.push(Instruction(code, jump_true, jump_false, u32::from_le_bytes(take(&mut bytes)?)));
        }
        filters.push(Filter { flags, program });
    }
    Some(filters)
}

/// A filter that allows some calls and lets all others fail with EPERM.
pub(crate) fn allow_only(calls: &[i64]) -> Result<Filter, ProfileError> {
    let rules = calls.iter().map(|number| (*number, Vec::new())).collect();
    let program = assemble(rules, Action::Errno(libc::EPERM as u32), Action::Allow)?;
    let program = program.into_iter().map(|step| Instruction(step.code, step.jt, step.jf, step.k));
    Ok(Filter { flags: 0, program: program.collect() })
}

/// A system call and its first two arguments.
pub(crate) struct Call(pub(crate) i64, pub(crate) [u64; 2]);

/// Whether the kernel would let all the calls pass through all the filters. An instruction that is not known here counts as a no.
pub(crate) fn permits(filters: &[Filter], calls: &[Call]) -> bool {
    let passes = |verdict: Option<u32>| {
        verdict.is_some_and(|verdict| [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG].contains(&verdict))
    };
    calls.iter().all(|call| filters.iter().all(|filter| passes(verdict(&filter.program, call))))
}

/// Runs a filter as the kernel does.
fn verdict(program: &[Instruction], Call(number, [first, second]): &Call) -> Option<u32> {
    const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
    let halves = |value: &u64| [*value as u32, (*value >> 32) as u32];
    let mut data = [0; 16];
    data[..2].copy_from_slice(&[*number as u32, ARCHITECTURE]);
    data[4..8].copy_from_slice([halves(first), halves(second)].as_flattened());
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let Instruction(code, if_true, if_false, value) = *program.get(at)?;
        at += 1;
        let branch = match code {
            0x20 => {
                accumulator = *data.get(value as usize / 4)?;
                continue;
            }
            0x54 => {
                accumulator &= value;
                continue;
            }
            0x05 => {
                at += value as usize;
                continue;
            }
            0x06 => return Some(value),
            0x15 => accumulator == value,
            0x25 => accumulator > value,
            0x35 => accumulator >= value,
            0x45 => accumulator & value != 0,
            _ => return None,
        };
        at += usize::from(if branch { if_true } else { if_false });
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// One filter for each action that differs from the default and is not "allow"; last, one that applies the default to all calls
/// that no rule names. It comes last because it may forbid installing more.
fn compile(profile: &Profile) -> Result<Vec<BpfProgram>, ProfileError> {
    let mut named = Rules::new();
    let mut by_action: Vec<(Action, Rules)> = Vec::new();
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default_action) {
        add(&mut named, rule)?;
        if rule.action == Action::Allow {
            continue;
        }
        match by_action.iter_mut().find(|(action, _)| *action == rule.action) {
            Some((_, rules)) => add(rules, rule)?,
            None => {
                let mut rules = Rules::new();
                add(&mut rules, rule)?;
                by_action.push((rule.action, rules));
            }
        }
    }
    let mut programs = Vec::new();
    for (action, rules) in by_action {
        programs.push(assemble(rules, Action::Allow, action)?);
    }
    if profile.default_action != Action::Allow {
        programs.push(assemble(named, profile.default_action, Action::Allow)?);
    }
    Ok(programs)
}

fn add(rules: &mut Rules, rule: &Rule) -> Result<(), ProfileError> {
    for number in &rule.calls {
        let mut new = Vec::new();
        for conditions in &rule.alternatives {
            new.push(
                SeccompRule::new(conditions.clone())
                    .map_err(|error| ProfileError::Build(error.to_string()))?,
            );
        }
        match rules.get_mut(number) {
            // An empty list matches every call already.
            Some(known) if known.is_empty() => {}
            Some(known) if new.is_empty() => known.clear(),
            Some(known) => known.extend(new),
            None => {
                rules.insert(*number, new);
            }
        }
    }
    Ok(())
}

fn assemble(rules: Rules, otherwise: Action, matched: Action) -> Result<BpfProgram, ProfileError> {
    let build = |error: seccompiler::BackendError| ProfileError::Build(error.to_string());
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(build)?;
    let filter = SeccompFilter::new(rules, otherwise.into(), matched.into(), architecture).map_err(build)?;
    BpfProgram::try_from(filter).map_err(build)
}

/// The number of a system call on this machine; `None` when this machine or this table does not have it.
pub(crate) fn number(name: &str) -> Option<i64> {
    let column = if cfg!(target_arch = "aarch64") { 2 } else { 1 };
    let line = include_str!("syscalls.tsv").lines().find(|line| line.split('\t').next() == Some(name))?;
    line.split('\t').nth(column)?.parse().ok() // "-" where the architecture does not have it.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, expected) in
            [("read", libc::SYS_read), ("clone3", libc::SYS_clone3), ("execveat", libc::SYS_execveat)]
        {
            assert_eq!(number(name), Some(expected));
        }
        assert_eq!(number("nosuch"), None);
    }

    #[test]
    fn what_a_filter_permits_is_known_beforehand() {
        let clone = |flags: i32| Call(libc::SYS_clone, [flags as u64, 0]);
        let default = decode(&encode(&default_profile(0)).unwrap()).unwrap();
        assert!(permits(&default, &[clone(libc::CLONE_PARENT), Call(libc::SYS_setsid, [0, 0])]));
        assert!(!permits(&default, &[clone(libc::CLONE_NEWNS)]));
        assert!(!permits(&default, &[Call(libc::SYS_mount, [0, 0])]));
        let few = [allow_only(&[libc::SYS_ppoll]).unwrap()];
        assert!(permits(&few, &[Call(libc::SYS_ppoll, [0, 0])]));
        assert!(!permits(&few, &[Call(libc::SYS_ppoll, [0, 0]), Call(libc::SYS_setsid, [0, 0])]));
    }

    #[test]
    fn filters_survive_the_file() {
        let bytes = encode(&default_profile(0)).unwrap();
        let filters = decode(&bytes).unwrap();
        // clone3 says ENOSYS, everything unnamed says EPERM.
        assert_eq!(filters.len(), 2);
        assert!(filters[1].program.len() > 300);
        assert!(decode(&bytes[..bytes.len() - 1]).is_none());
        assert!(decode(&[0xff; 8]).is_none());
    }
}
