//! System calls that the standard library and rustix do not wrap, as thin functions that return `io::Result`. Nothing here
//! knows what a container is.

pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod socket;

use std::io;

/// Turns the C convention (-1 and `errno`) into a `Result`.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for functions that return an `int`.
pub(crate) fn check_int(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The short text of an error as C and Go programs print it: "no such file or directory".
pub(crate) fn errno_text(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    // SAFETY: strerror returns a valid C string; its buffer is copied before anything else can be called.
    let text = unsafe { std::ffi::CStr::from_ptr(libc::strerror(code)) }.to_string_lossy().into_owned();
    let mut characters = text.chars();
    match (characters.next(), text.starts_with("RPC")) {
        (Some(first), false) => first.to_lowercase().chain(characters).collect(),
        _ => text,
    }
}
