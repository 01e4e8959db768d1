//! `image pull` logs in at a registry with what it is given, or with what docker keeps.

use crate::cluster::Cluster;
use crate::refusals::error_of;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A registry that has nothing, and tells so only to those who log in. It keeps with what they did.
struct Registry {
    host: String,
    logins: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let logins = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&logins);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let login = answer(stream);
                kept.lock().unwrap().extend(login);
            }
        });
        Self { host, logins }
    }

    fn logins(&self) -> Vec<String> {
        std::mem::take(&mut self.logins.lock().unwrap())
    }
}

/// Answers one request, and gives the login that it brought.
fn answer(mut stream: TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        head.extend_from_slice(&buffer[..length]);
        if !head.starts_with(b"GET ") && !head.starts_with(b"HEAD ") {
            return None; // Whoever tries TLS first tries without it next.
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let login = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let (status, more, body) = match login {
        Some(_) => ("404 Not Found", "", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"none"}]}"#),
        None => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"\r\n", "{}"),
    };
    let length = body.len();
    let body = if head.starts_with("HEAD ") { "" } else { body };
    let text =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).ok()?; // Who hangs up early needs no answer.
    login
}

fn fed(mut command: Command, input: &str) -> std::process::Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_pull_logs_in_with_what_it_is_given_or_docker_keeps() {
    let cluster = Cluster::up();
    let registry = Registry::start();
    let image = format!("{}/a:1", registry.host);
    let refused = error_of(&cluster.run(&["image", "pull", &image]));
    assert!(refused.contains("may require authorization"), "{refused}");
    assert_eq!(registry.logins(), Vec::<String>::new());

    let missing = |output: &std::process::Output, login: &str| {
        let refused = error_of(output);
        assert!(refused.contains("not found"), "{refused}");
        let logins = registry.logins();
        assert!(!logins.is_empty() && logins.iter().all(|own| own == login), "{logins:?} is not {login}");
    };
    missing(&cluster.run(&["image", "pull", &image, "--creds", "u:p"]), "Basic dTpw");
    let mut command = cluster.command(&["image", "pull", &image, "--creds=u"]);
    missing(&command.env("NAUPLIUS_REGISTRY_PASSWORD", "e").output().unwrap(), "Basic dTpl");
    let command = cluster.command(&["image", "pull", &image, "--creds=u", "--password-stdin"]);
    missing(&fed(command, "s\n"), "Basic dTpz");
    let docker = cluster.scratch.path().join(".docker");
    std::fs::create_dir(&docker).unwrap();
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "dTpk"}}}}}}"#, registry.host);
    std::fs::write(docker.join("config.json"), config).unwrap();
    missing(&cluster.run(&["image", "pull", &image]), "Basic dTpk");

    let refused = error_of(&cluster.run(&["image", "pull", &image, "--creds=u"]));
    assert_eq!(
        refused,
        "nauplius: the password of u is missing: pipe it in with --password-stdin, or set NAUPLIUS_REGISTRY_PASSWORD\n"
    );
}
