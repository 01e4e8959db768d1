//! Ctrl-C, SIGTERM and a lost terminal while a command waits for a server that it has started: the server is asked to end, and the
//! command undoes what it did before it ends by the same signal. A second signal ends it at once. What is to be undone is not known here.

use crate::failure::{Doing, Failure};
use std::process::Child;
use std::sync::atomic::{AtomicI32, Ordering};

const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// What came, if anything did. A signal handler has nothing but statics.
static CAME: AtomicI32 = AtomicI32::new(0);
/// The process that is told. It is not waited for while it stands here, so its number is its own.
static TOLD: AtomicI32 = AtomicI32::new(0);

/// As long as it lives, signals are noted instead of ending this process.
#[derive(Debug)]
pub struct Interrupts {
    caught: Vec<i32>,
}

impl Interrupts {
    /// Begins to catch signals; one that whoever started us ignores stays ignored.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> Result<Self, Failure> {
        let mut interrupts = Self { caught: Vec::new() };
        for signal in SIGNALS {
            if !is_ignored(signal).doing("look at signals")? {
                install(signal).doing("listen for signals")?;
                interrupts.caught.push(signal);
            }
        }
        Ok(interrupts)
    }

    /// From now on `server` is asked to end when a signal comes, or now when one has come.
    pub fn tell(&self, server: &Child) {
        let Some(pid) = number(server) else { return };
        TOLD.store(pid, Ordering::SeqCst);
        if CAME.load(Ordering::SeqCst) != 0 {
            ask_to_end(pid);
        }
    }

    /// Nobody is told any more.
    pub fn tell_nobody(&self) {
        TOLD.store(0, Ordering::SeqCst);
    }

    /// The signal that came.
    pub fn came(&self) -> Option<i32> {
        Some(CAME.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    /// Goes on unless a signal came.
    ///
    /// # Errors
    /// That one did.
    pub fn check(&self) -> Result<(), Failure> {
        self.came().map_or(Ok(()), |signal| Err(Failure::interrupted(signal)))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for signal in &self.caught {
            end_by_default(*signal);
        }
    }
}

/// Asks a server to end.
pub fn end(server: &Child) {
    if let Some(pid) = number(server) {
        ask_to_end(pid);
    }
}

fn number(server: &Child) -> Option<i32> {
    i32::try_from(server.id()).ok() // Linux has none that does not fit.
}

fn ask_to_end(pid: i32) {
    // SAFETY: a signal to a child that was not waited for yet. That it has ended already is as good.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// Ends this process as the signal would have, so that a shell knows.
pub fn end_by(signal: i32) {
    end_by_default(signal);
    // SAFETY: to ourselves.
    unsafe { libc::raise(signal) };
}

fn end_by_default(signal: i32) {
    // SAFETY: the default action needs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn is_ignored(signal: i32) -> std::io::Result<bool> {
    // SAFETY: the structure is plain bytes, for which zero is a value; it is only filled.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above; nothing is changed.
    match unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) } {
        0 => Ok(now.sa_sigaction == libc::SIG_IGN),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn install(signal: i32) -> std::io::Result<()> {
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32) = note;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does only what is safe in one: atomics, `kill`, `signal` and `raise`.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

extern "C" fn note(signal: i32) {
    if CAME.swap(signal, Ordering::SeqCst) != 0 {
        end_by(signal);
        return;
    }
    let told = TOLD.load(Ordering::SeqCst);
    if told != 0 {
        ask_to_end(told);
    }
}
