//! The stock Python client on a real cluster: what `python.py` sees is what upstream's server would have shown it.

use crate::cluster::Cluster;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The client and what it needs, pinned.
const CLIENT: &str = "kubernetes==37.0.2";

/// A Python that has the client: made once and kept beside the build's other products, or the reason why there is none.
fn environment() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{CLIENT}"));
    let python = root.join("bin/python");
    if root.join("complete").is_file() && python.is_file() {
        return Ok(python);
    }
    // What an interrupted run has left is of no use; there may be nothing.
    let _ = std::fs::remove_dir_all(&root);
    let directory = root.to_string_lossy().into_owned();
    succeed(Command::new("python3").args(["-m", "venv", &directory]))?;
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--retries=1", CLIENT]))?;
    std::fs::write(root.join("complete"), CLIENT).map_err(|error| error.to_string())?;
    Ok(python)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word");
    Err(format!("{:?}: {last}", command.get_program()))
}

fn what_python_saw(python: &Path, cluster: &Cluster) -> Vec<(String, Value)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/python.py");
    let output = Command::new(python).arg(script).arg(cluster.kubeconfig()).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}\n{}", cluster.log_tail());
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["what"].as_str().unwrap().to_owned(), line["value"].clone())).collect()
}

fn expected() -> Vec<(&'static str, Value)> {
    let forbidden = "secrets is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";
    let conflict = "Operation cannot be fulfilled on configmaps \"d\": the object has been modified; please apply your changes to the latest version and try again";
    let imageless = "Pod \"p\" is invalid: spec.containers[0].image: Required value";
    let conflicts = "Apply failed with 1 conflict:";
    let by_python = "conflict with \"OpenAPI-Generator\" using py.example.com/v1";
    vec![
        ("version", json!(format!("v1.37.0+nauplius.{}", env!("CARGO_PKG_VERSION")))),
        ("nodes", json!(1)),
        ("merge", json!({"k": "w", "l": "m"})),
        ("json", json!({"k": "w"})),
        (
            "watch",
            json!([["MODIFIED", {"k": "w", "l": "m"}], ["MODIFIED", {"k": "w"}], ["DELETED", {"k": "w"}]]),
        ),
        ("log", json!("demo: pod py on node NODE serves on port 8080\n")),
        ("exec", json!(["err", "out"])),
        ("exec with input", json!(["got it\n", 3])),
        ("port-forward", json!("HTTP/1.1 200 OK")),
        ("deleted", json!("py")),
        ("dynamic", json!("1")),
        ("discovered", json!("deployments")),
        (
            "apply shares",
            json!([{"a": "1", "b": "1", "c": "1"}, [["one", "Apply", ""], ["two", "Apply", ""]]]),
        ),
        ("apply conflicts", json!([409, "Conflict", format!("{conflicts} conflict with \"one\": .data.a")])),
        ("apply forces", json!({"a": "2", "b": "1"})),
        ("apply lets go", json!({"a": "2"})),
        ("thing", json!({"size": 1, "tags": ["a"]})),
        ("thing applied", json!([{"size": 3, "tags": ["a", "b"]}, {"ready": true}])),
        ("thing conflicts", json!([409, "Conflict", format!("{conflicts} {by_python}: .spec.size")])),
        ("things", json!(["t"])),
        (
            "things watched",
            json!([
                ["MODIFIED", 2, ["a"], false],
                ["MODIFIED", 3, ["a"], false],
                ["MODIFIED", 3, ["a"], true],
                ["MODIFIED", 3, ["a", "b"], true],
                ["DELETED", 3, ["a", "b"], true],
            ]),
        ),
        ("whoami", json!("system:serviceaccount:default:default")),
        ("404", json!([404, "NotFound", "configmaps \"none\" not found"])),
        ("409 exists", json!([409, "AlreadyExists", "configmaps \"d\" already exists"])),
        ("409 conflict", json!([409, "Conflict", conflict])),
        ("422", json!([422, "Invalid", imageless])),
        ("403", json!([403, "Forbidden", forbidden])),
        ("401", json!([401, "Unauthorized", "Unauthorized"])),
    ]
}

#[test]
fn the_python_client_finds_a_cluster_like_any_other() {
    let python = match environment() {
        Ok(python) => python,
        Err(reason) => {
            println!("SKIP python: no Python with {CLIENT}: {reason}");
            return;
        }
    };
    let cluster = Cluster::up();
    let node = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let mut expected = expected().into_iter();
    for (what, value) in what_python_saw(&python, &cluster) {
        let (expected_what, expected_value) = expected.next().unwrap();
        let text = expected_value.to_string().replace("NODE", &node);
        assert_eq!((what.as_str(), value.to_string()), (expected_what, text));
    }
    assert_eq!(expected.next(), None);
}
