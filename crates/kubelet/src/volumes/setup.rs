//! Makes the volumes of a pod, and writes those anew whose sources changed.

use super::payload::{self, Payload};
use super::{MountFailure, atomic, place};
use crate::context::Context;
use crate::pod::facts;
use crate::sources::Followed;
use crate::spec::resources;
use nauplius_base::errno;
use nauplius_base::time::{self, Timestamp};
use nauplius_kinds::Object;
use nauplius_kinds::api::authentication::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use nauplius_kinds::api::core::{
    EmptyDirVolumeSource, HostPathVolumeSource, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection,
    Volume,
};
use nauplius_meta::quantity::Quantity;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

const DEFAULT_TOKEN_S: i64 = 3600;
const TOKEN_REFRESH_MAX_S: i64 = 24 * 3600;

/// A token and when it is exchanged.
#[derive(Debug, Clone)]
pub struct Token {
    text: String,
    refresh_at: Timestamp,
}

/// The tokens that a pod's volumes hold, by volume and path.
pub type Tokens = BTreeMap<(String, String), Token>;

/// When the next token has to be exchanged.
pub fn next_refresh(tokens: &Tokens) -> Option<Timestamp> {
    tokens.values().map(|token| token.refresh_at).min()
}

/// Makes or refreshes all volumes of a pod.
///
/// # Errors
/// The first volume that could not be made, and why.
pub async fn set_up(
    context: &Context,
    followed: &mut Followed,
    pod: &Pod,
    pod_ips: &[String],
    tokens: &mut Tokens,
) -> Result<(), MountFailure> {
    for volume in facts::spec(pod).volumes.iter().flatten() {
        let mut work = Work { context, followed, pod, pod_ips, tokens };
        work.volume(volume).await.map_err(|message| MountFailure { volume: volume.name.clone(), message })?;
    }
    Ok(())
}

struct Work<'a> {
    context: &'a Context,
    followed: &'a mut Followed,
    pod: &'a Pod,
    pod_ips: &'a [String],
    tokens: &'a mut Tokens,
}

fn text(error: io::Error) -> String {
    errno::words(&error)
}

impl Work<'_> {
    fn group(&self) -> Option<u32> {
        let context = facts::spec(self.pod).security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok() // Checked by the API server.
    }

    async fn volume(&mut self, volume: &Volume) -> Result<(), String> {
        if let Some(source) = &volume.host_path {
            return host_path(source);
        }
        let Some(directory) = place::volume(&self.context.config.root_dir, self.pod, volume) else {
            return Err(refusal(volume));
        };
        if let Some(source) = &volume.empty_dir {
            let most = memory_volume_max(self.pod, self.context.facts.allocatable_memory);
            return empty_dir(&directory, source, self.group(), most);
        }
        let payload = self.payload(volume).await?;
        let in_memory = volume.config_map.is_none();
        let group = self.group();
        let fresh = !directory.exists();
        make_directory(&directory, in_memory.then_some("")).map_err(text)?;
        if fresh && !in_memory {
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).map_err(text)?;
        }
        atomic::write(&directory, &payload, group).map_err(text)?;
        group.map_or(Ok(()), |group| atomic::own_directory(&directory, group).map_err(text))
    }

    async fn payload(&mut self, volume: &Volume) -> Result<Payload, String> {
        if let Some(source) = &volume.config_map {
            let map = self.followed.config_map(&source.name).await?;
            let optional = source.optional == Some(true);
            return payload::config_map(
                &source.name,
                map.as_deref(),
                source.items.as_ref(),
                source.default_mode,
                optional,
            );
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let secret = self.followed.secret(name).await?;
            let optional = source.optional == Some(true);
            return payload::secret(
                name,
                secret.as_deref(),
                source.items.as_ref(),
                source.default_mode,
                optional,
            );
        }
        if let Some(source) = &volume.downward_api {
            return payload::downward(
                self.pod,
                source.items.as_ref(),
                source.default_mode,
                self.pod_ips,
                &self.context.facts,
            );
        }
        match &volume.projected {
            Some(source) => self.projected(&volume.name, source).await,
            None => Err(refusal(volume)),
        }
    }

    async fn projected(&mut self, volume: &str, source: &ProjectedVolumeSource) -> Result<Payload, String> {
        let mut all = Payload::new();
        let default = source.default_mode;
        for part in source.sources.iter().flatten() {
            if let Some(part) = &part.config_map {
                let map = self.followed.config_map(&part.name).await?;
                let optional = part.optional == Some(true);
                all.extend(payload::config_map(
                    &part.name,
                    map.as_deref(),
                    part.items.as_ref(),
                    default,
                    optional,
                )?);
            } else if let Some(part) = &part.secret {
                let secret = self.followed.secret(&part.name).await?;
                let optional = part.optional == Some(true);
                all.extend(payload::secret(
                    &part.name,
                    secret.as_deref(),
                    part.items.as_ref(),
                    default,
                    optional,
                )?);
            } else if let Some(part) = &part.downward_api {
                all.extend(payload::downward(
                    self.pod,
                    part.items.as_ref(),
                    default,
                    self.pod_ips,
                    &self.context.facts,
                )?);
            } else if let Some(part) = &part.service_account_token {
                let file = self.token_file(volume, part, default).await?;
                all.insert(part.path.clone(), file);
            } else {
                return Err("this projected source is not supported by this kubelet".to_owned());
            }
        }
        Ok(all)
    }

    async fn token_file(
        &mut self,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        default: Option<i32>,
    ) -> Result<payload::File, String> {
        let key = (volume.to_owned(), source.path.clone());
        let token = match self.tokens.get(&key).filter(|token| time::now() < token.refresh_at) {
            Some(known) => known.clone(),
            None => {
                self.request_token(source).await.map_err(|error| format!("failed to fetch token: {error}"))?
            }
        };
        let user = payload::only_user(self.pod);
        let private = user.is_some() || self.group().is_some();
        let mode = if private { 0o600 } else { payload::mode(None, default) };
        let file = payload::File { data: token.text.clone().into_bytes(), mode, user };
        self.tokens.insert(key, token);
        Ok(file)
    }

    async fn request_token(&self, source: &ServiceAccountTokenProjection) -> Result<Token, String> {
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_TOKEN_S);
        let audience = source.audience.clone().filter(|audience| !audience.is_empty());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.into_iter().collect()),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(self.pod.name().to_owned()),
                    uid: Some(self.pod.uid().to_owned()),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let account =
            facts::spec(self.pod).service_account_name.clone().unwrap_or_else(|| "default".to_owned());
        let api = self.context.client.namespaced::<nauplius_kinds::ServiceAccount>(self.pod.namespace());
        let answer =
            api.post(&account, "token", request.encode()).await.map_err(|error| error.to_string())?;
        let answer = TokenRequest::decode(&answer).map_err(|error| error.to_string())?;
        let status = answer.status.unwrap_or_default();
        let text = status.token.ok_or_else(|| "the answer holds no token".to_owned())?;
        // Exchanged after four fifths of its life, or a day.
        let life_s =
            status.expiration_timestamp.map_or(seconds, |end| end.0.as_second() - time::unix_seconds());
        let wait_s = (life_s * 4 / 5).clamp(1, TOKEN_REFRESH_MAX_S);
        let refresh_at = time::now().checked_add(Duration::from_secs(wait_s.cast_unsigned()));
        Ok(Token { text, refresh_at: refresh_at.unwrap_or(Timestamp::MAX) })
    }
}

fn refusal(volume: &Volume) -> String {
    match &volume.persistent_volume_claim {
        Some(claim) => {
            format!(
                "persistentvolumeclaim {:?}: persistent volumes are not supported by this kubelet yet",
                claim.claim_name
            )
        }
        None => "this type of volume is not supported by this kubelet".to_owned(),
    }
}

/// A directory, or a file system in memory with these options.
fn make_directory(directory: &Path, memory: Option<&str>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let Some(options) = memory else { return Ok(()) };
    let parent = directory.parent().unwrap_or(directory);
    if fs::metadata(directory)?.dev() != fs::metadata(parent)?.dev() {
        return Ok(()); // Mounted before this kubelet started.
    }
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(
        "tmpfs",
        directory,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(options.as_c_str()),
    )?;
    Ok(())
}

/// A volume in memory counts as the pod's memory, and all pods' memory is what the node has for them.
fn memory_volume_max(pod: &Pod, allocatable: i64) -> i64 {
    resources::pod(pod)
        .memory_limit
        .filter(|limit| *limit > 0)
        .map_or(allocatable, |limit| limit.min(allocatable))
}

/// The options of a file system in memory. The API server has checked the limit; zero is none.
fn memory_options(source: &EmptyDirVolumeSource, most: i64) -> String {
    let own = source.size_limit.as_ref().and_then(|limit| Quantity::parse(&limit.0).ok());
    let own = own.map(|limit| limit.value()).filter(|limit| *limit > 0);
    format!("size={}", own.map_or(most, |own| own.min(most)))
}

fn empty_dir(
    directory: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
    memory_max: i64,
) -> Result<(), String> {
    let fresh = !directory.exists();
    let memory = match source.medium.as_deref().unwrap_or_default() {
        "" => None,
        "Memory" => Some(memory_options(source, memory_max)),
        medium => return Err(format!("emptyDir medium {medium:?} is not supported by this kubelet")),
    };
    make_directory(directory, memory.as_deref()).map_err(text)?;
    if !fresh {
        return Ok(());
    }
    // A file system in memory is for everyone already, with the sticky bit that the kernel gives it.
    if memory.is_none() || source.mode.is_some() {
        let mode = payload::mode(source.mode, Some(0o777));
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).map_err(text)?;
    }
    let Some(group) = group else { return Ok(()) };
    std::os::unix::fs::chown(directory, None, Some(group)).map_err(text)?;
    let mode = fs::metadata(directory).map_err(text)?.permissions().mode() & 0o7777;
    fs::set_permissions(directory, fs::Permissions::from_mode(mode | 0o2770)).map_err(text)
}

fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if !path.exists() => {
            return fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
                .map_err(text);
        }
        "FileOrCreate" if !path.exists() => return fs::File::create(path).map(drop).map_err(text),
        _ => {}
    }
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type()); // Not there is not of the type.
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let (fits, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(format!("{other:?} is an invalid volume type")),
    };
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {what}", source.path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_in_memory_are_bounded_by_limit_pod_and_node() {
        let free = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c"}]}}"#;
        let bounded = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"64Mi"}}}]}}"#;
        let source = |limit: Option<&str>| EmptyDirVolumeSource {
            size_limit: limit.map(|limit| nauplius_kinds::api::Quantity(limit.to_owned())),
            ..EmptyDirVolumeSource::default()
        };
        for (pod, limit, expected) in [
            (free, None, 1 << 30),
            (free, Some("1Mi"), 1 << 20),
            (free, Some("0"), 1 << 30),
            (bounded, None, 64 << 20),
            (bounded, Some("1Gi"), 64 << 20),
        ] {
            let most = memory_volume_max(&Pod::decode(pod.as_bytes()).unwrap(), 1 << 30);
            assert_eq!(memory_options(&source(limit), most), format!("size={expected}"), "{limit:?}");
        }
    }

    #[test]
    fn host_paths_are_of_their_type() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let check = |name: &str, type_: &str| {
            let path = root.path().join(name).display().to_string();
            host_path(&HostPathVolumeSource { path, type_: Some(type_.to_owned()) })
        };
        for (name, type_, what) in [
            ("file", "Directory", Some("a directory")),
            ("file", "File", None),
            ("file", "Socket", Some("a socket file")),
            ("file", "CharDevice", Some("a character device")),
            ("file", "BlockDevice", Some("a block device")),
            ("file", "DirectoryOrCreate", Some("a directory")),
            ("missing", "File", Some("a file")),
            ("missing", "", None),
            ("new/deep", "DirectoryOrCreate", None),
            ("new/deep", "Directory", None),
            ("made", "FileOrCreate", None),
            ("made", "File", None),
        ] {
            let path = root.path().join(name);
            let expected =
                what.map(|what| format!("hostPath type check failed: {} is not {what}", path.display()));
            assert_eq!(check(name, type_).err(), expected, "{name} {type_}");
        }
    }
}
