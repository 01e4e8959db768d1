//! What goes wrong, and the words for it: those that a Kubernetes user knows, or one line that says what to do.

use crate::cluster::{Cluster, NAUPLIUS, eventually};
use crate::kubectl::{self, Kubectl};
use serde_json::{Value, json};
use std::ffi::CString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const DEMO: &str = "nauplius.local/demo:1";

fn pod(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}})
}

fn write(cluster: &Cluster, name: &str, objects: &[Value]) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let path = cluster.scratch.path().join(name);
    std::fs::write(&path, list.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn get(kubectl: &Kubectl<'_>, arguments: &[&str]) -> Value {
    let arguments = [&["get", "-o", "json"], arguments].concat();
    serde_json::from_str(&kubectl.ok(&arguments)).unwrap()
}

/// Waits until the pod's container waits for this reason, and gives the message.
fn waiting(kubectl: &Kubectl<'_>, pod: &str, reason: &str) -> String {
    eventually(&format!("{pod} to wait with {reason}"), || {
        let pod = get(kubectl, &["pod", pod]);
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        (waiting["reason"] == reason).then(|| waiting["message"].as_str().unwrap_or_default().to_owned())
    })
}

fn events(kubectl: &Kubectl<'_>, pod: &str) -> Vec<String> {
    let selector = format!("--field-selector=involvedObject.name={pod}");
    let events = get(kubectl, &["events", &selector]);
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let line = |event: &Value| {
        format!("{} {} {}", text(event, "type"), text(event, "reason"), text(event, "message"))
    };
    events["items"].as_array().unwrap().iter().map(line).collect()
}

/// Each expected beginning begins some event of the pod.
fn check_events(kubectl: &Kubectl<'_>, pod: &str, expected: &[&str]) {
    eventually(&format!("the events of {pod}"), || {
        let events = events(kubectl, pod);
        let missing = expected.iter().find(|start| !events.iter().any(|event| event.starts_with(**start)));
        missing.is_none().then_some(())
    });
}

fn images(kubectl: &Kubectl<'_>) {
    let image = "127.0.0.1:1/none:1";
    let message = waiting(kubectl, "unreachable", "ImagePullBackOff");
    assert!(message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: ")), "{message}");
    assert!(message.contains("connection refused"), "{message}");
    check_events(
        kubectl,
        "unreachable",
        &[
            "Normal Scheduled Successfully assigned default/unreachable to ",
            &format!("Normal Pulling Pulling image \"{image}\""),
            &format!("Warning Failed Failed to pull image \"{image}\": "),
            "Warning Failed Error: ErrImagePull",
            &format!("Normal BackOff Back-off pulling image \"{image}\""),
            "Warning Failed Error: ImagePullBackOff",
        ],
    );
    let message = waiting(kubectl, "nowhere", "ImagePullBackOff");
    assert!(message.contains("registry.invalid"), "{message}");

    let message = waiting(kubectl, "misnamed", "InvalidImageName");
    let reason = "couldn't parse image name \"nauplius.local/Upper:1\": invalid reference format: repository name (Upper) must be lowercase";
    assert!(message.contains(reason), "{message}");
    let event = format!(
        "Warning InspectFailed Failed to apply default image tag \"nauplius.local/Upper:1\": {reason}"
    );
    check_events(kubectl, "misnamed", &[&event]);

    waiting(kubectl, "never", "ErrImageNeverPull");
    no_log(kubectl, "never", "ErrImageNeverPull");
    let event = "Warning ErrImageNeverPull Container image \"nauplius.local/none:1\" is not present with pull policy of Never";
    check_events(kubectl, "never", &[event]);
}

/// A container that never ran has no log, in upstream's words.
fn no_log(kubectl: &Kubectl<'_>, pod: &str, reason: &str) {
    let expected = format!(
        "Error from server (BadRequest): container \"c\" in pod {pod:?} is waiting to start: {reason}\n"
    );
    eventually(&format!("{pod} to wait with {reason}"), || {
        let refused = kubectl.run(&["logs", pod, "-c", "c"]);
        (!refused.status.success() && String::from_utf8_lossy(&refused.stderr) == expected).then_some(())
    });
}

fn containers(kubectl: &Kubectl<'_>) {
    let message = waiting(kubectl, "crashing", "CrashLoopBackOff");
    let uid = get(kubectl, &["pod", "crashing"])["metadata"]["uid"].as_str().unwrap().to_owned();
    let words = format!("s restarting failed container=c pod=crashing_default({uid})");
    let delay = message.strip_prefix("back-off ").and_then(|rest| rest.strip_suffix(&words));
    assert!(delay.is_some_and(|delay| ["10", "20", "40"].contains(&delay)), "{message}");
    let event =
        format!("Warning BackOff Back-off restarting failed container c in pod crashing_default({uid})");
    check_events(kubectl, "crashing", &[&event, "Normal Created ", "Normal Started "]);
    let last =
        get(kubectl, &["pod", "crashing"])["status"]["containerStatuses"][0]["lastState"]["terminated"]
            .take();
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(7), &json!("Error")));
    assert_eq!(kubectl.ok(&["logs", "crashing", "--previous"]), "dying\n");

    assert_eq!(
        waiting(kubectl, "unconfigured", "CreateContainerConfigError"),
        "configmap \"none\" not found"
    );
    check_events(kubectl, "unconfigured", &["Warning Failed Error: configmap \"none\" not found"]);
    check_events(
        kubectl,
        "unmounted",
        &["Warning FailedMount MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found"],
    );
    let message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"nothing\": executable file not found in $PATH";
    eventually("the failed start", || {
        let started = events(kubectl, "commandless");
        started
            .iter()
            .any(|event| event.starts_with("Warning Failed Error: ") && event.contains(message))
            .then_some(())
    });

    no_log(kubectl, "unconfigured", "CreateContainerConfigError");
    no_log(kubectl, "unmounted", "ContainerCreating");
    no_log(kubectl, "behind", "PodInitializing");

    // What was missing comes: then all is well.
    kubectl.ok(&["create", "configmap", "none", "--from-literal=k=v"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/unconfigured", "--timeout=120s"]);
}

#[test]
fn pods_that_cannot_run_say_why() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("refusals", &cluster) else { return };
    let from_map = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]);
    let mut unmounted =
        pod("unmounted", json!({"image": DEMO, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    unmounted["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "none"}}]);
    let mut behind = pod("behind", json!({"image": DEMO}));
    behind["spec"]["restartPolicy"] = json!("Never");
    behind["spec"]["initContainers"] =
        json!([{"name": "first", "image": DEMO, "command": ["sh", "-c", "exit 3"]}]);
    let pods = [
        behind,
        pod("unreachable", json!({"image": "127.0.0.1:1/none:1"})),
        pod("nowhere", json!({"image": "registry.invalid/none:1"})),
        pod("misnamed", json!({"image": "nauplius.local/Upper:1"})),
        pod("never", json!({"image": "nauplius.local/none:1", "imagePullPolicy": "Never"})),
        pod("crashing", json!({"image": DEMO, "command": ["sh", "-c", "echo dying; exit 7"]})),
        pod("unconfigured", json!({"image": DEMO, "env": from_map})),
        pod("commandless", json!({"image": DEMO, "command": ["nothing"]})),
        unmounted,
    ];
    kubectl.ok(&["create", "-f", &write(&cluster, "pods.json", &pods)]);
    images(&kubectl);
    containers(&kubectl);
}

/// What a command that must fail has said.
pub fn error_of(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_manifests_are_refused_by_field() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("refusals", &cluster) else { return };
    let check = |manifest: Value, flags: &[&str], expected: &[&str]| {
        let path = cluster.scratch.path().join("wrong.json");
        std::fs::write(&path, manifest.to_string()).unwrap();
        let arguments = [&["apply", "-f", path.to_str().unwrap()], flags].concat();
        let error = error_of(&kubectl.run(&arguments));
        for part in expected {
            assert!(error.contains(part), "{flags:?}: {part:?} is not in\n{error}");
        }
    };
    let misspelt = pod("p", json!({"image": DEMO, "imagePulPolicy": "Never"}));
    check(misspelt.clone(), &["--validate=strict"], &["unknown field \"spec.containers[0].imagePulPolicy\""]);
    let strict = ["--validate=strict", "--server-side"];
    let undeclared = ".spec.containers[name=\"c\"].imagePulPolicy: field not declared in schema";
    check(
        misspelt.clone(),
        &strict,
        &["failed to create typed patch object (default/p; /v1, Kind=Pod)", undeclared],
    );
    let warned = kubectl.run(&[
        "apply",
        "--validate=warn",
        "--dry-run=server",
        "-f",
        &write(&cluster, "m.json", &[misspelt]),
    ]);
    let warning = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(
        warned.status.success() && warning.contains("unknown field \"spec.containers[0].imagePulPolicy\""),
        "{warning}"
    );

    let wrong =
        pod("p", json!({"image": "", "imagePullPolicy": "Sometimes", "ports": [{"containerPort": 70000}]}));
    check(
        wrong,
        &[],
        &[
            "The Pod \"p\" is invalid:",
            "spec.containers[0].image: Required value",
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ],
    );
    let typed = pod("p", json!({"image": 5}));
    check(
        typed,
        &["--validate=false"],
        &["Error from server (BadRequest)", "cannot unmarshal number into Go struct field"],
    );
    let unknown = json!({"apiVersion": "v9", "kind": "Pod", "metadata": {"name": "p"}});
    check(unknown, &[], &["no matches for kind \"Pod\" in version \"v9\""]);
}

#[test]
fn commands_that_cannot_work_say_what_to_do() {
    let cluster = Cluster::up();
    let name = cluster.name.clone();
    let again = cluster.run_ok(&["up"]);
    assert!(again.starts_with(&format!("Cluster {name} is up already, at https://")), "{again}");
    let changed = error_of(&cluster.run(&["up", "--port", "1"]));
    assert!(changed.contains(&format!("cluster {name} exists with port")), "{changed}");

    cluster.run_ok(&["down"]);
    let down = error_of(&cluster.run(&["status"]));
    assert!(
        down.contains(&format!("cluster {name} is down: `nauplius up --name {name}` starts it")),
        "{down}"
    );
    let image = error_of(&cluster.run(&["image", "list"]));
    assert!(image.contains(&format!("cluster {name} is down")), "{image}");
    let nowhere = error_of(&cluster.run(&["image", "load", "/nope"]));
    assert_eq!(nowhere, "nauplius: cannot read /nope: no such file or directory\n");
    assert!(cluster.run_ok(&["down"]).contains("was down already"));

    let database = std::fs::read_dir(cluster.data_dir().join("store")).unwrap().flatten();
    for file in database.filter(|entry| entry.path().is_file()) {
        std::fs::write(file.path(), "this is no database, however long one looks at it ".repeat(100))
            .unwrap();
    }
    let damaged = error_of(&cluster.run(&["up"]));
    assert!(damaged.contains("store") && damaged.contains(cluster.data_dir().to_str().unwrap()), "{damaged}");
    assert!(one_line(&damaged), "{damaged}");
    cluster.run_ok(&["delete"]);
    let gone = error_of(&cluster.run(&["status"]));
    assert!(
        gone.contains(&format!("there is no cluster \"{name}\" here: `nauplius up --name {name}` makes it")),
        "{gone}"
    );
}

/// Besides the stages, one line.
fn one_line(error: &str) -> bool {
    let stages = |line: &&str| !line.starts_with('✓') && !line.starts_with('✗');
    error.lines().filter(stages).count() == 1
}

#[test]
fn a_port_in_use_and_bad_names_leave_nothing_behind() {
    let cluster = Cluster::named_only();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = error_of(&cluster.run(&["up", "--port", &port.to_string()]));
    let expected =
        format!("port {port} is in use by another program: stop it, or choose another with --port");
    assert!(refused.contains(&expected) && one_line(&refused), "{refused}");
    assert_eq!(crate::traces::of(&cluster), Vec::<String>::new());

    for bad in ["Upper", "much-too-long-a-name", "-x", "a/b", ""] {
        let output = Command::new(NAUPLIUS).args(["up", &format!("--name={bad}")]).output().unwrap();
        let error = error_of(&output);
        assert!(error.contains("cannot name a cluster: use at most 10 lower-case letters"), "{bad}: {error}");
    }
}

/// Runs `up` of a cluster that must not come to be, and gives its one line.
fn refused_up(cluster: &Cluster, arguments: &[&str]) -> String {
    let refused = error_of(&cluster.run(&[&["up"], arguments].concat()));
    assert!(one_line(&refused), "{refused}");
    assert_eq!(crate::traces::of(cluster), Vec::<String>::new(), "{refused}");
    refused
}

/// The ReplicaSet says it, again and again; the server's log is for who runs the server.
#[test]
fn pods_that_are_forbidden_are_no_warning() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("pods_that_are_forbidden", &cluster) else { return };
    kubectl.ok(&["create", "namespace", "strict"]);
    kubectl.ok(&["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
    kubectl.ok(&["create", "deployment", "-n", "strict", "hello", "--image=nauplius.local/demo:1"]);
    let log = cluster.data_dir().join("server.log");
    eventually("a word in the log", || {
        std::fs::read_to_string(&log).unwrap().contains("is refused, will look again").then_some(())
    });
    let events = eventually("the event", || {
        let events = kubectl.ok(&[
            "get",
            "events",
            "-n",
            "strict",
            "--field-selector=reason=FailedCreate",
            "-o",
            "name",
        ]);
        (!events.is_empty()).then_some(events)
    });
    let told =
        kubectl.ok(&["get", "-n", "strict", events.lines().next().unwrap(), "-o", "jsonpath={.message}"]);
    assert!(
        told.starts_with("Error creating: pods \"hello-") && told.contains("violates PodSecurity"),
        "{told}"
    );
    cluster.log_is_calm();
}

#[test]
fn flags_that_cannot_be_leave_nothing_behind() {
    let cluster = Cluster::named_only();
    for (flag, expected) in [
        (
            "--node-ip=192.0.2.77",
            "--node-ip 192.0.2.77 cannot be used: node IP: \"192.0.2.77\" not found in the host's network interfaces, which have ",
        ),
        ("--node-ip=127.0.0.1", "--node-ip 127.0.0.1 cannot be used: nodeIP can't be loopback address"),
        (
            "--node-name=Bad_Name",
            "--node-name \"Bad_Name\" cannot name a node: a lowercase RFC 1123 subdomain",
        ),
        ("--service-cidr=172.16.0.0/30", "a service range (--service-cidr) is between /12 and /27"),
        ("--pod-cidr=172.16.0.0/30", "a pod range (--pod-cidr) is between /8 and /24"),
        ("--data-dir=/proc", "the data directory /proc is not empty"),
    ] {
        let refused = refused_up(&cluster, &[flag]);
        assert!(refused.contains(expected), "{flag}: {refused}");
    }
    for (file, expected) in [
        ("/etc/passwd", "cannot use /etc/passwd: it is no backup that this program can read"),
        ("/nope", "cannot use /nope: open the backup: no such file or directory"),
    ] {
        let refused = error_of(&cluster.run(&["restore", file]));
        assert_eq!(refused, format!("nauplius: {expected}\n"));
        assert_eq!(crate::traces::of(&cluster), Vec::<String>::new(), "{refused}");
    }
}

#[test]
fn a_first_start_that_fails_leaves_nothing_behind() {
    let cluster = Cluster::named_only();
    // The server finds it when almost everything runs.
    let socket = Path::new("/run/nauplius").join(&cluster.name).join("control.sock");
    std::fs::create_dir_all(&socket).unwrap();
    let refused = refused_up(&cluster, &[]);
    assert!(refused.contains(&format!("cannot remove {}: is a directory", socket.display())), "{refused}");
    std::fs::create_dir_all(&socket).unwrap();
    let refused = error_of(&cluster.run(&["server"]));
    assert!(refused.contains("is a directory"), "{refused}");
    assert_eq!(crate::traces::of(&cluster), Vec::<String>::new());
    cluster.run_ok(&["up"]);
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// Runs `up` where one more thing is mounted, seen by nobody else.
fn up_with_mount(
    cluster: &Cluster,
    arguments: &[&str],
    kind: &str,
    source: &str,
    target: &str,
    data: &str,
) -> String {
    let mut command = Command::new(NAUPLIUS);
    command.arg("up").args(["--name", &cluster.name]).args(arguments);
    command.env("HOME", cluster.scratch.path()).env("KUBECONFIG", cluster.kubeconfig());
    let (kind, source, target, data, root, none) =
        (c(kind), c(source), c(target), c(data), c("/"), c("none"));
    let flags = if source.as_bytes() == b"none" { 0 } else { libc::MS_BIND };
    let check = |code: i32| if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: system calls on strings that were made before the fork.
    unsafe {
        command.pre_exec(move || {
            check(libc::unshare(libc::CLONE_NEWNS))?;
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(none.as_ptr(), root.as_ptr(), std::ptr::null(), private, std::ptr::null()))?;
            check(libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()))
        });
    }
    let refused = error_of(&command.output().unwrap());
    assert!(one_line(&refused), "{refused}");
    assert_eq!(crate::traces::of(cluster), Vec::<String>::new());
    refused
}

#[test]
fn a_kernel_without_a_feature_and_a_full_disk_are_told() {
    let cluster = Cluster::named_only();
    let scratch = cluster.scratch.path().to_str().unwrap().to_owned();
    let filesystems = format!("{scratch}/filesystems");
    std::fs::write(&filesystems, "nodev\ttmpfs\n\text4\n").unwrap();
    let lack = up_with_mount(&cluster, &[], "none", &filesystems, "/proc/filesystems", "");
    assert!(
        lack.contains("the kernel lacks overlayfs, which container images need: try `modprobe overlay`"),
        "{lack}"
    );

    let disk = format!("{scratch}/disk");
    std::fs::create_dir(&disk).unwrap();
    let flag = format!("--data-dir={disk}/data");
    let full = up_with_mount(&cluster, &[&flag], "tmpfs", "none", &disk, "size=8m");
    let start = format!("the disk of {disk}/data has 8 MiB free and the cluster needs ");
    assert!(
        full.contains(&start) && full.contains(": free some, or choose another place with --data-dir"),
        "{full}"
    );
}

#[test]
fn whoever_is_not_root_is_told_so() {
    let scratch = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    // Where the build lies, others may have no business.
    let binary = scratch.path().join("nauplius");
    std::fs::copy(NAUPLIUS, &binary).unwrap();
    for command in ["up", "status", "down", "delete", "server"] {
        let output =
            Command::new(&binary).arg(command).uid(65534).gid(65534).current_dir("/").output().unwrap();
        let error = error_of(&output);
        assert!(
            error.contains("this needs root, for containers and networks: run it again with sudo"),
            "{command}: {error}"
        );
        assert!(one_line(&error), "{error}");
    }
}
