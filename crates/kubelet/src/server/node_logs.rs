//! Serves the node's own logs: files below `/var/log`, and its directories as pages of links, as a Go file server does. It never
//! leaves that directory, whatever links lie in it.

use super::Server;
use super::answer::{Answer, bytes, stream, text};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use nauplius_base::task;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use tokio::sync::mpsc;

const ROOT: &str = "/var/log";
const PIECE: usize = 32 * 1024;
/// Pieces that wait for a slow reader.
const PIECES: usize = 4;

fn escape(text: &str) -> String {
    let table = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")];
    table.iter().fold(text.to_owned(), |text, (plain, escaped)| text.replace(plain, escaped))
}

/// The page of a directory.
fn page(mut names: Vec<String>) -> String {
    names.sort();
    let link = |name: &String| {
        let target =
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        // What a name may hold as it is reads better so.
        let target = [("%2F", "/"), ("%2E", "."), ("%2D", "-"), ("%5F", "_")]
            .iter()
            .fold(target, |target, (code, plain)| target.replace(code, plain));
        format!("<a href=\"{target}\">{}</a>\n", escape(name))
    };
    let links: String = names.iter().map(link).collect();
    let head = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n";
    format!("{head}<pre>\n{links}</pre>\n")
}

fn open(root: &Path, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let base = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let path = path.trim_matches('/');
    let path = if path.is_empty() { "." } else { path };
    Ok(rustix::fs::openat2(&base, path, flags, Mode::empty(), ResolveFlags::BENEATH)?)
}

fn list(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let name = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        // A name that is gone by now is listed as a file's.
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory { format!("{name}/") } else { name }
    };
    entries.map(|entry| entry.map(name)).collect()
}

/// What is there: a page, or a file to send.
enum Found {
    Page(String),
    File(File),
    Moved,
}

fn find(root: &Path, path: &str) -> io::Result<Found> {
    let opened = open(root, path)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if kind.is_dir() {
        return if path.is_empty() || path.ends_with('/') {
            list(&opened).map(page).map(Found::Page)
        } else {
            Ok(Found::Moved)
        };
    }
    if !kind.is_file() || path.ends_with('/') {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Found::File(File::from(opened)))
}

fn send(mut file: File, pieces: &mpsc::Sender<Bytes>) {
    let mut piece = vec![0; PIECE];
    // A file that cannot be read on ends here; so does a reader that is gone.
    while let Ok(length) = file.read(&mut piece)
        && length > 0
        && pieces.blocking_send(Bytes::copy_from_slice(&piece[..length])).is_ok()
    {}
}

impl Server {
    /// `path` is what comes after `/logs/`.
    pub(super) async fn node_logs(&self, path: String) -> Answer {
        let wanted = path.clone();
        let found = tokio::task::spawn_blocking(move || find(Path::new(ROOT), &wanted)).await;
        match found.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Found::Page(page)) => bytes("text/html; charset=utf-8", page.into_bytes()),
            Ok(Found::Moved) => {
                let mut answer = text(StatusCode::MOVED_PERMANENTLY, "");
                let last = path.rsplit('/').next().unwrap_or_default();
                // A name that no header can carry is not found by a browser, either.
                if let Ok(target) = HeaderValue::from_str(&format!("{last}/")) {
                    answer.headers_mut().insert(header::LOCATION, target);
                }
                answer
            }
            Ok(Found::File(file)) => {
                let (pieces, receiver) = mpsc::channel(PIECES);
                task::spawn("kubelet-node-log", async move {
                    // Whoever reads has seen what there was.
                    let _ = tokio::task::spawn_blocking(move || send(file, &pieces)).await;
                });
                stream("text/plain; charset=utf-8", receiver)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                text(StatusCode::FORBIDDEN, "403 Forbidden\n")
            }
            Err(_) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_pages_below_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/a<b"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("out")).unwrap();
        std::os::unix::fs::symlink("d", root.path().join("in")).unwrap();
        let show = |path: &str| match find(root.path(), path) {
            Ok(Found::Page(page)) => {
                page.lines().filter(|line| line.starts_with("<a")).collect::<Vec<_>>().join(" ")
            }
            Ok(Found::File(mut file)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                format!("file {text}")
            }
            Ok(Found::Moved) => "moved".to_owned(),
            Err(_) => "refused".to_owned(),
        };
        for (path, expected) in [
            ("", "<a href=\"d/\">d/</a> <a href=\"in\">in</a> <a href=\"out\">out</a>"),
            ("d", "moved"),
            ("d/", "<a href=\"a%3Cb\">a&lt;b</a>"),
            ("d/a<b", "file x"),
            ("in/a<b", "file x"),
            ("out/passwd", "refused"),
            ("../x", "refused"),
            ("d/../../etc/passwd", "refused"),
            ("nope", "refused"),
        ] {
            assert_eq!(show(path), expected, "{path}");
        }
    }
}
