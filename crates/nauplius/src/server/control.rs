//! The server's end of the control socket.

use super::addons::AddOns;
use super::health::Health;
use super::node::Node;
use super::{Site, Stop};
use crate::control::{Answer, Ask, ImageRow, LINE_MAX};
use crate::failure::Failure;
use crate::storage::Opened;
use nauplius_base::errno;
use nauplius_base::task::{CancellationToken, Group, spawn};
use nauplius_images::{Auth, Reference};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Listens until the shutdown.
///
/// # Errors
/// When the socket cannot be made.
pub fn start(site: &Site, door: Door, group: &Group) -> Result<(), Failure> {
    let path = site.cluster.control_socket();
    crate::cluster::remove_file(&path)?;
    let failed = |error: std::io::Error| Failure::io("cannot listen on", &path, &error);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    group.spawn("control socket", listen(listener, Arc::new(door), group.token()));
    Ok(())
}

/// What can be asked, and whom.
pub struct Door {
    /// How everything is.
    pub health: Arc<Health>,
    /// What a bare cluster is given first.
    pub addons: AddOns,
    /// Containers and images.
    pub node: Node,
    /// The store.
    pub store: Opened,
    /// Whoever ends the server.
    pub stop: mpsc::Sender<Stop>,
}

async fn listen(
    listener: UnixListener,
    door: Arc<Door>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let door = Arc::clone(&door);
                spawn("control", async move {
                    if let Err(error) = door.serve(stream).await {
                        tracing::debug!(%error, "a control connection broke");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection could not be accepted");
                nauplius_base::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

impl Door {
    async fn serve(&self, stream: UnixStream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut line = String::new();
        BufReader::new(reader).take(LINE_MAX).read_line(&mut line).await?;
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(question) => self.answer(question).await,
            Err(error) => Answer::Failed(format!("not understood: {error}")),
        };
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        writer.write_all(&bytes).await
    }

    async fn answer(&self, question: Ask) -> Answer {
        let outcome = match question {
            Ask::Status => return Answer::Status(Box::new(self.health.status().await)),
            Ask::Stop { containers } => {
                let (how, within_s) = match containers {
                    true => (Stop::WithContainers, self.node.longest_grace_s().await),
                    false => (Stop::LeaveContainers, 0),
                };
                return match self.stop.send(how).await {
                    Ok(()) => Answer::Stopping { within_s },
                    Err(_) => Answer::Failed("the server stops already".to_owned()),
                };
            }
            Ask::Mend => return self.mend().await.unwrap_or_else(Answer::Failed),
            Ask::Backup { file } => self.store.backup(&file).await.map_err(|failure| failure.to_string()),
            Ask::StoreCheck => self.store.check().await.map_err(|failure| failure.to_string()),
            Ask::ImageList => return Answer::Images(self.images()),
            Ask::ImageLoad { archive } => {
                let loaded = self.node.images().load_archive(&archive).await;
                loaded
                    .map(|images| images.into_iter().flat_map(|image| image.repo_tags).collect())
                    .map_err(|error| error.to_string())
            }
            Ask::ImageRemove { image } => self.remove(image).await,
            Ask::ImagePull { image, login } => self.pull(&image, login.map(Auth::from)).await,
        };
        outcome.map_or_else(|reason| Answer::Failed(errno::plain(&reason)), Answer::Done)
    }

    fn images(&self) -> Vec<ImageRow> {
        let row = |image: nauplius_images::Image| ImageRow {
            tags: image.repo_tags,
            id: image.id,
            size_bytes: image.size_bytes,
        };
        self.node.images().list().into_iter().map(row).collect()
    }

    /// What was mended, and what only a new start mends.
    async fn mend(&self) -> Result<Answer, String> {
        let built =
            crate::demo_image::ensure(self.node.images()).await.map_err(|failure| failure.to_string())?;
        let mut made =
            if built { vec![format!("demo image {}", crate::demo_image::REFERENCE)] } else { Vec::new() };
        made.extend(self.addons.mend().await.map_err(|error| error.to_string())?);
        let is_registered = self.health.is_registered().await.map_err(|error| error.to_string())?;
        let lost = (!is_registered).then(|| format!("node {}", self.health.node_name()));
        Ok(Answer::Mended { made, lost })
    }

    /// A pod whose image is gone could not be restarted.
    async fn remove(&self, image: String) -> Result<Vec<String>, String> {
        let id = self.node.images().find(&image).map_err(|error| error.to_string())?.id;
        let users = self.node.pods_with(&id).await.map_err(|error| error.to_string())?;
        if let Some(first) = users.first() {
            let more = match users.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            return Err(format!("image {image} is in use by pod {first}{more}: delete what uses it first"));
        }
        self.node.images().remove(&image).await.map_err(|error| error.to_string())?;
        Ok(vec![image])
    }

    async fn pull(&self, image: &str, auth: Option<Auth>) -> Result<Vec<String>, String> {
        let reference: Reference =
            image.parse().map_err(|error: nauplius_images::ReferenceError| error.to_string())?;
        let pulled = self.node.images().pull(&reference, auth.as_ref(), self.node.registries(), |_| {}).await;
        pulled.map(|image| vec![image.id]).map_err(|error| error.of_pull(&reference))
    }
}
