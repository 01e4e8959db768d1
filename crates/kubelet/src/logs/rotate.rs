//! Rotates logs that have grown too long, as upstream: `0.log` becomes `0.log.<time>`, the runtime opens a new one, and of the old
//! ones few are kept.

use crate::context::Context;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, MissedTickBehavior};
use nauplius_cri::{CriError, v1};
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

/// Moves the log away when it is too long, has a new one opened in its place, and removes the oldest. When none is opened it stays where it
/// was, for it is still written to.
async fn rotate(
    log: &Path,
    size_max: u64,
    open: impl AsyncFnOnce() -> Result<(), CriError>,
) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(metadata) if metadata.len() >= size_max => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let old = rotated(log);
    for file in &old[..old.len().saturating_sub(FILES_MAX - 2)] {
        fs::remove_file(file)?;
    }
    let stamp = time::now().strftime("%Y%m%d-%H%M%S").to_string();
    let moved = PathBuf::from(format!("{}.{stamp}", log.display()));
    fs::rename(log, &moved)?;
    if let Err(error) = open().await {
        fs::rename(&moved, log)?;
        return Err(io::Error::other(format!("failed to reopen container log: {error}")));
    }
    Ok(())
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
        let request = v1::ReopenContainerLogRequest { container_id: container.id };
        let open = async || context.runtime.reopen_container_log(request).await.map(drop);
        if let Err(error) = rotate(&log, SIZE_MAX, open).await {
            tracing::warn!(path = %log.display(), %error, "a log could not be rotated");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_logs_move_and_few_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let never = async || panic!("it is short");
        rotate(&log, 4, never).await.unwrap();
        for stamp in ["20260101-000001", "20260101-000002", "20260101-000003", "20260101-000004"] {
            fs::write(directory.path().join(format!("0.log.{stamp}")), "x").unwrap();
        }
        fs::write(&log, "abc").unwrap();
        rotate(&log, 4, never).await.unwrap();
        fs::write(&log, "abcd").unwrap();
        rotate(&log, 4, async || Ok(())).await.unwrap();
        let left = rotated(&log);
        assert_eq!(left.len(), 4);
        assert!(left[0].ends_with("0.log.20260101-000002") && !log.exists());
        remove(&log);
        assert!(rotated(&log).is_empty());
    }

    #[tokio::test]
    async fn a_log_that_is_still_written_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        fs::write(&log, "abcd").unwrap();
        let refused = rotate(&log, 4, async || Err(CriError::unknown("no"))).await.unwrap_err();
        assert!(refused.to_string().contains("failed to reopen container log"), "{refused}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "abcd");
        assert!(rotated(&log).is_empty());
    }
}
