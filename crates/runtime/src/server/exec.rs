//! Commands in running containers, with their streams as pipes or a terminal. It must not know who asked, or over which protocol the
//! streams go on.

use super::Inner;
use super::registry::Container;
use super::shim_client::{Execution, ShimClient, ShimError};
use crate::spec::{ContainerSpec, Process};
use crate::wire::Request;
use nauplius_base::{id, time};
use nauplius_cri::{Code, CriError, v1};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// What `ExecSync` returns of each stream at most, as CRI says; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 16 << 20;
/// What containerd says in front of all that goes wrong with a command; people search for these words.
const NOT_EXECUTED: &str = "failed to exec in container";
/// How long a finished command's descendants may hold its output open.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// Our ends of a command's streams.
pub(crate) struct Pipes {
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
}

/// The other ends, in the order of descriptors 0, 1, 2.
pub(crate) struct Ends {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

fn pipe_error(error: impl Into<std::io::Error>) -> CriError {
    CriError::unknown(format!("failed to make a pipe: {}", error.into()))
}

/// Three pipes. A stream that is not wanted is `/dev/null`.
pub(crate) fn pipes(stdin: bool, stdout: bool, stderr: bool) -> Result<(Pipes, Ends), CriError> {
    let null = || {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(pipe_error)?;
        Ok::<_, CriError>(OwnedFd::from(file))
    };
    let output = |wanted: bool| {
        if !wanted {
            return Ok((None, null()?));
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(pipe_error)?;
        Ok::<_, CriError>((Some(pipe::Receiver::from_owned_fd(read).map_err(pipe_error)?), write))
    };
    let (ours_in, theirs_in) = if stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(pipe_error)?;
        (Some(pipe::Sender::from_owned_fd(write).map_err(pipe_error)?), read)
    } else {
        (None, null()?)
    };
    let (ours_out, theirs_out) = output(stdout)?;
    let (ours_err, theirs_err) = output(stderr)?;
    Ok((
        Pipes { stdin: ours_in, stdout: ours_out, stderr: ours_err },
        Ends { stdin: theirs_in, stdout: theirs_out, stderr: theirs_err },
    ))
}

impl Inner {
    /// A container that commands can run in.
    pub(crate) fn running(&self, id: &str) -> Result<Container, CriError> {
        let container = self.container(id)?;
        if container.state.running() {
            return Ok(container);
        }
        let state = container.cri_state().as_str_name();
        Err(CriError::unknown(format!("container is in {state} state")))
    }

    /// The same for a command that is to start now.
    pub(crate) fn running_for_exec(&self, id: &str) -> Result<Container, CriError> {
        self.running(id)
            .map_err(|error| CriError::new(error.code, format!("{NOT_EXECUTED}: {}", error.message)))
    }

    /// Starts a command in a running container. With a terminal its master is returned and `ends` is not used.
    pub(crate) async fn execute(
        &self,
        container: &Container,
        command: &[String],
        tty: bool,
        ends: Option<Ends>,
    ) -> Result<(Execution, Option<OwnedFd>), CriError> {
        // Nothing is known by it; people know errors by its being there.
        let exec_id = id::hex(32);
        if command.is_empty() {
            return Err(CriError::unknown(format!("{}args must not be empty", refused_by_runc(&exec_id))));
        }
        let process = Box::new(self.command_process(container, command, tty)?);
        let request = Request::Exec { id: container.record.id.clone(), process };
        let fds: Vec<_> = ends
            .iter()
            .flat_map(|ends| [ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()])
            .collect();
        let client = ShimClient::new(&self.sandbox_dir(&container.record.sandbox));
        client.exec(&request, &fds).await.map_err(|error| not_started(&exec_id, &error))
    }

    /// The container's own process with another command: same user, environment, limits and filters.
    fn command_process(
        &self,
        container: &Container,
        command: &[String],
        tty: bool,
    ) -> Result<Process, CriError> {
        let path = self.container_dir(&container.record.id).join(crate::shim::SPEC_FILE);
        let bytes = std::fs::read(&path).map_err(super::failed("read the container's spec"))?;
        let spec: ContainerSpec = serde_json::from_slice(&bytes)
            .map_err(|error| CriError::unknown(format!("{}: {error}", path.display())))?;
        let mut process = Process { args: command.to_vec(), tty, ..spec.process };
        if tty && !process.env.iter().any(|variable| variable.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        Ok(process)
    }

    /// `ExecSync`.
    pub(crate) async fn exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<v1::ExecSyncResponse, CriError> {
        let container = self.running_for_exec(&request.container_id)?;
        let (mine, ends) = pipes(false, true, true)?;
        let (mut execution, _) = self.execute(&container, &request.cmd, false, Some(ends)).await?;
        let limit =
            u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let work = collect(&mut execution, mine);
        let done = match limit {
            None => work.await,
            Some(limit) => match time::timeout(limit, work).await {
                Ok(done) => done,
                Err(_) => {
                    execution.kill().await.map_err(|error| went_wrong("kill the command", &error))?;
                    let seconds = limit.as_secs();
                    let message =
                        format!("{NOT_EXECUTED}: timeout {seconds}s exceeded: context deadline exceeded");
                    return Err(CriError::new(Code::DeadlineExceeded, message));
                }
            },
        };
        let (stdout, stderr, exit_code) = done.map_err(|error| went_wrong("wait for the command", &error))?;
        Ok(v1::ExecSyncResponse { stdout, stderr, exit_code })
    }
}

fn refused_by_runc(exec_id: &str) -> String {
    format!("{NOT_EXECUTED}: failed to start exec {exec_id:?}: OCI runtime exec failed: exec failed: ")
}

fn not_started(exec_id: &str, error: &ShimError) -> CriError {
    CriError::unknown(match error {
        ShimError::Refused(reason) => {
            format!("{}unable to start container process: {reason}", refused_by_runc(exec_id))
        }
        other => format!("{NOT_EXECUTED}: failed to start exec {exec_id:?}: {other}"),
    })
}

fn went_wrong(what: &str, error: &ShimError) -> CriError {
    CriError::unknown(format!("{NOT_EXECUTED}: failed to {what}: {error}"))
}

async fn collect(execution: &mut Execution, pipes: Pipes) -> Result<(Vec<u8>, Vec<u8>, i32), ShimError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = {
        let output = async {
            futures_util::join!(
                read_capped(pipes.stdout, &mut stdout),
                read_capped(pipes.stderr, &mut stderr)
            );
        };
        tokio::pin!(output);
        tokio::select! {
            code = execution.exit_code() => {
                // What the command wrote is in the pipes; only descendants that stay behind keep them open.
                let _ = time::timeout(DRAIN_WAIT, &mut output).await;
                code
            }
            () = &mut output => execution.exit_code().await,
        }
    };
    Ok((stdout, stderr, code?))
}

async fn read_capped(pipe: Option<pipe::Receiver>, into: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 * 1024];
    // A pipe that cannot be read has nothing more to say.
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let room = OUTPUT_LIMIT.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..length.min(room)]);
    }
}
