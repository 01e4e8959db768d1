//! Terminal sizes: JSON objects on a stream of their own. Only the latest size matters.

use crate::byte_stream::{ByteReader, ByteWriter};
use nauplius_base::mailbox;
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::AbortHandle;

/// A size as JSON is a few dozen bytes.
const MAX_SIZE_BYTES: usize = 1024;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Tells a server the terminal's size as it changes.
pub struct ResizeSender(pub(super) ByteWriter);

impl ResizeSender {
    /// Tells a new size.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send(&mut self, size: TerminalSize) -> io::Result<()> {
        let mut line = serde_json::to_vec(&size)?;
        line.push(b'\n');
        self.0.write_all(&line).await
    }
}

/// Where a server learns the terminal's size. One that was not taken in time is replaced by the next.
pub struct ResizeReceiver(Option<Sizes>);

struct Sizes {
    latest: mailbox::Receiver<TerminalSize>,
    reading: AbortHandle,
}

impl Drop for Sizes {
    /// The reading task holds the connection in use; nobody wants its sizes any more.
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl ResizeReceiver {
    /// The next size; `None` when the client tells no more. Safe to cancel.
    pub async fn recv(&mut self) -> Option<TerminalSize> {
        self.0.as_mut()?.latest.recv().await
    }

    pub(super) fn start(stream: Option<ByteReader>) -> Self {
        let Some(stream) = stream else { return Self(None) };
        let (sender, latest) = mailbox::mailbox();
        let reading = nauplius_base::task::spawn("terminal-sizes", async move {
            read_sizes(stream, &sender).await;
            sender.close();
        });
        Self(Some(Sizes { latest, reading: reading.abort_handle() }))
    }
}

async fn read_sizes(mut stream: ByteReader, sender: &mailbox::Sender<TerminalSize>) {
    let mut text = Vec::new();
    let mut chunk = [0; 128];
    loop {
        // A connection that failed tells no more sizes, like one that ended.
        let Ok(length @ 1..) = stream.read(&mut chunk).await else { return };
        for byte in &chunk[..length] {
            text.push(*byte);
            if *byte == b'}' {
                // A size that cannot be read ends the stream, as upstream's decoder does.
                let Ok(size) = serde_json::from_slice(&text) else { return };
                sender.send(size);
                text.clear();
            }
        }
        if text.len() > MAX_SIZE_BYTES {
            return;
        }
    }
}
