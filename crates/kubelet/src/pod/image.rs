//! The image of a container: there already, or pulled by its policy, with the pod's pull secrets. It records upstream's events.

use super::crash::go_millis;
use super::jobs::PodJob;
use super::launch::Failure;
use crate::image_name::{same_registry, with_tag};
use crate::pod::facts;
use crate::pull_records::{PullRecords, PullSecret, PulledWith, credential_hash};
use crate::spec::security::ImageUser;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nauplius_base::{errno, time};
use nauplius_cri::{ImageService, v1};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Secret};
use nauplius_reconcile::EventKind;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// What is known of an image on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its id.
    pub id: String,
    /// Its user.
    pub user: ImageUser,
}

/// Makes sure that the image is there.
///
/// # Errors
/// Reason and words for the container's waiting state.
pub async fn ensure(job: &mut PodJob, container: &Container) -> Result<Ready, Failure> {
    let asked = container.image.clone().unwrap_or_default();
    let name = with_tag(&asked).map_err(|error| {
        let message = format!(
            "Failed to apply default image tag {asked:?}: couldn't parse image name {asked:?}: {error}"
        );
        job.event(Some(&container.name), EventKind::Warning, "InspectFailed", message.clone());
        Failure::new("InvalidImageName", message)
    })?;
    let present = inspect(job, &name).await.map_err(|error| {
        let message = format!("Failed to inspect image {asked:?}: {error}");
        job.event(Some(&container.name), EventKind::Warning, "InspectFailed", message.clone());
        Failure::new("ImageInspectError", message)
    })?;
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    // A pod may have what is there if somebody with its secrets, or without any, pulled it.
    let own = match present {
        Some(image) if policy != "Always" && !must_pull(job, &name, &image.id).await => Some(image),
        _ => None,
    };
    if let Some(image) = own {
        let message =
            format!("Container image {asked:?} already present on machine and can be accessed by the pod");
        job.event(Some(&container.name), EventKind::Normal, "Pulled", message);
        return Ok(image);
    }
    if policy == "Never" {
        let message = format!("Container image {asked:?} is not present with pull policy of Never");
        job.event(Some(&container.name), EventKind::Warning, "ErrImageNeverPull", message.clone());
        return Err(Failure::new("ErrImageNeverPull", message));
    }
    pull(job, container, &asked, &name).await
}

/// Secrets are only looked up when it depends on them.
async fn must_pull(job: &mut PodJob, name: &str, id: &str) -> bool {
    if let Some(known) = ask_records(job, name, id, None).await {
        return known;
    }
    let secrets = credentials(job, name).await.into_iter().map(|credentials| credentials.source).collect();
    ask_records(job, name, id, Some(secrets)).await.unwrap_or(true)
}

/// A record may be written: that waits for the disk on a thread of its own.
async fn ask_records(job: &PodJob, name: &str, id: &str, secrets: Option<Vec<PullSecret>>) -> Option<bool> {
    let (records, name, id) = (Arc::clone(&job.context.pull_records), name.to_owned(), id.to_owned());
    let asked = spawn_blocking(move || records.must_pull(&name, &id, secrets.as_deref()));
    // A thread that failed knows nothing.
    asked.await.unwrap_or(Some(true))
}

async fn inspect(job: &PodJob, name: &str) -> Result<Option<Ready>, nauplius_cri::CriError> {
    let image = v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() };
    let request = v1::ImageStatusRequest { image: Some(image), verbose: false };
    let answer = job.context.images.image_status(request).await?;
    Ok(answer.image.map(|image| Ready {
        id: image.id,
        user: ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username },
    }))
}

async fn pull(job: &mut PodJob, container: &Container, asked: &str, name: &str) -> Result<Ready, Failure> {
    job.event(Some(&container.name), EventKind::Normal, "Pulling", format!("Pulling image {asked:?}"));
    let since = time::monotonic();
    let interrupt = job.interrupt.clone();
    let Some(outcome) = interrupt.run_until_cancelled(pull_in_turn(job, name)).await else {
        return Err(Failure::new("ErrImagePull", "the pod is being deleted".to_owned()));
    };
    let (spent, image) = match outcome {
        Ok(pulled) => pulled,
        Err(message) => {
            let text = format!("Failed to pull image {asked:?}: {message}");
            job.event(Some(&container.name), EventKind::Warning, "Failed", text);
            return Err(Failure { pull: true, ..Failure::new("ErrImagePull", message) });
        }
    };
    let message = format!(
        "Successfully pulled image {asked:?} in {} ({} including waiting). Image size: {} bytes.",
        go_millis(spent),
        go_millis(since.elapsed()),
        image.size
    );
    job.event(Some(&container.name), EventKind::Normal, "Pulled", message);
    Ok(Ready { id: image.id, user: ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username } })
}

/// One pull at a time on this node.
async fn pull_in_turn(job: &mut PodJob, name: &str) -> Result<(std::time::Duration, v1::Image), String> {
    let credentials = credentials(job, name).await;
    let context = Arc::clone(&job.context);
    let _turn = context.pulls.acquire().await.map_err(|error| error.to_string())?;
    let since = time::monotonic();
    let begun = Begun::new(&context.pull_records, name).await?;
    let (source, image) = try_each(&*context.images, name, credentials).await?;
    begun.succeeded(image.id.clone(), source).await;
    Ok((since.elapsed(), image))
}

/// A pull that was noted; unless it succeeds it has failed, also when nobody waits for it any more.
struct Begun {
    records: Arc<PullRecords>,
    name: String,
    succeeded: bool,
}

impl Begun {
    async fn new(records: &Arc<PullRecords>, name: &str) -> Result<Self, String> {
        let (begun, image) = (Arc::clone(records), name.to_owned());
        let noted = spawn_blocking(move || begun.begin(&image)).await.map_err(std::io::Error::other);
        noted
            .flatten()
            .map_err(|error| format!("failed to record image pull intent: {}", errno::words(&error)))?;
        Ok(Self { records: Arc::clone(records), name: name.to_owned(), succeeded: false })
    }

    async fn succeeded(mut self, id: String, source: Option<PullSecret>) {
        self.succeeded = true;
        let (records, name) = (Arc::clone(&self.records), self.name.clone());
        let noting = spawn_blocking(move || {
            records.succeeded(&name, &id, source.as_ref().map_or(PulledWith::Nothing, PulledWith::Secret));
        });
        if let Err(error) = noting.await {
            // Then the pull stays begun, and who wants the image next has to ask the registry.
            tracing::warn!(image = self.name, %error, "who pulled an image could not be noted");
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // At the end of the process there is no runtime any more, and the pull stays begun.
        if let Some(runtime) = Handle::try_current().ok().filter(|_| !self.succeeded) {
            let (records, name) = (Arc::clone(&self.records), std::mem::take(&mut self.name));
            runtime.spawn_blocking(move || records.failed(&name));
        }
    }
}

/// Without matching secrets the pull is anonymous; with several each gets a try, as upstream does.
async fn try_each(
    images: &dyn ImageService,
    name: &str,
    credentials: Vec<Credentials>,
) -> Result<(Option<PullSecret>, v1::Image), String> {
    let spec = v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() };
    let mut tries: Vec<Option<Credentials>> = credentials.into_iter().map(Some).collect();
    if tries.is_empty() {
        tries.push(None);
    }
    let mut outcome = Err(None);
    for credentials in tries {
        let (auth, source) = credentials.map(|one| (one.auth, one.source)).unzip();
        let request = v1::PullImageRequest { image: Some(spec.clone()), auth, sandbox_config: None };
        outcome = images.pull_image(request).await.map(|pulled| (source, pulled.image_ref)).map_err(Some);
        if outcome.is_ok() {
            break;
        }
    }
    let (source, reference) =
        outcome.map_err(|error| error.map_or_else(String::new, |error| error.to_string()))?;
    let image = v1::ImageSpec { image: reference, ..v1::ImageSpec::default() };
    let request = v1::ImageStatusRequest { image: Some(image), verbose: false };
    let status = images.image_status(request).await.map_err(|error| error.to_string())?;
    let image = status.image.ok_or_else(|| "the image was removed while it was pulled".to_owned())?;
    Ok((source, image))
}

/// What a registry is told, and the secret that it is from.
struct Credentials {
    auth: v1::AuthConfig,
    source: PullSecret,
}

async fn credentials(job: &mut PodJob, name: &str) -> Vec<Credentials> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let pod = Arc::clone(&job.pod);
    for reference in facts::spec(&pod).image_pull_secrets.iter().flatten() {
        match job.followed.secret(&reference.name).await {
            Ok(Some(secret)) => {
                let data = secret.data.clone().unwrap_or_default();
                let modern = data.get(".dockerconfigjson").map(|json| auths(&json.0, true, name));
                let legacy = data.get(".dockercfg").map(|json| auths(&json.0, false, name));
                let all = modern.or(legacy).unwrap_or_default().into_iter();
                found.extend(all.map(|auth| Credentials { source: source(&secret, &auth), auth }));
            }
            _ => missing.push(reference.name.clone()),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        job.event(None, EventKind::Warning, "FailedToRetrieveImagePullSecret", message);
    }
    found
}

fn source(secret: &Secret, auth: &v1::AuthConfig) -> PullSecret {
    PullSecret {
        uid: secret.uid().to_owned(),
        namespace: secret.namespace().to_owned(),
        name: secret.name().to_owned(),
        credential_hash: credential_hash(&[&auth.username, &auth.password, &auth.server_address]),
    }
}

fn auths(json: &[u8], modern: bool, name: &str) -> Vec<v1::AuthConfig> {
    // A secret that does not hold what its type says grants nothing; the pull then says so.
    let Ok(root) = serde_json::from_slice::<serde_json::Value>(json) else { return Vec::new() };
    let entries = if modern { root.get("auths") } else { Some(&root) };
    let entries = entries.and_then(serde_json::Value::as_object).into_iter().flatten();
    entries.filter(|(host, _)| same_registry(host, name)).map(|(host, entry)| auth(host, entry)).collect()
}

fn auth(host: &str, entry: &serde_json::Value) -> v1::AuthConfig {
    let text = |key: &str| entry.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok()); // As above.
    if let Some((user, secret)) = decoded.as_deref().and_then(|pair| pair.split_once(':'))
        && username.is_empty()
    {
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    v1::AuthConfig { username, password, server_address: host.to_owned(), ..v1::AuthConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_match_their_registry() {
        let json = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOmE="},"r.io:5000":{"username":"x","password":"y"}}}"#;
        let one = auths(json, true, "nginx:latest");
        assert_eq!((one[0].username.as_str(), one[0].password.as_str()), ("u", "p:a"));
        assert_eq!(auths(json, true, "r.io:5000/a")[0].username, "x");
        assert!(auths(json, true, "other.io/a").is_empty());
    }
}
