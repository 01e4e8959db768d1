//! The first process of a pod's shared pid namespace. Containers of the pod see it as process 1 and, with CAP_SYS_PTRACE, can reach into it:
//! so it is a program of a few instructions in a root of its own, without rights, descriptors or memory of ours. Orphans that come to it are
//! reaped by the kernel, because it ignores SIGCHLD. It must not know containers.

use super::fault::{Fault, While};
use super::init::{self, Birth};
use super::{launch, rootfs};
use crate::spec::{Namespaces, Process};
use crate::sys::process as sys;
use std::arch::global_asm;

/// Where the program is in its own root, and its only argument.
const PROGRAM: &std::ffi::CStr = c"/pause";
/// Whom upstream's pause image runs as.
const NOBODY: u32 = 65535;

// Waits for ever: ppoll(NULL, 0, NULL, NULL).
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.nauplius_pause,\"a\",@progbits",
    ".globl nauplius_pause_begin",
    ".globl nauplius_pause_end",
    "nauplius_pause_begin:",
    "xor edi, edi",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov eax, {ppoll}",
    "syscall",
    "jmp nauplius_pause_begin",
    "nauplius_pause_end:",
    ".popsection",
    ppoll = const libc::SYS_ppoll,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.nauplius_pause,\"a\",@progbits",
    ".globl nauplius_pause_begin",
    ".globl nauplius_pause_end",
    "nauplius_pause_begin:",
    "mov x0, #0",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x8, #{ppoll}",
    "svc #0",
    "b nauplius_pause_begin",
    "nauplius_pause_end:",
    ".popsection",
    ppoll = const libc::SYS_ppoll,
);

/// `EM_X86_64` or `EM_AARCH64`.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// The program as an executable file.
fn program() -> Vec<u8> {
    unsafe extern "C" {
        static nauplius_pause_begin: u8;
        static nauplius_pause_end: u8;
    }
    let (begin, end) = (&raw const nauplius_pause_begin, &raw const nauplius_pause_end);
    // SAFETY: both labels stand in the same read-only section, the second behind the first.
    let code = unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) };
    executable(code)
}

/// An ELF file with one segment: its own headers and `code`, mapped to be read and executed.
fn executable(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const FILE_HEADER: u16 = 64;
    const SEGMENT_HEADER: u16 = 56;
    const PAGE: u64 = 0x1_0000;
    let entry = u64::from(FILE_HEADER + SEGMENT_HEADER);
    let length = entry + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, MACHINE].map(u16::to_le_bytes).as_flattened());
    file.extend(1_u32.to_le_bytes());
    file.extend([BASE + entry, u64::from(FILE_HEADER), 0].map(u64::to_le_bytes).as_flattened());
    file.extend(0_u32.to_le_bytes());
    file.extend([FILE_HEADER, SEGMENT_HEADER, 1, 0, 0, 0].map(u16::to_le_bytes).as_flattened());
    file.extend([1, 5].map(u32::to_le_bytes).as_flattened());
    file.extend([0, BASE, BASE, length, length, PAGE].map(u64::to_le_bytes).as_flattened());
    file.extend(code);
    file
}

/// Becomes the first process of the pid namespace that it was born into. Nobody else is there yet, so nobody sees what it was.
pub(crate) fn run(namespaces: &Namespaces, birth: &Birth<'_>) -> ! {
    let fault = match stages(namespaces, birth) {
        Ok(fault) | Err(fault) => fault,
    };
    init::report(&birth.control, &fault)
}

fn stages(namespaces: &Namespaces, birth: &Birth<'_>) -> Result<Fault, Fault> {
    init::begin(birth.cgroup_entries, None)?;
    init::join_pod(namespaces)?;
    // The last two say what went wrong, should the program not start.
    let calls = [libc::SYS_execve, libc::SYS_ppoll, libc::SYS_sendmsg, libc::SYS_exit_group];
    let filter = crate::seccomp::allow_only(&calls).map_err(|error| Fault(error.to_string()))?;
    rootfs::enter_void(Some((PROGRAM, program().as_slice())))?;
    rustix::process::setsid().while_doing("setsid")?;
    sys::ignore(libc::SIGCHLD).while_doing("ignore SIGCHLD")?;
    init::close_all_but(&birth.control, 0)?;
    let nobody = Process { uid: NOBODY, gid: NOBODY, no_new_privs: true, ..Process::default() };
    launch::become_user(&nobody, 0)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).while_doing("set no_new_privs")?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0)
        .while_doing("set the parent death signal")?;
    sys::install_filter(&filter.program, filter.flags).while_doing("install the seccomp filter")?;
    let error = sys::exec(PROGRAM, &[PROGRAM.to_owned()], &[]);
    Ok(Fault(format!("exec /pause: {}", crate::sys::errno_text(&error))))
}
