//! Rotates logs that have grown too long, as upstream: `0.log` becomes `0.log.<time>`, the runtime opens a new one, and of the old
//! ones few are kept.

use crate::context::Context;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, MissedTickBehavior};
use nauplius_cri::v1;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SIZE_MAX: u64 = 10 << 20;
/// With the one that is written.
const FILES_MAX: usize = 5;
const LOOK: Duration = Duration::from_secs(10);

/// The rotated files of a log, oldest first: their names end in the time.
pub fn rotated(log: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    // A directory that is gone holds no logs.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// Removes a log and its rotated files.
pub fn remove(log: &Path) {
    for file in rotated(log).iter().map(PathBuf::as_path).chain([log]) {
        if let Err(error) = fs::remove_file(file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %file.display(), %error, "a log could not be removed");
        }
    }
}

/// Moves the log away when it is too long, and removes the oldest. True when the runtime has to open a new one.
fn rotate(log: &Path, size_max: u64) -> io::Result<bool> {
    match fs::metadata(log) {
        Ok(metadata) if metadata.len() >= size_max => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let old = rotated(log);
    for file in &old[..old.len().saturating_sub(FILES_MAX - 2)] {
        fs::remove_file(file)?;
    }
    let stamp = time::now().strftime("%Y%m%d-%H%M%S").to_string();
    fs::rename(log, format!("{}.{stamp}", log.display()))?;
    Ok(true)
}

/// Looks at the logs of all running containers until shutdown.
///
/// # Errors
/// Never.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut ticks = time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        look(&context).await;
    }
    Ok(())
}

async fn look(context: &Context) {
    let state = v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() };
    let filter = v1::ContainerFilter { state: Some(state), ..v1::ContainerFilter::default() };
    let running =
        match context.runtime.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await {
            Ok(answer) => answer.containers,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not list its containers");
                return;
            }
        };
    for container in running {
        let request = v1::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        // It may have ended since.
        let Ok(answer) = context.runtime.container_status(request).await else { continue };
        let log = PathBuf::from(answer.status.map(|status| status.log_path).unwrap_or_default());
        if log.as_os_str().is_empty() {
            continue;
        }
        match rotate(&log, SIZE_MAX) {
            Ok(false) => {}
            Ok(true) => reopen(context, &container.id).await,
            Err(error) => tracing::warn!(path = %log.display(), %error, "a log could not be rotated"),
        }
    }
}

async fn reopen(context: &Context, id: &str) {
    let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(error) = context.runtime.reopen_container_log(request).await {
        tracing::warn!(container = id, %error, "the runtime did not open a new log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_logs_move_and_few_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        assert!(!rotate(&log, 4).unwrap());
        for stamp in ["20260101-000001", "20260101-000002", "20260101-000003", "20260101-000004"] {
            fs::write(directory.path().join(format!("0.log.{stamp}")), "x").unwrap();
        }
        fs::write(&log, "abc").unwrap();
        assert!(!rotate(&log, 4).unwrap());
        fs::write(&log, "abcd").unwrap();
        assert!(rotate(&log, 4).unwrap());
        let left = rotated(&log);
        assert_eq!(left.len(), 4);
        assert!(left[0].ends_with("0.log.20260101-000002") && !log.exists());
        remove(&log);
        assert!(rotated(&log).is_empty());
    }
}
