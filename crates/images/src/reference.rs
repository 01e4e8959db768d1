//! Image references as the distribution project defines them: `[host[:port]/]path[:tag][@digest]`, with the defaults that
//! people rely on (`nginx` is `docker.io/library/nginx:latest`). Pure; knows no registry.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME_LENGTH: usize = 255;
const MAX_TAG_LENGTH: usize = 128;

/// A parsed, normalised image reference. `Display` writes the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The general case.
    #[error("invalid reference format")]
    Format,
    /// Upper case in the repository's path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Nothing but a tag or digest, or nothing at all.
    #[error("repository name must have at least one component")]
    Empty,
    /// A path of more than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// 64 hex characters would be mistaken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The part after `@` is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Host and port of the registry as the name gives it, such as `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.path
    }

    /// `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag; `latest` was filled in when neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when the reference pins one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `docker.io/library/nginx:latest`: how a tag is stored; none for a reference that pins a digest.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            _ => None,
        }
    }

    /// `docker.io/library/nginx@sha256:...`: how a digest is stored.
    pub fn digested(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// The short form that people write: `nginx:latest`.
    pub fn familiar(&self) -> String {
        let path = match self.domain.as_str() {
            DEFAULT_DOMAIN => self.path.strip_prefix(OFFICIAL_PREFIX).unwrap_or(&self.path).to_owned(),
            _ => self.name(),
        };
        path + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}"));
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}"));
        tag.unwrap_or_default() + &digest.unwrap_or_default()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.name(), self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(name);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder.as_str(), None),
        };
        check_path(path)?;
        if !is_domain(&domain) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { domain, path: path.to_owned(), tag, digest })
    }
}

/// A part before the first slash is a host only if it looks like one; else the name belongs to the default registry.
fn split_domain(name: &str) -> (String, String) {
    let (mut domain, mut remainder) = match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (first.to_owned(), rest.to_owned()),
        _ => (DEFAULT_DOMAIN.to_owned(), name.to_owned()),
    };
    if domain == LEGACY_DEFAULT_DOMAIN {
        DEFAULT_DOMAIN.clone_into(&mut domain);
    }
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') && !remainder.is_empty() {
        remainder.insert_str(0, OFFICIAL_PREFIX);
    }
    (domain, remainder)
}

fn looks_like_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.chars().any(char::is_uppercase) {
        return Err(ReferenceError::Uppercase(path.to_owned()));
    }
    if !path.split('/').all(is_path_component) {
        return Err(ReferenceError::Format);
    }
    if path.len() > MAX_NAME_LENGTH {
        return Err(ReferenceError::TooLong);
    }
    Ok(())
}

/// Runs of lower-case letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_words =
        bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    ends_are_words
        && component.split(|letter: char| letter.is_ascii() && is_word(letter as u8)).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.bytes().next().is_some_and(is_word)
        && tag.len() <= MAX_TAG_LENGTH
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_none_or(is_port) {
        return false;
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        }
        None => host.split('.').all(is_domain_component),
    }
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What does not even look like a digest makes the whole reference malformed; what does is told apart.
fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    let looks_like_one = text
        .split_once(':')
        .is_some_and(|(_, hex)| hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if looks_like_one { Ok(text.parse()?) } else { Err(ReferenceError::Format) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(input: &str, canonical: &str, familiar: &str) {
        let reference: Reference = input.parse().unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(reference.to_string(), canonical, "{input}");
        assert_eq!(reference.familiar(), familiar, "{input}");
        assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
        assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
    }

    #[test]
    fn fills_in_what_people_leave_out() {
        check("nginx", "docker.io/library/nginx:latest", "nginx:latest");
        check("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27");
        check("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest");
        check("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest");
        check("localhost/a", "localhost/a:latest", "localhost/a:latest");
        check("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c");
        check("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10");
        check("[fd00::1]:5000/a", "[fd00::1]:5000/a:latest", "[fd00::1]:5000/a:latest");
        check("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest", "a__b/c---d.e_f:latest");
        let pinned = format!("nginx@sha256:{HEX}");
        check(&pinned, &format!("docker.io/library/{pinned}"), &pinned);
        let both = format!("h:1/n:t@sha256:{HEX}");
        check(&both, &both, &both);
        check("nauplius.local/demo:1", "nauplius.local/demo:1", "nauplius.local/demo:1");
    }

    fn refuse(input: &str, message: &str) {
        assert_eq!(input.parse::<Reference>().unwrap_err().to_string(), message, "{input}");
    }

    #[test]
    fn refuses_in_upstreams_words() {
        refuse("", "repository name must have at least one component");
        refuse("Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase");
        refuse(HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"));
        refuse(
            "a/".repeat(200).trim_end_matches('/'),
            "repository name must not be more than 255 characters",
        );
        refuse(&format!("nginx@sha512:{HEX}"), "invalid checksum digest length");
        refuse(&format!("nginx@sha1:{HEX}"), "unsupported digest algorithm");
        for input in [
            "nginx:",
            "a//b",
            "-a",
            "a_",
            "a___b",
            "a..b",
            ":latest",
            "a b",
            "nginx@sha256:zz",
            "h:x/a",
            "a:b:c",
            "/a",
            "-h.io/a",
            "a/",
            "nginx:.x",
        ] {
            refuse(input, "invalid reference format");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "[a-z0-9A-Z:/@._\\-\\[\\]]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
