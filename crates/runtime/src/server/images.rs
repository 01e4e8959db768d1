//! CRI's image service over the image store. It must not know how images are fetched or stored.

use super::containers::image_error;
use super::{Inner, blocking};
use nauplius_base::time;
use nauplius_cri::{CriError, v1};
use nauplius_images::{Auth, Image, ImageError, Reference};
use std::collections::BTreeMap;
use std::sync::Arc;

/// No registry has this name.
const MADE_HERE: &str = "nauplius.local/";

/// An image as CRI shows it.
fn image(image: Image) -> v1::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok(); // Not a number: a name.
    // Whatever is made on this machine cannot be pulled again: it stays when room is made.
    let pinned = image.repo_tags.iter().any(|tag| tag.starts_with(MADE_HERE));
    v1::Image {
        id: image.id,
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        // CRI wants a size above zero.
        size: image.size_bytes.max(1),
        uid: uid.map(|value| v1::Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: None,
        pinned,
    }
}

impl Inner {
    /// `ListImages`.
    pub(crate) fn list_images(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let wanted = filter.and_then(|filter| filter.image).map(|image| image.image).unwrap_or_default();
        if wanted.is_empty() {
            return self.images.list().into_iter().map(image).collect();
        }
        self.images.get(&wanted).map(image).into_iter().collect()
    }

    /// `ImageStatus`.
    pub(crate) async fn image_status(
        &self,
        request: v1::ImageStatusRequest,
    ) -> Result<v1::ImageStatusResponse, CriError> {
        let name = request.image.unwrap_or_default().image;
        let found = match self.images.find(&name) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(v1::ImageStatusResponse::default()),
            Err(error) => return Err(image_error(&error)),
        };
        let mut info = BTreeMap::new();
        if request.verbose {
            let config = self.images.raw_config(&found.id).await.map_err(|error| image_error(&error))?;
            info.insert("info".to_owned(), String::from_utf8_lossy(&config).into_owned());
        }
        Ok(v1::ImageStatusResponse { image: Some(image(found)), info })
    }

    /// `PullImage`.
    pub(crate) async fn pull_image(&self, request: v1::PullImageRequest) -> Result<String, CriError> {
        let name = request.image.unwrap_or_default().image;
        let reference: Reference = name.parse().map_err(|cause| {
            CriError::invalid(ImageError::InvalidReference { name: name.clone(), cause }.to_string())
        })?;
        let auth = request.auth.map(credentials).transpose()?.flatten();
        let pulled = self.images.pull(&reference, auth.as_ref(), &self.registries, |_| {}).await;
        pulled.map(|image| image.id).map_err(|error| pull_error(&error, &reference))
    }

    /// `RemoveImage`.
    pub(crate) async fn remove_image(&self, request: v1::RemoveImageRequest) -> Result<(), CriError> {
        let name = request.image.unwrap_or_default().image;
        match self.images.remove(&name).await {
            Err(error) if !error.is_not_found() => Err(image_error(&error)),
            _ => Ok(()),
        }
    }

    /// `ImageFsInfo`.
    pub(crate) async fn image_fs_info(self: &Arc<Self>) -> Result<v1::ImageFsInfoResponse, CriError> {
        let now = time::unix_nanos();
        let entry = |path: &std::path::Path, bytes, inodes| v1::FilesystemUsage {
            timestamp: now,
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: path.display().to_string() }),
            used_bytes: Some(v1::UInt64Value { value: bytes }),
            inodes_used: Some(v1::UInt64Value { value: inodes }),
        };
        let used = self.images.usage();
        let containers = self.options.state_dir.join("containers");
        let measured = containers.clone();
        let (bytes, inodes) = blocking(move || Ok(super::stats::disk_usage(&measured))).await?;
        Ok(v1::ImageFsInfoResponse {
            image_filesystems: vec![entry(&self.options.state_dir, used.bytes, used.inodes)],
            container_filesystems: vec![entry(&containers, bytes, inodes)],
        })
    }
}

/// CRI's credentials for a registry; `None` when it names none.
fn credentials(auth: v1::AuthConfig) -> Result<Option<Auth>, CriError> {
    if !auth.registry_token.is_empty() {
        return Ok(Some(Auth::RegistryToken(auth.registry_token)));
    }
    if !auth.identity_token.is_empty() {
        return Ok(Some(Auth::IdentityToken(auth.identity_token)));
    }
    if !auth.username.is_empty() {
        return Ok(Some(Auth::Basic { username: auth.username, password: auth.password }));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let malformed =
        || CriError::invalid("the auth field of the registry credentials is not base64 of user:password");
    let text =
        String::from_utf8(decode_base64(&auth.auth).ok_or_else(malformed)?).map_err(|_| malformed())?;
    let (username, password) = text.split_once(':').ok_or_else(malformed)?;
    Ok(Some(Auth::Basic {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

/// As [`image_error`], with containerd's words for a pull.
fn pull_error(error: &ImageError, reference: &Reference) -> CriError {
    CriError::new(image_error(error).code, error.of_pull(reference))
}

/// Standard base64 with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8); // The eight highest of the collected bits.
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_four_forms() {
        let basic = |auth: v1::AuthConfig| match credentials(auth).unwrap() {
            Some(Auth::Basic { username, password }) => (username, password),
            _ => panic!("not basic"),
        };
        let expected = ("user".to_owned(), "pass:word".to_owned());
        let auth = v1::AuthConfig { auth: "dXNlcjpwYXNzOndvcmQ=".to_owned(), ..Default::default() };
        assert_eq!(basic(auth), expected);
        let named =
            v1::AuthConfig { username: "user".into(), password: "pass:word".into(), ..Default::default() };
        assert_eq!(basic(named), expected);
        assert!(credentials(v1::AuthConfig { auth: "?".into(), ..Default::default() }).is_err());
        assert!(credentials(v1::AuthConfig::default()).unwrap().is_none());
    }
}
