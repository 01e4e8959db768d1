//! The transcript of the quick start, run by stock kubectl and compared with goldens in upstream's wording. A golden is written
//! anew with `NAUPLIUS_UPDATE_GOLDEN=1`, and read before it is committed.

use crate::cluster::{Cluster, eventually};
use crate::kubectl::{self, Kubectl};
use crate::normal::{Own, normal};
use crate::terminal::Session;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

const IMAGE: &str = "--image=nauplius.local/demo:1";

/// Records what commands print.
struct Transcript<'a> {
    kubectl: Kubectl<'a>,
    own: Own,
    text: String,
}

impl Transcript<'_> {
    /// Runs a command, which may fail, and records its output.
    fn run(&mut self, arguments: &[&str]) {
        let output = self.kubectl.run(arguments);
        self.record(arguments, &output.stdout, &output.stderr, output.status.code());
    }

    fn record(&mut self, arguments: &[&str], out: &[u8], error: &[u8], code: Option<i32>) {
        writeln!(self.text, "$ kubectl {}", arguments.join(" ")).unwrap();
        for part in [out, error] {
            self.text.push_str(&normal(&String::from_utf8_lossy(part), &self.own));
        }
        if code != Some(0) {
            writeln!(self.text, "[exit {}]", code.unwrap_or(-1)).unwrap();
        }
        self.text.push('\n');
    }

    /// Runs a command whose output has no fixed order, and records its sorted lines.
    fn sorted(&mut self, arguments: &[&str]) {
        let output = self.kubectl.run(arguments);
        let text = normal(&String::from_utf8_lossy(&output.stdout), &self.own);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let text = lines.join("\n") + "\n";
        self.record(arguments, text.as_bytes(), &output.stderr, output.status.code());
    }

    /// Runs a command of whose output only the lines that begin with one of these words are recorded: the rest grows with what is
    /// served.
    fn picked(&mut self, arguments: &[&str], words: &[&str]) {
        let output = self.kubectl.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_picked =
            |line: &&str| line.split_whitespace().next().is_some_and(|first| words.contains(&first));
        let lines: Vec<&str> = text.lines().filter(is_picked).collect();
        self.record(arguments, (lines.join("\n") + "\n").as_bytes(), &output.stderr, output.status.code());
    }

    /// Runs a command that ends with events of one second, whose order says nothing.
    fn events_sorted(&mut self, arguments: &[&str]) {
        let output = self.kubectl.run(arguments);
        let text = normal(&String::from_utf8_lossy(&output.stdout), &self.own);
        let (before, events) = text.split_once("Events:\n").unwrap();
        let mut events: Vec<&str> = events.lines().collect();
        events[2..].sort_unstable();
        let text = format!("{before}Events:\n{}\n", events.join("\n"));
        self.record(arguments, text.as_bytes(), &output.stderr, output.status.code());
    }

    /// Runs a command that ends with a line that tells; how it came there depends on the time.
    fn last_line(&mut self, arguments: &[&str]) {
        let output = self.kubectl.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned() + "\n";
        self.record(arguments, last.as_bytes(), &output.stderr, output.status.code());
    }

    /// Runs a command that reads this.
    fn fed(&mut self, arguments: &[&str], input: &str) {
        let mut command = self.kubectl.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        self.record(arguments, &output.stdout, &output.stderr, output.status.code());
    }

    /// Runs a command with arguments that are only for this run; what is shown stands for them.
    fn shown(&mut self, arguments: &[&str], places: &[(&str, &str)]) {
        let output = self.kubectl.run(arguments);
        let show =
            |text: &str| places.iter().fold(text.to_owned(), |text, (place, name)| text.replace(place, name));
        let arguments: Vec<String> = arguments.iter().map(|word| show(word)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        self.record(&arguments, show(&out).as_bytes(), show(&error).as_bytes(), output.status.code());
    }

    /// Runs a command that must succeed and whose output is not recorded.
    fn quietly(&self, arguments: &[&str]) -> String {
        self.kubectl.ok(arguments)
    }
}

fn settle(transcript: &Transcript<'_>, deployment: &str) {
    transcript.quietly(&["rollout", "status", deployment, "--timeout=90s"]);
}

fn looking_around(transcript: &mut Transcript<'_>) {
    transcript.run(&["get", "nodes"]);
    transcript.run(&["get", "nodes", "-o", "wide"]);
    transcript.run(&["version"]);
    transcript.run(&["cluster-info"]);
    transcript.run(&["get", "namespaces"]);
    transcript.picked(&["api-versions"], &["v1", "apps/v1", "rbac.authorization.k8s.io/v1"]);
    let kinds =
        ["NAME", "configmaps", "nodes", "pods", "services", "deployments", "replicasets", "endpointslices"];
    transcript.picked(&["api-resources"], &kinds);
    transcript.picked(&["api-resources", "-o", "wide", "--api-group=apps"], &["NAME", "deployments"]);
    transcript.run(&["explain", "pod.spec.containers"]);
    transcript.run(&["explain", "deployment.spec.strategy", "--recursive"]);
    transcript.events_sorted(&["describe", "node"]);
    transcript.run(&["get", "services", "--all-namespaces"]);
    transcript.run(&["auth", "can-i", "create", "deployments"]);
    transcript.run(&["auth", "can-i", "list", "secrets", "--as=system:serviceaccount:default:default"]);
    transcript.run(&["create", "token", "default"]);
    transcript.run(&["top", "nodes"]);
}

fn a_deployment(transcript: &mut Transcript<'_>) {
    transcript.run(&["create", "deployment", "hello", IMAGE, "--replicas=3"]);
    settle(transcript, "deployment/hello");
    transcript.run(&["get", "deployment,replicaset,pods", "-o", "wide"]);
    transcript.run(&["expose", "deployment", "hello", "--port=80", "--target-port=8080"]);
    transcript.run(&["get", "services", "hello"]);
    transcript.sorted(&["get", "services,endpointslices"]);
    transcript.run(&["rollout", "status", "deployment/hello"]);
    transcript.run(&["wait", "--for=condition=Available", "deployment/hello"]);
    transcript.run(&["events", "--for=deployment/hello"]);
    transcript.run(&["get", "deployment", "hello", "-o", "yaml"]);
    transcript.run(&["get", "service", "hello", "-o", "json"]);
    transcript.run(&["describe", "deployment", "hello"]);
    transcript.run(&["describe", "service", "hello"]);
    transcript.run(&["logs", "deployment/hello", "--tail=1"]);
    transcript.run(&["exec", "deployment/hello", "--", "cat", "/etc/passwd"]);
    transcript.run(&["exec", "deployment/hello", "--", "sh", "-c", "exit 3"]);
    transcript.run(&["exec", "deployment/hello", "--", "nope"]);
    transcript.run(&["get", "deployment", "hello", "-o", "jsonpath={.spec.replicas}{\"\\n\"}"]);
    transcript.run(&["get", "pods", "-l", "app=hello", "-o", "name"]);
    transcript.run(&[
        "get",
        "deployment",
        "hello",
        "-o",
        "custom-columns=NAME:.metadata.name,READY:.status.readyReplicas",
    ]);
}

fn changes(transcript: &mut Transcript<'_>) {
    transcript.run(&["scale", "deployment", "hello", "--replicas=5"]);
    settle(transcript, "deployment/hello");
    transcript.run(&["get", "deployment", "hello"]);
    transcript.run(&["set", "env", "deployment/hello", "COLOR=blue"]);
    transcript.last_line(&["rollout", "status", "deployment/hello"]);
    transcript.run(&["set", "image", "deployment/hello", "demo=nauplius.local/demo:1"]);
    replace_a_pod(transcript);
    transcript.run(&["rollout", "history", "deployment/hello"]);
    transcript.run(&["rollout", "undo", "deployment/hello"]);
    settle(transcript, "deployment/hello");
    transcript.run(&["rollout", "history", "deployment/hello"]);
    transcript.run(&["rollout", "pause", "deployment/hello"]);
    transcript.run(&["rollout", "resume", "deployment/hello"]);
    transcript.run(&["rollout", "restart", "deployment/hello"]);
    settle(transcript, "deployment/hello");
    transcript.run(&["label", "deployment", "hello", "tier=web"]);
    transcript.run(&["annotate", "deployment", "hello", "note=one"]);
    transcript.run(&["patch", "deployment", "hello", "-p", r#"{"spec":{"replicas":2}}"#]);
    transcript.run(&[
        "patch",
        "deployment",
        "hello",
        "--type=merge",
        "-p",
        r#"{"metadata":{"annotations":{"note":null}}}"#,
    ]);
    transcript.run(&[
        "patch",
        "deployment",
        "hello",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/replicas","value":1}]"#,
    ]);
    settle(transcript, "deployment/hello");
    transcript.run(&["get", "deployment", "hello", "--show-labels"]);
    edit(transcript);
    transcript.run(&["delete", "deployment,service", "hello"]);
    transcript.quietly(&["wait", "--for=delete", "pods", "-l", "app=hello", "--timeout=60s"]);
    transcript.run(&["get", "pods"]);
}

/// A pod that is deleted comes back under another name.
fn replace_a_pod(transcript: &mut Transcript<'_>) {
    let first = ["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[0].metadata.name}"];
    let name = transcript.quietly(&first);
    transcript.shown(&["delete", "pod", &name], &[(&name, "POD")]);
    settle(transcript, "deployment/hello");
    transcript.run(&["get", "deployment", "hello"]);
    assert!(!transcript.quietly(&["get", "pods", "-o", "name"]).contains(&name));
}

fn edit(transcript: &mut Transcript<'_>) {
    let arguments = ["edit", "deployment", "hello"];
    for editor in ["sed -i s/replicas:.1/replicas:\\ 2/", "true", "sed -i s/app:.hello/app:\\ other/"] {
        let mut command = transcript.kubectl.command(&arguments);
        let output = command.env("KUBE_EDITOR", editor).output().unwrap();
        transcript.record(&arguments, &output.stdout, &output.stderr, output.status.code());
    }
    settle(transcript, "deployment/hello");
}

/// A pod of the demo image with a command of its own, seen from its creation to its end.
fn a_pod(transcript: &mut Transcript<'_>) {
    // Once the watch has shown a pod that was there before, it misses nothing that comes.
    transcript.quietly(&["run", "early", IMAGE, "--restart=Never", "--command", "--", "sleep", "1000"]);
    transcript.quietly(&["wait", "--for=condition=Ready", "pod/early", "--timeout=60s"]);
    let watch = ["get", "pods", "-o", "wide", "-w"];
    let mut watching = transcript.kubectl.command(&watch).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = normal(&(lines.next().unwrap() + "\n"), &transcript.own);
    assert!(lines.next().unwrap().starts_with("early "));
    let script = "echo one; sleep 2; echo two; sleep 1";
    transcript.run(&["run", "talker", IMAGE, "--restart=Never", "--command", "--", "sh", "-c", script]);
    // A state may be seen more than once, as its address or a condition is added.
    while !seen.contains("Completed") {
        let line = normal(&(lines.next().unwrap() + "\n"), &transcript.own);
        let is_news = seen.lines().last().is_none_or(|last| state(last) != state(&line));
        seen.push_str(if is_news && line.starts_with("talker ") { &line } else { "" });
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    transcript.record(&watch, seen.as_bytes(), b"", Some(0));
    transcript.quietly(&["delete", "pod", "early", "--now"]);
    transcript.run(&["logs", "-f", "talker"]);
    transcript.run(&["logs", "talker", "--timestamps", "--tail=1"]);
    transcript.run(&["logs", "talker", "--since=1h"]);
    transcript.run(&["describe", "pod", "talker"]);
    transcript.run(&["delete", "pod", "talker"]);
}

/// The third column.
fn state(line: &str) -> Option<&str> {
    line.split_whitespace().nth(2)
}

fn a_pod_that_fails(transcript: &mut Transcript<'_>) {
    let script = "echo dying; exit 7";
    transcript.run(&["run", "crash", IMAGE, "--command", "--", "sh", "-c", script]);
    let count = ["get", "pod", "crash", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    eventually("a restart", || {
        transcript.quietly(&count).parse::<u32>().is_ok_and(|count| count > 0).then_some(())
    });
    transcript.run(&["logs", "crash", "--previous"]);
    transcript.run(&["delete", "pod", "crash", "--now"]);
}

fn streams(transcript: &mut Transcript<'_>) {
    let script = "read word; echo got $word";
    transcript.run(&[
        "run",
        "reader",
        IMAGE,
        "--restart=Never",
        "--stdin",
        "--attach=false",
        "--command",
        "--",
        "sh",
        "-c",
        script,
    ]);
    transcript.quietly(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/reader", "--timeout=60s"]);
    transcript.fed(&["attach", "-i", "reader"], "it\n");
    transcript.quietly(&["delete", "pod", "reader"]);
    let arguments =
        ["run", "once", IMAGE, "-i", "--rm", "--restart=Never", "--quiet", "--command", "--", "cat"];
    transcript.fed(&arguments, "through and back\n");
    transcript.fed(&["exec", "-i", "deployment/hello", "--", "cat"], "in and out\n");
    terminal(transcript);
    copy(transcript);
    forward(transcript);
}

fn terminal(transcript: &mut Transcript<'_>) {
    let arguments = ["exec", "-it", "deployment/hello", "--", "sh"];
    let mut session = Session::start(transcript.kubectl.command(&arguments));
    session.types(1, "# ", "ls -d /bin");
    session.types(2, "# ", "exit 3");
    let (screen, code) = session.end();
    transcript.record(&arguments, screen.as_bytes(), b"", code);
}

fn copy(transcript: &mut Transcript<'_>) {
    let name = ["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[0].metadata.name}"];
    let pod = transcript.quietly(&name);
    let scratch = tempfile::tempdir().unwrap();
    let place = scratch.path().to_str().unwrap().to_owned();
    std::fs::write(format!("{place}/there"), "there and back\n").unwrap();
    let places = [(place.as_str(), "SCRATCH"), (pod.as_str(), "POD")];
    transcript.shown(&["cp", &format!("{place}/there"), &format!("{pod}:/tmp/there")], &places);
    transcript.shown(&["cp", &format!("{pod}:/tmp/there"), &format!("{place}/back")], &places);
    assert_eq!(std::fs::read_to_string(format!("{place}/back")).unwrap(), "there and back\n");
}

fn forward(transcript: &mut Transcript<'_>) {
    let arguments = ["port-forward", "service/hello", ":80"];
    let mut forwarding = transcript.kubectl.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(forwarding.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    forwarding.kill().unwrap();
    forwarding.wait().unwrap();
    transcript.record(&arguments, line.replace(&port, "LOCAL").as_bytes(), b"", Some(0));
}

fn files(transcript: &mut Transcript<'_>) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/manifests");
    let manifests = manifests.to_str().unwrap();
    let places = [(manifests, "DIR")];
    transcript.shown(&["apply", "-f", manifests], &places);
    settle(transcript, "deployment/app");
    transcript.shown(&["apply", "-f", manifests], &places);
    transcript.shown(&["diff", "-f", manifests], &places);
    transcript.quietly(&["scale", "deployment/app", "--replicas=1"]);
    settle(transcript, "deployment/app");
    transcript.shown(&["diff", "-f", manifests], &places);
    transcript.shown(&["apply", "-f", manifests], &places);
    settle(transcript, "deployment/app");
    transcript.run(&["get", "configmap,secret"]);
    // The pod that was scaled away stands in the slice until its container has ended.
    eventually("two pods", || {
        let names = transcript.kubectl.ok(&["get", "pods", "-l", "app=app", "-o", "name"]);
        (names.lines().count() == 2).then_some(())
    });
    transcript.sorted(&["get", "endpointslices"]);
    transcript.run(&[
        "exec",
        "deployment/app",
        "--",
        "sh",
        "-c",
        "echo $GREETING; cat /etc/credentials/password; echo",
    ]);
    transcript.shown(&["delete", "-f", manifests], &places);
}

fn mistakes(transcript: &mut Transcript<'_>) {
    transcript.run(&["get", "pod", "missing"]);
    transcript.run(&["get", "unknowns"]);
    transcript.run(&["get", "deployment,replicaset,pods", "-o", "wide", "-w"]);
    transcript.run(&["create", "deployment", "Bad_Name", IMAGE]);
    transcript.run(&["create", "namespace", "default"]);
    transcript.run(&["delete", "namespace", "kube-system"]);
    transcript.run(&["scale", "deployment", "missing", "--replicas=1"]);
}

fn check(test: &str, version: &str) {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::find(test, version, &cluster) else { return };
    let own = own(&kubectl, &cluster);
    let mut transcript = Transcript { kubectl, own, text: String::new() };
    looking_around(&mut transcript);
    a_pod(&mut transcript);
    a_pod_that_fails(&mut transcript);
    a_deployment(&mut transcript);
    streams(&mut transcript);
    changes(&mut transcript);
    files(&mut transcript);
    mistakes(&mut transcript);
    compare(version, &transcript.text);
    cluster.log_is_calm();
}

fn own(kubectl: &Kubectl<'_>, cluster: &Cluster) -> Own {
    let address = "jsonpath={.items[0].status.addresses[0].address}";
    let server = cluster.status()["server"].as_str().unwrap_or_default().to_owned();
    let info = |field: &str| {
        let path = format!("jsonpath={{.items[0].status.nodeInfo.{field}}}");
        kubectl.ok(&["get", "nodes", "-o", &path])
    };
    Own {
        machine: vec![
            (info("osImage"), "OS_IMAGE"),
            (info("kernelVersion"), "KERNEL"),
            (info("machineID"), "MACHINE"),
            (info("architecture"), "ARCHITECTURE"),
        ],
        node: kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]),
        address: kubectl.ok(&["get", "nodes", "-o", address]),
        port: server.rsplit(':').next().unwrap_or_default().to_owned(),
    }
}

fn compare(version: &str, text: &str) {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/transcript-{version}.txt"));
    if std::env::var_os("NAUPLIUS_UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    if expected != text {
        let diff = similar::TextDiff::from_lines(expected.as_str(), text);
        panic!("the transcript of kubectl {version} differs:\n{}", diff.unified_diff().context_radius(4));
    }
}

#[test]
fn the_quick_start_with_kubectl_1_33() {
    check("transcript", "1.33");
}

#[test]
fn the_quick_start_with_kubectl_1_28() {
    check("transcript", "1.28");
}
