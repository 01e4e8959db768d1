//! What `up`, `status` and `server` tell a person who is not at a terminal, and where `up` puts its context.

use crate::cluster::{Cluster, eventually};
use crate::terminal::Session;
use nauplius_base::time::{Timestamp, monotonic};
use regex::Regex;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

/// The stages of a start, each in one line with its time.
fn stages(told: &str) -> Vec<String> {
    let stage = |line: &str| {
        let (name, time) = line.strip_prefix("✓ ")?.strip_suffix(" s")?.rsplit_once(' ')?;
        time.parse::<f64>().is_ok().then(|| name.trim().to_owned())
    };
    told.lines().map(|line| stage(line).unwrap_or_else(|| panic!("{line:?} is no stage"))).collect()
}

/// On a terminal a stage that takes a while is a line that lives, with its time, until it ends as one that stays.
#[test]
fn a_start_on_a_terminal_shows_stages_as_they_go() {
    let cluster = Cluster::named_only();
    let mut command = cluster.command(&["up"]);
    command.env("TERM", "xterm");
    let (screen, code) = Session::start(command).end();
    assert_eq!(code, Some(0), "{screen}");
    let plain = Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]").unwrap().replace_all(&screen, "\n").into_owned();
    let of = |pattern: &str| {
        let found: Vec<String> = Regex::new(pattern)
            .unwrap()
            .captures_iter(&plain)
            .map(|captures| captures[1].trim().to_owned())
            .collect();
        found
    };
    let ended = of(r"✓ (\S.*?) +\d+\.\d\d s");
    for stage in ["Certificates", "Store", "API server", "Kubelet"] {
        assert!(ended.iter().any(|known| known == stage), "{stage} did not end: {screen:?}");
    }
    let lived = of(r"[⠁⠂⠄⡀⢀⠠⠐⠈] (\S.*?) +\d+s");
    assert!(!lived.is_empty() && lived.iter().all(|stage| ended.contains(stage)), "{lived:?} in {screen:?}");
    assert!(screen.contains("kubectl uses it now"), "{screen:?}");
}

#[test]
fn a_start_tells_its_stages_and_what_to_try_and_status_tells_all() {
    let cluster = Cluster::named_only();
    // Without KUBECONFIG it is the user's own file, whose other entries stay.
    let home = cluster.scratch.path().join("home");
    let own = home.join(".kube/config");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    let before = "apiVersion: v1\nkind: Config\ncontexts:\n- name: mine\n  context: {cluster: c, user: u}\n";
    std::fs::write(&own, before).unwrap();
    let at_home = |arguments: &[&str]| {
        let mut command = cluster.command(arguments);
        command.env_remove("KUBECONFIG").env("HOME", &home);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", cluster.log_tail());
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let [out, told] = at_home(&["up"]);
    let stages = stages(&told);
    for stage in ["Store", "API server", "Kubelet"] {
        assert!(stages.iter().any(|known| known.contains(stage)), "{stage} is not in {stages:?}");
    }
    let tries: Vec<&str> = out.lines().filter(|line| line.starts_with("  kubectl ")).collect();
    assert_eq!(tries.len(), 3, "{out}");
    assert!(out.contains(&format!("context {:?} in {}.", cluster.name, own.display())), "{out}");
    let merged = std::fs::read_to_string(&own).unwrap();
    assert!(merged.contains("name: mine") && merged.contains(&format!("name: {}", cluster.name)), "{merged}");

    let [out, _] = at_home(&["status"]);
    for part in [
        &format!("cluster     {} at https://", cluster.name) as &str,
        "Kubernetes v1.37.0",
        "server      process ",
        "memory      server ",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    for component in ["API server", "scheduler", "controllers", "kubelet", "service proxy", "cluster DNS"] {
        let line = out.lines().find(|line| line.starts_with(component));
        assert!(line.is_some_and(|line| line.contains(" healthy")), "{component} in\n{out}");
    }
    let [_, _] = at_home(&["delete"]);
    let left = std::fs::read_to_string(&own).unwrap();
    assert!(left.contains("name: mine") && !left.contains(&cluster.name), "{left}");
}

/// A service manager starts it, reads its log and ends it by a signal.
#[test]
fn a_server_in_the_foreground_logs_json() {
    let cluster = Cluster::named_only();
    let mut command = cluster.command(&["server", "--log-format=json"]);
    let log = cluster.scratch.path().join("log");
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut server = command.spawn().unwrap();
    eventually("a server that works", || {
        let components = cluster.status()["components"].as_array().cloned().unwrap_or_default();
        let all = components.iter().all(|component| component["healthy"] == true);
        (all && !components.is_empty()).then_some(())
    });
    // SAFETY: a signal to a process of our own.
    assert_eq!(unsafe { libc::kill(i32::try_from(server.id()).unwrap(), libc::SIGTERM) }, 0);
    let asked = monotonic();
    assert!(server.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(60));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.is_empty());
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["timestamp"].as_str().is_some_and(|time| time.parse::<Timestamp>().is_ok()), "{line}");
        assert!(entry["level"].is_string() && entry["fields"]["message"].is_string(), "{line}");
    }
}
