//! The whole of Kubernetes in one binary: flags, configuration and wiring, and the few things a person does to a cluster
//! as a whole. No logic of Kubernetes' own lives here.

mod allocator;
mod backup_ranges;
mod bench;
mod cli;
mod cluster;
mod commands;
mod control;
mod credentials;
mod demo;
mod demo_image;
mod eviction;
mod failure;
mod identity;
mod interrupts;
mod keepsake;
mod lock;
mod machine;
mod memory;
mod node_ports;
mod progress;
mod registry_login;
mod server;
mod state;
mod storage;
mod up;

use clap::Parser;
use cli::{Cli, Command, StoreAction};
use failure::Failure;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // Before anything else touches memory: a shim and the demo live in every pod.
    match arguments.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("shim") => nauplius_runtime::shim_main(arguments),
        Some("demo") => return demo::run(),
        _ => {}
    }
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            // A terminal that was closed reads nothing.
            let _ = writeln!(std::io::stderr(), "nauplius: {failure}");
            failure.signal().into_iter().for_each(interrupts::end_by);
            ExitCode::FAILURE
        }
    }
}

/// `nauplius status | head` ends quietly, as other commands do. The server keeps ignoring the signal: its connections break all the
/// time.
fn end_on_broken_pipe() {
    // SAFETY: no thread runs yet, and the default action needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    if !matches!(command, Command::Server { .. }) {
        end_on_broken_pipe();
    }
    match command {
        Command::Up { cluster, new } => up::up(&cluster, &new).map(|()| ExitCode::SUCCESS),
        Command::Server { cluster, new, log_format, progress } => {
            allocator::give_back_soon();
            server::main(&cluster, &new, log_format, progress).map(|()| ExitCode::SUCCESS)
        }
        Command::Status { cluster, json } => commands::status(&cluster, json),
        Command::Down { cluster } => commands::down(&cluster).map(|()| ExitCode::SUCCESS),
        Command::Delete { cluster, etcd_keys } => {
            commands::delete(&cluster, etcd_keys).map(|()| ExitCode::SUCCESS)
        }
        Command::Image { cluster, action } => commands::image(&cluster, action).map(|()| ExitCode::SUCCESS),
        Command::Bench { cluster, what } => bench::run(&cluster, &what).map(|()| ExitCode::SUCCESS),
        Command::Backup { cluster, file } => state::backup(&cluster, &file).map(|()| ExitCode::SUCCESS),
        Command::Restore { cluster, new, file } => {
            state::restore(&cluster, &new, &file).map(|()| ExitCode::SUCCESS)
        }
        Command::Store { cluster, action: StoreAction::Check } => state::check(&cluster),
        Command::Demo => Ok(demo::run()),
    }
}
