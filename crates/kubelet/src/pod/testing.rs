//! Views for tests.

use super::view::{ContainerState, ContainerView, SandboxView};

const SECOND: i64 = 1_000_000_000;

/// A container in sandbox `s0` that runs since `since_s`.
pub(crate) fn running(name: &str, attempt: u32, since_s: i64) -> ContainerView {
    ContainerView {
        id: format!("{name}{attempt}"),
        name: name.to_owned(),
        sandbox: "s0".to_owned(),
        attempt,
        state: ContainerState::Running,
        created_at: since_s * SECOND,
        started_at: since_s * SECOND,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image: "i".to_owned(),
        image_ref: "sha256:i".to_owned(),
        hash: String::new(),
        log_path: String::new(),
        user: None,
        limits: None,
    }
}

/// One that ended.
pub(crate) fn exited(name: &str, attempt: u32, since_s: i64, until_s: i64, exit_code: i32) -> ContainerView {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    ContainerView {
        state: ContainerState::Exited,
        finished_at: until_s * SECOND,
        exit_code,
        reason: reason.to_owned(),
        ..running(name, attempt, since_s)
    }
}

/// Sandbox `s0`.
pub(crate) fn sandbox(ready: bool) -> SandboxView {
    SandboxView {
        id: "s0".to_owned(),
        attempt: 0,
        ready,
        created_at: SECOND,
        ips: vec!["10.1.0.5".to_owned()],
    }
}
