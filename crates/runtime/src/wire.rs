//! The shim's protocol: one request a connection, length-prefixed JSON, descriptors riding on the first byte of a frame. The
//! server may be newer than the shim, so messages only grow. Nothing here knows what a request does.

use crate::spec::{ContainerState, Process};
use serde::{Deserialize, Serialize};

/// Name of the socket in the sandbox's directory.
pub(crate) const SOCKET: &str = "shim.sock";
/// Largest frame: an environment and arguments are bounded by `execve` at 2 MiB, JSON escapes may triple that.
pub(crate) const FRAME_LIMIT: usize = 8 << 20;
/// The byte that ends a command executed over its connection: the process group is killed.
pub(crate) const KILL_BYTE: u8 = b'k';

/// What the server asks a shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Answers with every container's state, then pushes an [`Answer::State`] at each change until the connection ends.
    Subscribe,
    /// Runs the container whose directory this is.
    Start { directory: String },
    /// Signals the first process; all processes of a container that shares its pid namespace when the signal is SIGKILL.
    Kill { id: String, signal: i32 },
    /// Runs a command. Without a terminal three descriptors come along; with one the answer carries its master.
    Exec { id: String, process: Box<Process> },
    /// Joins the container's streams. The descriptors come in the order of the true flags.
    Attach { id: String, stdin: bool, stdout: bool, stderr: bool },
    /// Tells the container's terminal its size.
    Resize { id: String, width: u16, height: u16 },
    /// Opens the log anew.
    ReopenLog { id: String },
    /// Forgets a finished container.
    Forget { id: String },
    /// Kills everything and ends.
    Shutdown,
}

/// What a shim says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// The first answer to a subscription.
    Snapshot {
        pid: i32,
        containers: Vec<ContainerState>,
    },
    /// A container has started or ended.
    State(ContainerState),
    /// A container or command runs.
    Started {
        pid: i32,
    },
    /// A command has ended.
    Exited {
        code: i32,
    },
    /// It did not work; the text is for people.
    Failed {
        message: String,
    },
}

/// A frame: four bytes of length, little-endian, and JSON.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)
        .expect("messages have string keys only, so they always encode");
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The length that a frame's head announces, unless it is beyond the limit.
pub(crate) fn announced(head: [u8; 4]) -> Option<usize> {
    let length = u32::from_le_bytes(head) as usize;
    (length <= FRAME_LIMIT).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_announces_what_follows() {
        let request = Request::Kill { id: "a".to_owned(), signal: 15 };
        let bytes = frame(&request);
        let length = announced(bytes[..4].try_into().unwrap()).unwrap();
        assert_eq!(length, bytes.len() - 4);
        assert_eq!(serde_json::from_slice::<Request>(&bytes[4..]).unwrap(), request);
        assert_eq!(announced(u32::MAX.to_le_bytes()), None);
    }
}
