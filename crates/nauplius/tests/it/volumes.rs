//! Volumes of the host: what they must be, what is mounted in them later, what may be written, and parts of volumes.

use crate::traces;
use crate::workload::{Workload, once};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A file system in memory, unmounted with all that is mounted below it.
struct Memory(PathBuf);

impl Memory {
    fn at(path: PathBuf, propagation: MountPropagationFlags) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        mount("test", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        let memory = Self(path);
        mount_change(&memory.0, propagation).unwrap();
        memory
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for mount in traces::mounts(&self.0).iter().rev() {
            let point = mount.trim_start_matches("mount ");
            if let Err(error) = unmount(point, UnmountFlags::DETACH) {
                eprintln!("{point} is still mounted: {error}");
            }
        }
    }
}

fn host_path(name: &str, path: &Path, kind: &str) -> Value {
    json!({"name": name, "hostPath": {"path": path, "type": kind}})
}

const DIRECTORY: &str = "directory";

/// One thing of each type, and the type's name in messages.
fn things(world: &Workload) -> Vec<(&'static str, PathBuf, &'static str)> {
    let at = |name: &str| world.note(name);
    std::fs::create_dir(at(DIRECTORY)).unwrap();
    std::fs::write(at("file"), "").unwrap();
    // The file stays when the listener goes.
    drop(UnixListener::bind(at("socket")).unwrap());
    let device = rustix::fs::makedev(7, 250);
    let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::BlockDevice);
    rustix::fs::mknodat(rustix::fs::CWD, at("block"), kind, mode, device).unwrap();
    vec![
        ("Directory", at(DIRECTORY), "a directory"),
        ("DirectoryOrCreate", at("new/directory"), "a directory"),
        ("File", at("file"), "a file"),
        ("FileOrCreate", at("newfile"), "a file"),
        ("Socket", at("socket"), "a socket file"),
        ("CharDevice", PathBuf::from("/dev/null"), "a character device"),
        ("BlockDevice", at("block"), "a block device"),
    ]
}

async fn types(world: &Workload) {
    let things = things(world);
    let name = |kind: &str| kind.to_lowercase();
    let volumes: Vec<Value> =
        things.iter().map(|(kind, path, _)| host_path(&name(kind), path, kind)).collect();
    let mounts: Vec<Value> = things
        .iter()
        .map(|(kind, ..)| json!({"name": name(kind), "mountPath": format!("/v/{kind}")}))
        .collect();
    let script = "cd /v; for v in *; do for t in d f S c b; do [ -$t $v ] && echo $v $t; done; done";
    world.make(once("typed", script, json!({"volumes": volumes}), json!({"volumeMounts": mounts}))).await;
    for (kind, path, what) in &things {
        let wrong = if path.is_dir() { world.note("file") } else { world.note(DIRECTORY) };
        let wrong = if kind.starts_with("Directory") { world.note("file") } else { wrong };
        let pod = format!("not-{}", name(kind));
        let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        world.make(once(&pod, "true", json!({"volumes": [host_path("v", &wrong, kind)]}), mounts)).await;
        let message = format!(
            "Warning FailedMount MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {} is not {what}",
            wrong.display()
        );
        world.said(&pod, &message).await;
    }
    let (_, log) = world.ended("typed", "c").await;
    let expected =
        "BlockDevice b\nCharDevice c\nDirectory d\nDirectoryOrCreate d\nFile f\nFileOrCreate f\nSocket S\n";
    assert_eq!(log, expected);
}

fn mounting(volume: &str, path: &str, more: Value) -> Value {
    let mut mount = json!({"name": volume, "mountPath": path});
    mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mount
}

async fn propagation(world: &Workload, shared: &Memory, private: &Memory) {
    let script = "until [ -e /notes/mounted ]; do sleep 0.1; done; cat /host/late/file || echo nothing";
    let volumes = json!({"volumes": [world.notes(), host_path("host", &shared.0, "Directory")]});
    let mounts = |mode: &str| {
        let host = mounting("host", "/host", json!({"mountPropagation": mode}));
        json!({"volumeMounts": [mounting("notes", "/notes", json!({})), host]})
    };
    world.make(once("follows", script, volumes.clone(), mounts("HostToContainer"))).await;
    world.make(once("alone", script, volumes.clone(), mounts("None"))).await;
    // The host's own `mount`, with the libraries that it needs.
    let mut both = volumes.clone();
    both["volumes"].as_array_mut().unwrap().push(host_path("usr", Path::new("/usr"), "Directory"));
    let mut own = mounts("Bidirectional");
    own["volumeMounts"].as_array_mut().unwrap().push(mounting("usr", "/usr", json!({"readOnly": true})));
    own["securityContext"] = json!({"privileged": true});
    let inner =
        "mkdir /host/inner && mount -t tmpfs inner /host/inner && echo out > /host/inner/file && sleep 1000";
    world.make(once("gives", inner, both, own)).await;
    let refused = json!({"volumes": [host_path("host", &private.0, "Directory")]});
    let own =
        json!({"volumeMounts": [mounting("host", "/host", json!({"mountPropagation": "HostToContainer"}))]});
    world.make(once("refused", "true", refused, own)).await;

    for pod in ["follows", "alone", "gives"] {
        world.ready(pod).await;
    }
    let late = shared.path("late");
    std::fs::create_dir(&late).unwrap();
    mount("test", &late, "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(late.join("file"), "in\n").unwrap();
    std::fs::write(world.note("mounted"), "").unwrap();
    assert_eq!(world.ended("follows", "c").await.1, "in\n");
    let (_, log) = world.ended("alone", "c").await;
    assert!(log.ends_with("nothing\n"), "{log}");
    crate::cluster::eventually("what the container has mounted", || {
        std::fs::read_to_string(shared.path("inner/file")).ok().filter(|text| text == "out\n")
    });
    let message = world.waiting("refused", "CreateContainerError").await;
    let expected = format!("is mounted on {:?} but it is not a shared or slave mount", private.0);
    assert!(message.contains(&expected), "{message}");
}

async fn read_only(world: &Workload, shared: &Memory) {
    let nested = shared.path("volume/nested");
    std::fs::create_dir_all(&nested).unwrap();
    mount("test", &nested, "tmpfs", MountFlags::empty(), None).unwrap();
    let script = "for f in /ro/x /ro/nested/x /rro/x /rro/nested/x; do (echo > $f) 2> /dev/null && echo $f; done; true";
    let own = json!({"volumeMounts": [
        mounting("v", "/ro", json!({"readOnly": true})),
        mounting("v", "/rro", json!({"readOnly": true, "recursiveReadOnly": "Enabled"})),
    ]});
    let volumes = json!({"volumes": [host_path("v", &shared.path("volume"), "Directory")]});
    world.make(once("readonly", script, volumes, own)).await;
    assert_eq!(world.ended("readonly", "c").await, ("Succeeded".to_owned(), "/ro/nested/x\n".to_owned()));
    let status = serde_json::to_value(world.pods.get("readonly").await.unwrap().status).unwrap();
    let told = status["containerStatuses"][0]["volumeMounts"].as_array().unwrap().clone();
    let deep = told.iter().find(|mount| mount["mountPath"] == "/rro").unwrap();
    assert_eq!(
        (&deep["readOnly"], &deep["recursiveReadOnly"]),
        (&json!(true), &json!("Enabled")),
        "{told:?}"
    );
}

/// Parts of a volume that the host owns: they are made where they are missing, and none leads out of it.
async fn parts(world: &Workload) {
    let volume = world.note("parts");
    std::fs::create_dir(&volume).unwrap();
    std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
    let volumes =
        json!({"volumes": [host_path("v", &volume, "Directory")], "securityContext": {"fsGroup": 3000}});
    let env = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let own = json!({"env": env, "volumeMounts": [
        mounting("v", "/plain", json!({"subPath": "a/b"})),
        mounting("v", "/named", json!({"subPathExpr": "of/$(POD)"})),
        mounting("v", "/fixed", json!({"subPath": "a", "readOnly": true})),
    ]});
    let script = "echo one > /plain/f; echo two > /named/f; echo x > /fixed/x || cat /fixed/b/f";
    world.make(once("parts", script, volumes.clone(), own)).await;
    let out = json!({"volumeMounts": [mounting("v", "/v", json!({"subPath": "out"}))]});
    world.make(once("leaving", "true", volumes.clone(), out)).await;
    let unset = json!({"volumeMounts": [mounting("v", "/v", json!({"subPathExpr": "of/$(NOBODY)"}))]});
    world.make(once("nameless", "true", volumes, unset)).await;

    let (_, log) = world.ended("parts", "c").await;
    assert!(log.ends_with("Read-only file system\none\n"), "{log}");
    assert_eq!(std::fs::read_to_string(volume.join("of/parts/f")).unwrap(), "two\n");
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(volume.join("a/b/f")).unwrap());
    assert_eq!(group, 0, "a group takes no directory of the host");
    let message = world.waiting("leaving", "CreateContainerConfigError").await;
    assert!(
        message.contains("failed to prepare subPath for volumeMount \"v\" of container \"c\""),
        "{message}"
    );
    assert_eq!(world.waiting("nameless", "CreateContainerConfigError").await, "missing value for NOBODY");
}

#[tokio::test]
async fn volumes_of_the_host_are_what_was_asked_for() {
    let world = Workload::new().await;
    let shared = Memory::at(world.cluster.scratch.path().join("shared"), MountPropagationFlags::SHARED);
    let private = Memory::at(world.cluster.scratch.path().join("private"), MountPropagationFlags::PRIVATE);
    tokio::join!(
        types(&world),
        propagation(&world, &shared, &private),
        read_only(&world, &shared),
        parts(&world)
    );
}
