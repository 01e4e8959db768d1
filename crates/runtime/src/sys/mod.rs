//! System calls that the standard library and rustix do not wrap, as thin functions that return `io::Result`. Nothing here
//! knows what a container is.

pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod socket;

pub(crate) use nauplius_base::errno::words as errno_text;
use std::io;

/// Turns the C convention (-1 and `errno`) into a `Result`.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for functions that return an `int`.
pub(crate) fn check_int(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
