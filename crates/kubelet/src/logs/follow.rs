//! Sends a log to a reader: from where it asks, as it asks, and on as the container writes, over rotations, until the container has
//! ended. It waits for the kernel's word that the file has changed, never by looking again and again.

use super::{line, tail};
use bytes::Bytes;
use futures_util::StreamExt;
use nauplius_base::time::Timestamp;
use nauplius_cri::{ContainerEvents, RuntimeService, v1};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;

/// Read at once.
const PIECE: usize = 16 * 1024;
/// A line beyond it is sent in parts; the runtime splits at 16 KiB already.
const LINE_MAX: usize = 64 * 1024;

/// What a reader wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// Go on at the end.
    pub follow: bool,
    /// With the time before each line.
    pub timestamps: bool,
    /// Only so many of the last lines.
    pub tail_lines: Option<usize>,
    /// Only so many bytes.
    pub limit_bytes: Option<usize>,
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// Only these.
    pub streams: [&'static str; 2],
}

/// How the container's end is noticed.
pub struct Following {
    /// To look.
    pub runtime: Arc<dyn RuntimeService>,
    /// The container.
    pub id: String,
    /// To be told. Subscribed before the container was looked at.
    pub events: ContainerEvents,
}

struct Output<'a> {
    options: &'a Options,
    sender: &'a Sender<Bytes>,
    left: usize,
    begun: bool,
}

/// Sends the log at `path`.
///
/// # Errors
/// The system's. A reader that went away is no error.
pub async fn send(
    path: &Path,
    options: &Options,
    following: Option<Following>,
    sender: &Sender<Bytes>,
) -> io::Result<()> {
    let mut watch = match &following {
        Some(_) => Some(Watch::new(path)?),
        None => None,
    };
    let mut file = match File::open(path) {
        // The container has just been rotated, or has not written yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match &mut watch {
            Some(watch) => {
                watch.changed().await?;
                File::open(path)?
            }
            None => return Ok(()),
        },
        other => other?,
    };
    if let Some(lines) = options.tail_lines {
        let start = tail::start_of(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    let mut output =
        Output { options, sender, left: options.limit_bytes.unwrap_or(usize::MAX), begun: false };
    let mut pending = Vec::new();
    if !output.drain(&mut file, &mut pending).await? {
        return Ok(());
    }
    let (Some(mut following), Some(mut watch)) = (following, watch) else {
        return output.rest(&mut pending).await;
    };
    let mut running = runs(&*following.runtime, &following.id).await;
    loop {
        if !output.drain(&mut file, &mut pending).await? {
            return Ok(());
        }
        // What was moved away is read to its end before the new file is opened.
        if let Some(next) = replaced(&file, path)? {
            if !output.drain(&mut file, &mut pending).await? {
                return Ok(());
            }
            file = next;
            continue;
        }
        if !running {
            return output.rest(&mut pending).await;
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = following.ended() => running = false,
            () = sender.closed() => return Ok(()),
        }
    }
}

/// The file that is at `path` now, when it is another one.
fn replaced(file: &File, path: &Path) -> io::Result<Option<File>> {
    let now = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if now.ino() == file.metadata()?.ino() { Ok(None) } else { File::open(path).map(Some) }
}

async fn runs(runtime: &dyn RuntimeService, id: &str) -> bool {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    // A container that the runtime does not know does not run.
    let status = runtime.container_status(request).await.ok().and_then(|answer| answer.status);
    status.is_some_and(|status| status.state() == v1::ContainerState::ContainerRunning)
}

impl Following {
    async fn ended(&mut self) {
        loop {
            match self.events.next().await {
                Some(Ok(event)) if event.container_id != self.id => {}
                Some(Ok(_)) if runs(&*self.runtime, &self.id).await => {}
                Some(Ok(_)) => return,
                // Without events its end cannot be waited for: what is written so far is all.
                _ => return,
            }
        }
    }
}

impl Output<'_> {
    /// Sends all whole lines that are there. False when nothing more is wanted.
    async fn drain(&mut self, file: &mut File, pending: &mut Vec<u8>) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                return Ok(true);
            }
            pending.extend_from_slice(&piece[..length]);
            let whole = match pending.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if pending.len() > LINE_MAX => pending.len(),
                None => continue,
            };
            let lines: Vec<u8> = pending.drain(..whole).collect();
            if !self.send(&lines).await {
                return Ok(false);
            }
        }
    }

    /// A last line without its feed, of a container that was cut short.
    async fn rest(&mut self, pending: &mut Vec<u8>) -> io::Result<()> {
        if !pending.is_empty() {
            self.send(&std::mem::take(pending)).await;
        }
        Ok(())
    }

    async fn send(&mut self, lines: &[u8]) -> bool {
        let mut out = Vec::with_capacity(lines.len());
        let trimmed = lines.strip_suffix(b"\n").unwrap_or(lines);
        for line in trimmed.split(|byte| *byte == b'\n').filter_map(line::parse) {
            let early = self.options.since.is_some_and(|since| line.at().is_some_and(|at| at < since));
            if early || !self.options.streams.contains(&line.stream) {
                continue;
            }
            if self.options.timestamps && !self.begun {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if !line.partial {
                out.push(b'\n');
            }
            self.begun = line.partial;
        }
        out.truncate(self.left);
        self.left -= out.len();
        (out.is_empty() || self.sender.send(Bytes::from(out)).await.is_ok()) && self.left > 0
    }
}

/// Tells when something happened in a log's directory.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(path);
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, directory, flags)?;
        // SAFETY: the descriptor is owned, and neither replaced nor closed while it is registered.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(fd.map_err(io::Error::from)?))
    }

    /// Waits for a change, and takes all that are there.
    async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let taken = ready.try_io(|fd| {
                let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
                let mut reader = inotify::Reader::new(fd.get_ref(), &mut buffer);
                reader.next().map(drop).map_err(io::Error::from)?;
                while !reader.is_buffer_empty() {
                    reader.next().map(drop).map_err(io::Error::from)?;
                }
                Ok(())
            });
            match taken {
                Ok(outcome) => return outcome,
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::sync::mpsc;

    fn options() -> Options {
        Options {
            follow: false,
            timestamps: false,
            tail_lines: None,
            limit_bytes: None,
            since: None,
            streams: ["stdout", "stderr"],
        }
    }

    const LOG: &str = "2026-01-02T03:04:05.000000001Z stdout F one\n\
                       2026-01-02T03:04:06.000000001Z stderr P tw\n\
                       2026-01-02T03:04:06.000000002Z stderr F o\n\
                       2026-01-02T03:04:07.000000001Z stdout F three\n";

    async fn read(text: &str, options: Options) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        send(file.path(), &options, None, &sender).await.unwrap();
        drop(sender);
        let mut all = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn readers_get_what_they_ask_for() {
        assert_eq!(read(LOG, options()).await, "one\ntwo\nthree\n");
        assert_eq!(read(LOG, Options { tail_lines: Some(1), ..options() }).await, "three\n");
        assert_eq!(read(LOG, Options { streams: ["stderr"; 2], ..options() }).await, "two\n");
        assert_eq!(read(LOG, Options { limit_bytes: Some(5), ..options() }).await, "one\nt");
        let since = Some("2026-01-02T03:04:07Z".parse().unwrap());
        assert_eq!(
            read(LOG, Options { since, timestamps: true, ..options() }).await,
            "2026-01-02T03:04:07.000000001Z three\n"
        );
        let stamped = read(LOG, Options { timestamps: true, streams: ["stderr"; 2], ..options() }).await;
        assert_eq!(stamped, "2026-01-02T03:04:06.000000001Z two\n");
    }
}
