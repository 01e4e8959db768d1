//! The control socket of a running server: one JSON line asks, one JSON line answers. Only root can open it. What the API
//! can say is asked of the API; this is for the process itself and its images.

use crate::failure::Failure;
use crate::registry_login::Login;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest line that either side reads.
pub const LINE_MAX: u64 = 1 << 20;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Ask {
    /// Health, versions, memory.
    Status,
    /// Stop; with the containers, or leaving them to run.
    Stop {
        /// Whether the containers stop, too.
        containers: bool,
    },
    /// Make again what a running cluster should have and lacks.
    Mend,
    /// Write everything that the store holds into a file.
    Backup {
        /// Absolute.
        file: PathBuf,
    },
    /// Verify the store.
    StoreCheck,
    /// Load an archive.
    ImageLoad {
        /// Absolute.
        archive: PathBuf,
    },
    /// List images.
    ImageList,
    /// Remove an image.
    ImageRemove {
        /// Name, digest or id.
        image: String,
    },
    /// Pull an image.
    ImagePull {
        /// The reference.
        image: String,
        /// For its registry.
        login: Option<Login>,
    },
}

/// One component as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// `API server`, `scheduler`, ...
    pub name: String,
    /// Whether it does its work.
    pub healthy: bool,
    /// Why not, or what it has to say.
    pub message: String,
}

/// The whole answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Ours.
    pub version: String,
    /// Kubernetes'.
    pub kubernetes_version: String,
    /// The server's process.
    pub pid: u32,
    /// Where the API is.
    pub server: String,
    /// Each component.
    pub components: Vec<ComponentStatus>,
    /// What the node is short of, so that no pod comes to it.
    #[serde(default)]
    pub shortages: Vec<String>,
    /// Proportional memory of the server, of shims, and of containers, in KiB.
    pub memory_kib: Memory,
    /// How many pods run here.
    pub pods: usize,
}

/// Proportional set sizes in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The server process.
    pub server: u64,
    /// All shims.
    pub shims: u64,
    /// All container processes.
    pub containers: u64,
}

/// One image as `image list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// Names.
    pub tags: Vec<String>,
    /// The id.
    pub id: String,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "value")]
pub enum Answer {
    /// To `status`.
    Status(Box<Status>),
    /// Done; for some questions with names.
    Done(Vec<String>),
    /// To `stop`: it does, and may take so many seconds.
    Stopping {
        /// What the slowest pod may take.
        within_s: u64,
    },
    /// To `mend`.
    Mended {
        /// What was missing and is there again.
        made: Vec<String>,
        /// What is missing and comes back when the server starts again.
        lost: Option<String>,
    },
    /// To `image list`.
    Images(Vec<ImageRow>),
    /// It could not be done: one line for a person.
    Failed(String),
}

/// Asks the server at `socket`; `None` when none listens there, or when it ended before it answered.
///
/// # Errors
/// When there is no answer in time, or the server answers that it failed.
pub fn ask(socket: &Path, question: &Ask, timeout: Duration) -> Result<Option<Answer>, Failure> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Failure::io("cannot reach", socket, &error)),
    };
    let answer = match exchange(&mut stream, question, timeout) {
        Ok(answer) if answer.is_empty() => return Ok(None),
        Ok(answer) => answer,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::io("no answer from", socket, &error)),
    };
    match serde_json::from_str(&answer) {
        Ok(Answer::Failed(message)) => Err(Failure::new(message)),
        Ok(answer) => Ok(Some(answer)),
        Err(_) => Err(Failure::new(format!("{} answered nothing that we understand", socket.display()))),
    }
}

fn exchange(stream: &mut UnixStream, question: &Ask, timeout: Duration) -> std::io::Result<String> {
    stream.set_read_timeout(Some(timeout))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).take(LINE_MAX).read_line(&mut answer)?;
    Ok(answer)
}
