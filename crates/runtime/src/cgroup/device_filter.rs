//! v2 has no device files: access is decided by a BPF program on the cgroup. This writes the program and attaches it. It must not
//! know where rules come from.

use super::resources::DeviceRule;
use crate::sys::check;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::io;
use std::path::Path;

/// One extended BPF instruction: opcode, registers (source in the high half), jump offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_IMMEDIATE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_IMMEDIATE: u8 = 0x55;
const JUMP_NOT_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Registers: 0 the verdict, 1 the context and later scratch, 2 the device's kind, 3 the access, 4 and 5 its numbers.
fn instruction(opcode: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { opcode, registers: destination | source << 4, offset, immediate }
}

/// The program that allows what any rule allows.
pub(crate) fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let body = rule_body(rule);
        code.extend(body);
    }
    code.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

fn rule_body(rule: &DeviceRule) -> Vec<Instruction> {
    const BLOCK: i32 = 1;
    const CHARACTER: i32 = 2;
    let mut code = Vec::new();
    match rule.kind {
        'b' => code.push(instruction(JUMP_NOT_IMMEDIATE, 2, 0, 0, BLOCK)),
        'c' => code.push(instruction(JUMP_NOT_IMMEDIATE, 2, 0, 0, CHARACTER)),
        _ => {}
    }
    // The access asked for must be a subset of the rule's.
    code.push(instruction(MOVE_REGISTER, 1, 3, 0, 0));
    code.push(instruction(AND_IMMEDIATE, 1, 0, 0, access_bits(&rule.access)));
    code.push(instruction(JUMP_NOT_REGISTER, 1, 3, 0, 0));
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            code.push(instruction(JUMP_NOT_IMMEDIATE, register, 0, 0, number.cast_signed()));
        }
    }
    code.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    let end = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        if matches!(instruction.opcode, JUMP_NOT_IMMEDIATE | JUMP_NOT_REGISTER) {
            instruction.offset = (end - index - 1) as i16; // A rule has at most nine instructions.
        }
    }
    code
}

fn access_bits(access: &str) -> i32 {
    let bit = |letter| match letter {
        'm' => 1,
        'r' => 2,
        'w' => 4,
        _ => 0,
    };
    access.chars().map(bit).fold(0, |bits, bit| bits | bit)
}

/// Loads the program and puts it on the cgroup at `directory`, in place of the one that was there.
pub(crate) fn attach(directory: &Path, code: &[Instruction]) -> io::Result<()> {
    let cgroup = std::fs::File::open(directory)?;
    let program = load(code)?;
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_OVERRIDE: u32 = 1;
    let attributes = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_OVERRIDE,
    };
    // SAFETY: the structure outlives the call and its size is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attributes, std::mem::size_of::<Attach>())
    };
    check(result).map(drop)
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32, // A few hundred at most.
        instructions: code.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: the structure and the instructions outlive the call; the kernel verifies the program.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, std::mem::size_of::<Load>())
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_as_written_down() {
        let rules = [
            DeviceRule { kind: 'c', major: None, minor: None, access: "m".to_owned() },
            DeviceRule { kind: 'c', major: Some(1), minor: Some(3), access: "rwm".to_owned() },
        ];
        let text: String = program(&rules)
            .iter()
            .map(|code| {
                format!("{:02x} {:02x} {:3} {}\n", code.opcode, code.registers, code.offset, code.immediate)
            })
            .collect();
        assert_eq!(text, include_str!("golden/device_filter.txt"));
    }

    #[test]
    fn the_kernel_accepts_it() {
        let mut rules = DeviceRule::defaults();
        rules.push(DeviceRule::everything());
        match load(&program(&rules)) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
                println!("SKIP: bpf(2) is not allowed here: {error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
