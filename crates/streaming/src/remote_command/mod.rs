//! Remote commands (exec and attach): which streams there are in which protocol version, for servers and clients. What the
//! command is, and where it runs, is unknown here.

mod client;
mod outcome;
mod resize;
mod server;

pub use client::{RemoteCommandClient, RemoteCommandTransport, connect_remote_command};
pub use outcome::{Outcome, OutcomeReader, OutcomeSender};
pub use resize::{ResizeReceiver, ResizeSender, TerminalSize};
pub use server::{RemoteCommandSession, accept_remote_command};

use crate::websocket::Format;

/// Which streams a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteCommandOptions {
    /// The client sends input.
    pub stdin: bool,
    /// The client wants output.
    pub stdout: bool,
    /// The client wants error output. A terminal has none of its own, so it is not opened with `tty`.
    pub stderr: bool,
    /// The command has a terminal, whose size the client tells.
    pub tty: bool,
}

impl RemoteCommandOptions {
    fn stderr(self) -> bool {
        self.stderr && !self.tty
    }
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// The SPDY header that names a stream's purpose.
const STREAM_TYPE: &str = "streamType";
const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const V1_BASE64: &str = "base64.channel.k8s.io";

/// What our servers speak over SPDY; v5 is v4 there.
const SPDY_PROTOCOLS: &[&str] = &[V4, V3, V2, V1];
/// What our servers speak over WebSocket; clients that name no protocol get the first version.
const WEBSOCKET_PROTOCOLS: &[&str] = &["", V5, V4, V3, V2, V1, V4_BASE64, V1_BASE64];

/// How outcomes are told: since v4 as a JSON Status, before as the text of an error.
fn tells_status(protocol: &str) -> bool {
    matches!(protocol, V5 | V4 | V4_BASE64)
}

/// Terminal sizes are told since v3.
fn tells_sizes(protocol: &str) -> bool {
    matches!(protocol, V5 | V4 | V3)
}

fn format(protocol: &str) -> Format {
    match protocol {
        V5 => Format::Binary { close: true },
        V4_BASE64 | V1_BASE64 => Format::Base64,
        _ => Format::Binary { close: false },
    }
}
