//! With what `image pull` logs in at a registry: what the user gives with the command, else what docker's `config.json` of the user
//! holds. Secrets come from standard input or the environment rather than the command line, which everybody on the machine can read.

use crate::failure::{Doing, Failure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nauplius_images::{Auth, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the password may be.
const PASSWORD_VARIABLE: &str = "NAUPLIUS_REGISTRY_PASSWORD";
const PASSWORD_MAX: u64 = 64 * 1024;
const DOCKER_DOMAIN: &str = "docker.io";
/// What docker files its own registry under.
const DOCKER_ADDRESS: &str = "https://index.docker.io/v1/";
/// A helper's name for a user that has a token instead of a password.
const TOKEN_USER: &str = "<token>";

/// Credentials on their way to the server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// A user and a password.
    User {
        /// The user.
        name: String,
        /// The password.
        password: String,
    },
    /// A refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Login(..)")
    }
}

impl From<Login> for Auth {
    fn from(login: Login) -> Self {
        match login {
            Login::User { name, password } => Self::Basic { username: name, password },
            Login::IdentityToken(token) => Self::IdentityToken(token),
        }
    }
}

/// What the command was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct LoginArgs {
    /// Log in as USER, with this password, or that of standard input (`--password-stdin`), or of the environment
    /// (`NAUPLIUS_REGISTRY_PASSWORD`). Without it docker's config.json is asked.
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub creds: Option<String>,
    /// Read the password of `--creds USER` from standard input.
    #[arg(long, requires = "creds")]
    pub password_stdin: bool,
}

/// The login for this reference; `None` to ask without.
///
/// # Errors
/// What is missing or cannot be read.
pub fn find(args: &LoginArgs, image: &str) -> Result<Option<Login>, Failure> {
    let reference: Reference = image.parse().doing(&format!("pull {image:?}"))?;
    if let Some(given) = &args.creds {
        return given_login(given, args.password_stdin).map(Some);
    }
    match docker_config() {
        Some(path) => of_docker(&path, reference.domain()),
        None => Ok(None),
    }
}

fn given_login(given: &str, from_stdin: bool) -> Result<Login, Failure> {
    let (name, password) = match given.split_once(':') {
        Some((name, password)) => (name, Some(password.to_owned())),
        None => (given, None),
    };
    if name.is_empty() {
        return Err(Failure::new("--creds takes USER or USER:PASSWORD"));
    }
    if from_stdin && password.is_some() {
        return Err(Failure::new("--password-stdin and a password in --creds are one too many"));
    }
    let password = match password {
        Some(password) => password,
        None if from_stdin => typed_password()?,
        None => std::env::var(PASSWORD_VARIABLE).map_err(|_| {
            Failure::new(format!(
                "the password of {name} is missing: pipe it in with --password-stdin, or set {PASSWORD_VARIABLE}"
            ))
        })?,
    };
    Ok(Login::User { name: name.to_owned(), password })
}

/// All of standard input but the end of its line.
fn typed_password() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(
            "--password-stdin reads from a pipe: `nauplius image pull ... --password-stdin < FILE`",
        ));
    }
    let mut text = String::new();
    stdin.lock().take(PASSWORD_MAX).read_to_string(&mut text).doing("read the password")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
fn docker_config() -> Option<PathBuf> {
    let directory = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    directory.or_else(home).map(|directory| directory.join("config.json"))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

fn of_docker(path: &Path, domain: &str) -> Result<Option<Login>, Failure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("cannot read", path, &error)),
    };
    let config: Config = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("{} is no config of docker's: {error}", path.display())))?;
    let here = |key: &&String| same_registry(key, domain);
    if let Some(helper) = config.cred_helpers.keys().find(here).and_then(|key| config.cred_helpers.get(key)) {
        return ask_helper(helper, domain);
    }
    let entry = config.auths.iter().find(|(key, _)| same_registry(key, domain)).map(|(_, entry)| entry);
    match entry.map(|entry| login_of(entry, path, domain)).transpose()?.flatten() {
        Some(login) => Ok(Some(login)),
        // The store of all that is not said elsewhere holds nothing for registries that nobody logged in at.
        None if entry.is_some() && !config.creds_store.is_empty() => ask_helper(&config.creds_store, domain),
        None => Ok(None),
    }
}

fn login_of(entry: &Entry, path: &Path, domain: &str) -> Result<Option<Login>, Failure> {
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Login::IdentityToken(entry.identitytoken.clone())));
    }
    if !entry.username.is_empty() {
        return Ok(Some(Login::User { name: entry.username.clone(), password: entry.password.clone() }));
    }
    if entry.auth.is_empty() {
        return Ok(None);
    }
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok()); // Told below.
    let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
    let (name, password) = pair.ok_or_else(|| {
        Failure::new(format!("{}: auths: {domain}: auth is not base64 of USER:PASSWORD", path.display()))
    })?;
    Ok(Some(Login::User { name: name.to_owned(), password: password.to_owned() }))
}

/// Whether an entry of docker's config is about the registry of references with this domain.
fn same_registry(entry: &str, domain: &str) -> bool {
    let bare = entry.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    let canonical = |host: &str| match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_DOMAIN.to_owned(),
        host => host.to_owned(),
    };
    canonical(host) == canonical(domain)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// Asks docker's helper program; one that knows nothing of the registry says so by failing.
fn ask_helper(name: &str, domain: &str) -> Result<Option<Login>, Failure> {
    let program = format!("docker-credential-{name}");
    let address = if domain == DOCKER_DOMAIN { DOCKER_ADDRESS } else { domain };
    let output = run(&program, address).map_err(|error| {
        let advice = "give --creds, or take it out of docker's config.json";
        Failure::new(format!(
            "credentials of {domain} are with {program}, which cannot be run: {error}; {advice}"
        ))
    })?;
    if !output.status.success() {
        return Ok(None);
    }
    let helped: Helped = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("{program} answered what we do not understand: {error}")))?;
    Ok(Some(match helped.username.as_str() {
        TOKEN_USER => Login::IdentityToken(helped.secret),
        _ => Login::User { name: helped.username, password: helped.secret },
    }))
}

fn run(program: &str, input: &str) -> std::io::Result<std::process::Output> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: &str) -> Login {
        Login::User { name: name.to_owned(), password: password.to_owned() }
    }

    fn check(config: &str, domain: &str, expected: Result<Option<Login>, &str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let found = of_docker(file.path(), domain);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{config}"),
            (Err(failure), Err(part)) => {
                let text = failure.to_string();
                assert!(text.contains(part) && !text.contains('\n'), "{text}");
            }
            (found, expected) => panic!("{config}: {found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn docker_keeps_logins_by_registry() {
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOmE="}, "r.io:5000": {"username": "x", "password": "y"}}}"#;
        check(hub, "docker.io", Ok(Some(user("u", "p:a"))));
        check(hub, "r.io:5000", Ok(Some(user("x", "y"))));
        check(hub, "r.io", Ok(None));
        check("{}", "r.io", Ok(None));
        let token = r#"{"auths": {"r.io": {"auth": "", "identitytoken": "t"}}}"#;
        check(token, "r.io", Ok(Some(Login::IdentityToken("t".to_owned()))));
        check(
            r#"{"auths": {"r.io": {"auth": "!"}}}"#,
            "r.io",
            Err("r.io: auth is not base64 of USER:PASSWORD"),
        );
        check("x", "r.io", Err("is no config of docker's"));
        let helped = r#"{"credHelpers": {"r.io": "nobody-has-this"}}"#;
        check(helped, "r.io", Err("are with docker-credential-nobody-has-this, which cannot be run"));
        check(helped, "other.io", Ok(None));
        check(r#"{"credsStore": "nobody-has-this"}"#, "r.io", Ok(None));
        check(r#"{"auths": {"r.io": {}}, "credsStore": "nobody-has-this"}"#, "r.io", Err("cannot be run"));
        assert_eq!(of_docker(Path::new("/nowhere/config.json"), "r.io").unwrap(), None);
    }

    #[test]
    fn what_is_given_has_a_user_and_one_password() {
        assert_eq!(given_login("u:p:q", false).unwrap(), user("u", "p:q"));
        assert!(given_login(":p", false).unwrap_err().to_string().contains("USER or USER:PASSWORD"));
        assert!(given_login("u:p", true).unwrap_err().to_string().contains("one too many"));
        assert_eq!(format!("{:?}", user("u", "secret")), "Login(..)");
    }
}
