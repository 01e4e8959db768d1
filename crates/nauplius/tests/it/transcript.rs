//! The transcript of the quick start, run by stock kubectl and compared with goldens in upstream's wording. A golden is written
//! anew with `NAUPLIUS_UPDATE_GOLDEN=1`, and read before it is committed.

use crate::cluster::Cluster;
use crate::kubectl::{self, Kubectl};
use crate::normal::{Own, normal};
use std::fmt::Write;
use std::path::Path;

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
    transcript.run(&["cluster-info"]);
    transcript.run(&["get", "namespaces"]);
    transcript.run(&["api-versions"]);
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
    transcript.run(&["describe", "deployment", "hello"]);
    transcript.run(&["describe", "service", "hello"]);
    transcript.run(&["logs", "deployment/hello", "--tail=1"]);
    transcript.run(&["exec", "deployment/hello", "--", "cat", "/etc/passwd"]);
    transcript.run(&["exec", "deployment/hello", "--", "sh", "-c", "exit 3"]);
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
    settle(transcript, "deployment/hello");
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
    transcript.run(&["delete", "deployment,service", "hello"]);
    transcript.quietly(&["wait", "--for=delete", "pods", "-l", "app=hello", "--timeout=60s"]);
    transcript.run(&["get", "pods"]);
}

fn files(transcript: &mut Transcript<'_>) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/manifests");
    let manifests = manifests.to_str().unwrap();
    let shown = |transcript: &mut Transcript<'_>, arguments: &[&str]| {
        let output = transcript.kubectl.run(arguments);
        let shown: Vec<&str> =
            arguments.iter().map(|word| if *word == manifests { "DIR" } else { word }).collect();
        transcript.record(&shown, &output.stdout, &output.stderr, output.status.code());
    };
    shown(transcript, &["apply", "-f", manifests]);
    settle(transcript, "deployment/app");
    shown(transcript, &["apply", "-f", manifests]);
    shown(transcript, &["diff", "-f", manifests]);
    transcript.run(&["get", "configmap,secret"]);
    transcript.sorted(&["get", "endpointslices"]);
    transcript.run(&[
        "exec",
        "deployment/app",
        "--",
        "sh",
        "-c",
        "echo $GREETING; cat /etc/credentials/password; echo",
    ]);
    shown(transcript, &["delete", "-f", manifests]);
}

fn mistakes(transcript: &mut Transcript<'_>) {
    transcript.run(&["get", "pod", "missing"]);
    transcript.run(&["get", "unknowns"]);
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
    a_deployment(&mut transcript);
    changes(&mut transcript);
    files(&mut transcript);
    mistakes(&mut transcript);
    compare(version, &transcript.text);
}

fn own(kubectl: &Kubectl<'_>, cluster: &Cluster) -> Own {
    let address = "jsonpath={.items[0].status.addresses[0].address}";
    let server = cluster.status()["server"].as_str().unwrap_or_default().to_owned();
    Own {
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
