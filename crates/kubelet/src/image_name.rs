//! Names of images as people write them: the tag that is meant when there is none, and the registry.

/// The registry of a name that tells none.
const DEFAULT_HOST: &str = "docker.io";

/// A name in its parts. Nothing is checked.
struct Parts<'a> {
    /// Registry and repository.
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(image: &'a str) -> Self {
        let (name, digest) =
            image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
        let last = name.rsplit('/').next().unwrap_or(name);
        match last.split_once(':') {
            Some((_, tag)) => Self { path: &name[..name.len() - tag.len() - 1], tag: Some(tag), digest },
            None => Self { path: name, tag: None, digest },
        }
    }
}

/// The name with a tag, if it has neither tag nor digest.
///
/// # Errors
/// When it is no image name.
pub fn with_tag(image: &str) -> Result<String, String> {
    let Parts { path, tag, digest } = Parts::of(image);
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
    let (_, repository) = host_and_repository(path);
    if has_upper_case(&repository) {
        return Err(format!("invalid reference format: repository name ({repository}) must be lowercase"));
    }
    let tagged = tag.is_some() || digest.is_some();
    Ok(if tagged { image.to_owned() } else { format!("{image}:latest") })
}

fn has_upper_case(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A name without tag and digest: its registry's host, and the repository there, as the default registry has it when no host is told. A
/// host may have upper case, a repository may not: so a first part with upper case is taken for a host.
fn host_and_repository(path: &str) -> (&str, String) {
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost" || has_upper_case(first);
    let (host, rest) =
        path.split_once('/').filter(|(first, _)| is_host(first)).unwrap_or((DEFAULT_HOST, path));
    let host = canonical(host);
    let is_official = host == DEFAULT_HOST && !rest.contains('/');
    (host, if is_official { format!("library/{rest}") } else { rest.to_owned() })
}

/// The host of the registry that an image comes from, and its repository there, without tag and digest.
pub fn split(image: &str) -> (&str, String) {
    host_and_repository(Parts::of(image).path)
}

/// Whether `entry`, under which credentials are filed, is the registry of the image `name`.
pub fn same_registry(entry: &str, name: &str) -> bool {
    let bare = entry.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    canonical(host) == split(name).0
}

fn canonical(host: &str) -> &str {
    if host == "index.docker.io" { DEFAULT_HOST } else { host }
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
    fn a_name_is_of_a_registry_and_a_repository() {
        for (image, host, repository) in [
            ("app:1", "docker.io", "library/app"),
            ("index.docker.io/app", "docker.io", "library/app"),
            ("me/app@sha256:00", "docker.io", "me/app"),
            ("r.io:5000/a/b:1@sha256:00", "r.io:5000", "a/b"),
            ("localhost/a", "localhost", "a"),
        ] {
            assert_eq!(split(image), (host, repository.to_owned()), "{image}");
        }
    }
}
