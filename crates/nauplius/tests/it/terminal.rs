//! A terminal for a command: what a person types, and what they see.

use crate::cluster::eventually;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A command that runs on a terminal of its own.
pub struct Session {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Session {
    /// Starts the command.
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || -> OwnedFd {
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        // SAFETY: both calls are async-signal-safe; standard input is the terminal.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The parent's copies of the terminal close with the command: then the screen ends with the child.
        drop(command);
        let master = File::from(master);
        let screen = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let (mut source, screen) = (master.try_clone().unwrap(), Arc::clone(&screen));
            move || read_all(&mut source, &screen)
        });
        Self { child, keyboard: master, screen, reader }
    }

    /// Types a line once `prompt` was shown as often as `times` says.
    pub fn types(&mut self, times: usize, prompt: &str, line: &str) {
        eventually("the prompt", || {
            (self.screen.lock().unwrap().matches(prompt).count() >= times).then_some(())
        });
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for the end; what was on the screen, and the exit code.
    pub fn end(mut self) -> (String, Option<i32>) {
        let status = eventually("the session's end", || self.child.try_wait().unwrap());
        self.reader.join().unwrap();
        let screen = self.screen.lock().unwrap().replace('\r', "");
        (screen, status.code())
    }
}

/// Until the last program has closed the terminal, which reads as an error.
fn read_all(source: &mut File, screen: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = source.read(&mut buffer) {
        if length == 0 {
            return;
        }
        screen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}
