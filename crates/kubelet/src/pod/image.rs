//! The image of a container: there already, or pulled by its policy, with the pod's pull secrets. It records upstream's events.

use super::crash::go_millis;
use super::jobs::PodJob;
use super::launch::Failure;
use crate::pod::facts;
use crate::spec::security::ImageUser;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nauplius_base::time;
use nauplius_cri::v1;
use nauplius_kinds::api::core::Container;
use nauplius_reconcile::EventKind;

/// The registry of a name that tells none.
const DEFAULT_HOST: &str = "docker.io";

/// What is known of an image on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its id.
    pub id: String,
    /// Its user.
    pub user: ImageUser,
}

/// The name with a tag, if it has neither tag nor digest.
///
/// # Errors
/// When it is no image name.
pub fn with_tag(image: &str) -> Result<String, String> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let (path, tag) = match last.split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    let tag_ok = tag.is_none_or(|tag| {
        !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(|b| plain(b) && b != b'/' && b != b':')
    });
    let digest_ok = digest.is_none_or(|digest| digest.contains(':'));
    let ends_ok = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        edge(part.bytes().next()) && edge(part.bytes().last())
    };
    if !path.bytes().all(plain) || !path.split('/').all(ends_ok) || !tag_ok || !digest_ok {
        return Err("invalid reference format".to_owned());
    }
    let repository = repository(path);
    if has_upper_case(&repository) {
        return Err(format!("invalid reference format: repository name ({repository}) must be lowercase"));
    }
    let tagged = tag.is_some() || digest.is_some();
    Ok(if tagged { image.to_owned() } else { format!("{image}:latest") })
}

fn has_upper_case(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The name without its registry's host, as the default registry has it when there is none. A host may have upper case, a repository
/// may not: so a first part with upper case is taken for a host.
fn repository(path: &str) -> String {
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost" || has_upper_case(first);
    let (host, rest) =
        path.split_once('/').filter(|(first, _)| is_host(first)).unwrap_or((DEFAULT_HOST, path));
    let is_official = [DEFAULT_HOST, "index.docker.io"].contains(&host) && !rest.contains('/');
    if is_official { format!("library/{rest}") } else { rest.to_owned() }
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
    match (policy, present) {
        ("Never" | "IfNotPresent", Some(image)) => {
            let message = format!(
                "Container image {asked:?} already present on machine and can be accessed by the pod"
            );
            job.event(Some(&container.name), EventKind::Normal, "Pulled", message);
            Ok(image)
        }
        ("Never", None) => {
            let message = format!("Container image {asked:?} is not present with pull policy of Never");
            job.event(Some(&container.name), EventKind::Warning, "ErrImageNeverPull", message.clone());
            Err(Failure::new("ErrImageNeverPull", message))
        }
        _ => pull(job, container, &asked, &name).await,
    }
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
    let auths = credentials(job, name).await;
    let context = std::sync::Arc::clone(&job.context);
    let _turn = context.pulls.acquire().await.map_err(|error| error.to_string())?;
    let since = time::monotonic();
    let spec = v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() };
    let mut outcome = Err(String::new());
    // Without matching secrets the pull is anonymous; with several each gets a try, as upstream does.
    let tries: Vec<Option<v1::AuthConfig>> =
        if auths.is_empty() { vec![None] } else { auths.into_iter().map(Some).collect() };
    for auth in tries {
        let request = v1::PullImageRequest { image: Some(spec.clone()), auth, sandbox_config: None };
        outcome = context.images.pull_image(request).await.map_err(|error| error.to_string());
        if outcome.is_ok() {
            break;
        }
    }
    let reference = outcome?.image_ref;
    let image = v1::ImageSpec { image: reference, ..v1::ImageSpec::default() };
    let request = v1::ImageStatusRequest { image: Some(image), verbose: false };
    let status = context.images.image_status(request).await.map_err(|error| error.to_string())?;
    let image = status.image.ok_or_else(|| "the image was removed while it was pulled".to_owned())?;
    Ok((since.elapsed(), image))
}

/// The registry of a name, as credentials are filed.
fn registry(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DEFAULT_HOST,
    }
}

fn same_registry(entry: &str, registry: &str) -> bool {
    let bare = entry.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    let canonical =
        |host: &str| if host == "index.docker.io" { DEFAULT_HOST.to_owned() } else { host.to_owned() };
    canonical(host) == canonical(registry)
}

async fn credentials(job: &mut PodJob, name: &str) -> Vec<v1::AuthConfig> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let pod = std::sync::Arc::clone(&job.pod);
    for reference in facts::spec(&pod).image_pull_secrets.iter().flatten() {
        match job.followed.secret(&reference.name).await {
            Ok(Some(secret)) => {
                let data = secret.data.clone().unwrap_or_default();
                let modern = data.get(".dockerconfigjson").map(|json| auths(&json.0, true, name));
                let legacy = data.get(".dockercfg").map(|json| auths(&json.0, false, name));
                found.extend(modern.or(legacy).unwrap_or_default());
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

fn auths(json: &[u8], modern: bool, name: &str) -> Vec<v1::AuthConfig> {
    // A secret that does not hold what its type says grants nothing; the pull then says so.
    let Ok(root) = serde_json::from_slice::<serde_json::Value>(json) else { return Vec::new() };
    let entries = if modern { root.get("auths") } else { Some(&root) };
    let entries = entries.and_then(serde_json::Value::as_object).into_iter().flatten();
    entries
        .filter(|(host, _)| same_registry(host, registry(name)))
        .map(|(host, entry)| auth(host, entry))
        .collect()
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
    fn names_get_a_tag_or_a_refusal() {
        for (image, expected) in [
            ("nginx", Ok("nginx:latest")),
            ("nginx:1", Ok("nginx:1")),
            ("r.io:5000/a/b", Ok("r.io:5000/a/b:latest")),
            ("a@sha256:00", Ok("a@sha256:00")),
            ("nauplius.local/demo:1", Ok("nauplius.local/demo:1")),
            ("Nginx", Err("invalid reference format: repository name (library/Nginx) must be lowercase")),
            ("a/B", Err("invalid reference format: repository name (a/B) must be lowercase")),
            ("r.io/B:1", Err("invalid reference format: repository name (B) must be lowercase")),
            ("Host/b:1", Ok("Host/b:1")),
            ("", Err("invalid reference format")),
            ("a:", Err("invalid reference format")),
            ("a b", Err("invalid reference format")),
            ("a//b", Err("invalid reference format")),
        ] {
            assert_eq!(with_tag(image).as_deref().map_err(String::as_str), expected, "{image}");
        }
    }

    #[test]
    fn credentials_match_their_registry() {
        let json = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOmE="},"r.io:5000":{"username":"x","password":"y"}}}"#;
        let one = auths(json, true, "nginx:latest");
        assert_eq!((one[0].username.as_str(), one[0].password.as_str()), ("u", "p:a"));
        assert_eq!(auths(json, true, "r.io:5000/a")[0].username, "x");
        assert!(auths(json, true, "other.io/a").is_empty());
    }
}
