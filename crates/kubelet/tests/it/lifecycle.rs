//! Pods from their creation to their end.

use crate::api::Api;
use crate::runtime::Fake;
use crate::world::World;
use base64::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const IMAGE: &str = "demo:1";

fn one(container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!(IMAGE);
    json!({"terminationGracePeriodSeconds": 3, "containers": [container]})
}

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let mut world = World::new(&[IMAGE]).await;
    world.kubelet.ready().await;
    world.create("p", one(json!({"command": ["run"]})));
    let status = world.phase("p", "Running").await;
    assert_eq!(status["podIP"], "10.1.0.9");
    assert_eq!(status["hostIP"], "127.0.0.1");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["containerStatuses"][0]["ready"], true);
    assert!(status["containerStatuses"][0]["containerID"].as_str().unwrap().starts_with("nauplius://c"));
    assert!(status["conditions"].as_array().unwrap().iter().all(|condition| condition["status"] == "True"));
    for event in [
        "Pulled: Container image \"demo:1\" already present on machine and can be accessed by the pod",
        "Created: Container created",
        "Started: Container started",
    ] {
        world.event(event).await;
    }
    world.delete("p", 3);
    world
        .api
        .wait("the pod's end", |api| api.get("/api/v1/namespaces/n/pods/p").is_none().then_some(()))
        .await;
    world.event("Killing: Stopping container c").await;
    let runtime = world.runtime.clone();
    world.api.wait("the sandbox's end", |_| (runtime.sandboxes() == 0).then_some(())).await;
    let root = world.root().join("pods/uid-p");
    world.api.wait("the directory's end", |_| (!root.exists()).then_some(())).await;
    assert!(!world.logs().join("n_p_uid-p").exists());
    assert!(world.runtime.calls().iter().any(|call| call.ends_with("in 3s")));
    world.stop().await;
}

#[tokio::test]
async fn the_node_is_registered_and_reports() {
    let world = World::new(&[IMAGE]).await;
    world.kubelet.ready().await;
    let node = world.api.get("/api/v1/nodes/node").unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    assert_eq!(node["status"]["nodeInfo"]["containerRuntimeVersion"], "fake://1");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.37.0");
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let reasons: Vec<&str> =
        conditions.iter().map(|condition| condition["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        ["KubeletHasSufficientMemory", "KubeletHasNoDiskPressure", "KubeletHasSufficientPID", "KubeletReady"]
    );
    let lease = world
        .api
        .wait("a lease", |api| api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node"))
        .await;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);
    world.event("Starting: Starting kubelet.").await;
    world.event("NodeHasSufficientMemory: Node node status is now: NodeHasSufficientMemory").await;
    world.event("NodeReady: Node node status is now: NodeReady").await;
}

#[tokio::test]
async fn a_node_without_a_range_is_not_ready_and_its_pods_wait() {
    let runtime = Fake::new(&[IMAGE]);
    runtime.lack_network();
    let world = World::with(Api::new(), runtime).await;
    let problem = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no range yet";
    let ready = |api: &Api| {
        let node = api.get("/api/v1/nodes/node")?;
        node["status"]["conditions"]
            .as_array()?
            .iter()
            .find(|condition| condition["type"] == "Ready")
            .cloned()
    };
    let condition = ready(&world.api).unwrap();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("KubeletNotReady")));
    assert_eq!(condition["message"], problem);
    let mut on_host = one(json!({}));
    on_host["hostNetwork"] = json!(true);
    world.create("host", on_host);
    world.phase("host", "Running").await;
    world.create("p", one(json!({})));
    world.event(&format!("NetworkNotReady: network is not ready: {problem}")).await;
    assert!(!world.runtime.calls().contains(&"run p".to_owned()));
    let mut node = world.api.get("/api/v1/nodes/node").unwrap();
    node["spec"] = json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]});
    world.api.put("/api/v1/nodes/node", node);
    world.phase("p", "Running").await;
    world.kubelet.ready().await;
    assert_eq!(ready(&world.api).unwrap()["reason"], "KubeletReady");
}

/// Answers requests in plain HTTP, and a handshake with 400 as most servers do; the requests' heads come back.
async fn plain_server() -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, heads) = tokio::sync::mpsc::unbounded_channel();
    nauplius_base::task::spawn("plain server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let status = if head.starts_with("GET ") { "200 OK" } else { "400 Bad Request" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // The client may have hung up: it has seen enough.
            let _ = stream.write_all(answer.as_bytes()).await;
            if seen.send(head).is_err() {
                return;
            }
        }
    });
    (port, heads)
}

#[tokio::test]
async fn a_hook_that_asks_a_plain_server_for_tls_is_run_in_plain_and_a_probe_fails() {
    let world = World::new(&[IMAGE]).await;
    let (port, mut heads) = plain_server().await;
    let headers = json!([{"name": "Authorization", "value": "secret"}, {"name": "X-Own", "value": "kept"}]);
    let ask = json!({"host": "127.0.0.1", "port": port, "path": "/hook", "scheme": "HTTPS", "httpHeaders": headers});
    world.create("p", one(json!({"lifecycle": {"postStart": {"httpGet": ask.clone()}}})));
    world.phase("p", "Running").await;
    world
        .event(&format!(
            "LifecycleHTTPFallback: request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP response, retry with HTTP succeeded"
        ))
        .await;
    assert!(!heads.recv().await.unwrap().starts_with("GET "));
    let head = heads.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("get /hook ") && head.contains("x-own: kept"), "{head}");
    assert!(!head.contains("secret"), "{head}");
    world.create("probed", one(json!({"readinessProbe": {"httpGet": ask, "periodSeconds": 1}})));
    world
        .event(&format!(
            "Unhealthy: Readiness probe failed: Get \"https://127.0.0.1:{port}/hook\": http: server gave HTTP response to HTTPS client"
        ))
        .await;
}

#[tokio::test]
async fn a_new_kubelet_adopts_and_removes_orphans() {
    let mut world = World::new(&[IMAGE]).await;
    world.create("stays", one(json!({"readinessProbe": {"exec": {"command": ["x"]}}})));
    world.create("goes", one(json!({})));
    world.status("stays", "readiness", |status| status["containerStatuses"][0]["ready"] == true).await;
    world.phase("goes", "Running").await;
    world.stop().await;
    std::fs::create_dir_all(world.root().join("pods/uid-unknown/volumes")).unwrap();
    std::fs::create_dir_all(world.logs().join("n_unknown_uid-unknown")).unwrap();
    let starts = |runtime: &Fake| runtime.calls().iter().filter(|call| call.starts_with("start ")).count();
    let (before, patches) = (starts(&world.runtime), world.api.log().len());
    world.api.remove("/api/v1/namespaces/n/pods/goes");
    world.restart().await;
    let runtime = world.runtime.clone();
    world.api.wait("the orphan's end", |_| (runtime.sandboxes() == 1).then_some(())).await;
    world.kubelet.ready().await;
    assert_eq!(starts(&world.runtime), before);
    assert!(
        !world.root().join("pods/uid-unknown").exists()
            && !world.logs().join("n_unknown_uid-unknown").exists()
    );
    assert!(world.root().join("pods/uid-stays").exists());
    let log = world.api.log();
    let written = log[patches..].iter().filter(|line| line.starts_with("PATCH") && line.contains("/pods/"));
    assert_eq!(written.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test]
async fn crashes_loop_and_ended_pods_succeed() {
    let world = World::new(&[IMAGE]).await;
    world.create("crash", one(json!({})));
    world.phase("crash", "Running").await;
    world.runtime.end("c", 1);
    world.status("crash", "a restart", |s| s["containerStatuses"][0]["restartCount"] == 1).await;
    world
        .status("crash", "it to run again", |s| s["containerStatuses"][0]["state"]["running"].is_object())
        .await;
    world.runtime.end("c", 2);
    let status = world
        .status("crash", "CrashLoopBackOff", |s| {
            s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 2);
    world.event("BackOff: Back-off restarting failed container c in pod crash_n(uid-crash)").await;
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    spec["containers"][0]["name"] = json!("job");
    world.create("job", spec);
    world.phase("job", "Running").await;
    world.runtime.end("job", 0);
    let status = world.phase("job", "Succeeded").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
}

#[tokio::test]
async fn failures_have_the_names_that_people_know() {
    let world = World::new(&[IMAGE]).await;
    let reason = |status: &Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or("").to_owned()
    };
    let mut spec = one(json!({}));
    spec["containers"][0]["image"] = json!("nowhere/none");
    world.create("pull", spec);
    world.status("pull", "ErrImagePull", |status| reason(status) == "ErrImagePull").await;
    let status =
        world.status("pull", "ImagePullBackOff", |status| reason(status) == "ImagePullBackOff").await;
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(
        message
            .starts_with("Back-off pulling image \"nowhere/none\": ErrImagePull: rpc error: code = NotFound"),
        "{message}"
    );
    world.event("Failed: Error: ErrImagePull").await;
    world.event("Failed: Error: ImagePullBackOff").await;
    world.create(
        "config",
        one(json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "k"}}}]})),
    );
    world
        .status("config", "CreateContainerConfigError", |status| {
            reason(status) == "CreateContainerConfigError"
        })
        .await;
    world.event("Failed: Error: configmap \"later\" not found").await;
    // It is tried again as soon as the config map is there.
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "later", "namespace": "n"}, "data": {"k": "v"}});
    world.api.put("/api/v1/namespaces/n/configmaps/later", map);
    world.phase("config", "Running").await;
    let envs = world.runtime.config("c").unwrap().envs;
    assert!(envs.iter().any(|env| env.key == "A" && env.value == "v"));
    world.runtime.publish("nowhere/none:latest");
    let mut never = one(json!({"imagePullPolicy": "Never"}));
    never["containers"][0]["image"] = json!("absent:1");
    world.create("never", never);
    world.status("never", "ErrImageNeverPull", |status| reason(status) == "ErrImageNeverPull").await;
    world.phase("pull", "Running").await;
    world.event("Pulled: Successfully pulled image \"nowhere/none\" in ").await;
    // A fourth pod finds no room.
    world.create("fourth", one(json!({})));
    let status = world.phase("fourth", "Failed").await;
    assert_eq!(status["reason"], "OutOfpods");
    // Nothing is made up of containers that never were.
    assert!(status.get("containerStatuses").is_none(), "{status}");
    world.event("OutOfpods: Node didn't have enough resource: pods").await;
}

#[tokio::test]
async fn an_image_of_somebody_is_not_there_for_others() {
    let mut world = World::new(&[]).await;
    world.runtime.publish_for("r.io/private:1", "p");
    let config = |password: &str| {
        let auths = json!({"auths": {"r.io": {"username": "u", "password": password}}}).to_string();
        base64::engine::general_purpose::STANDARD.encode(auths)
    };
    for (name, password) in [("good", "p"), ("bad", "q"), ("alike", "p")] {
        let secret = json!({
            "kind": "Secret", "apiVersion": "v1", "metadata": {"name": name, "namespace": "n", "uid": name},
            "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": config(password)},
        });
        world.api.put(&format!("/api/v1/namespaces/n/secrets/{name}"), secret);
    }
    let spec = |policy: &str, secret: Option<&str>| {
        let mut spec = one(json!({"imagePullPolicy": policy}));
        spec["containers"][0]["image"] = json!("r.io/private:1");
        spec["imagePullSecrets"] = secret.map(|name| json!([{"name": name}])).unwrap_or_default();
        spec
    };
    let pulls = |world: &World| world.runtime.calls().iter().filter(|call| call.starts_with("pull")).count();
    world.create("owner", spec("IfNotPresent", Some("good")));
    world.phase("owner", "Running").await;
    world.delete("owner", 0);
    // Who has the same credentials needs no registry, also after a restart.
    world.restart().await;
    let before = pulls(&world);
    world.create("alike", spec("Never", Some("alike")));
    world.phase("alike", "Running").await;
    assert_eq!(pulls(&world), before);
    let reason = |status: &Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or("").to_owned()
    };
    world.create("nobody", spec("Never", None));
    world.status("nobody", "ErrImageNeverPull", |status| reason(status) == "ErrImageNeverPull").await;
    world.create("stranger", spec("IfNotPresent", Some("bad")));
    world.status("stranger", "ErrImagePull", |status| reason(status) == "ErrImagePull").await;
    assert!(pulls(&world) > before);
}

#[tokio::test]
async fn volumes_hold_what_the_api_holds() {
    let world = World::new(&[IMAGE]).await;
    let map = |value: &str| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m", "namespace": "n"}, "data": {"k": value}});
    let mut spec = one(
        json!({"volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "work", "mountPath": "/w"}]}),
    );
    spec["volumes"] = json!([
        {"name": "conf", "configMap": {"name": "m"}},
        {"name": "work", "emptyDir": {}},
        {"name": "all", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}
    ]);
    world.create("v", spec);
    world
        .event("FailedMount: MountVolume.SetUp failed for volume \"conf\" : configmap \"m\" not found")
        .await;
    // Without its volumes a pod has no sandbox that anyone is told of.
    let status = world.status("v", "its start", |status| status["startTime"].is_string()).await;
    assert_eq!(status["conditions"][0]["type"], "PodReadyToStartContainers");
    assert_eq!((&status["conditions"][0]["status"], &status["podIP"]), (&json!("False"), &Value::Null));
    world.api.put("/api/v1/namespaces/n/configmaps/m", map("one"));
    world.phase("v", "Running").await;
    let volumes = world.root().join("pods/uid-v/volumes");
    let read = |path: &str| std::fs::read_to_string(volumes.join(path)).unwrap_or_default();
    assert_eq!(read("kubernetes.io~configmap/conf/k"), "one");
    assert_eq!(read("kubernetes.io~projected/all/token"), "t0ken");
    assert_eq!(read("kubernetes.io~projected/all/name"), "v");
    world.api.put("/api/v1/namespaces/n/configmaps/m", map("two"));
    world
        .api
        .wait("the new content", |_| (read("kubernetes.io~configmap/conf/k") == "two").then_some(()))
        .await;
    let mounts = world.runtime.config("c").unwrap().mounts;
    let paths: Vec<&str> = mounts.iter().map(|mount| mount.container_path.as_str()).collect();
    assert_eq!(paths, ["/conf", "/w", "/etc/hosts", "/dev/termination-log"]);
    // Only the kubelet writes what the API holds, though the manifest does not say so.
    assert_eq!(mounts.iter().map(|mount| mount.readonly).collect::<Vec<_>>(), [true, false, false, false]);
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(volumes.join(path)).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!(mode("kubernetes.io~configmap/conf"), 0o777);
    assert_eq!(mode("kubernetes.io~empty-dir/work"), 0o777);
    let mut claim = one(json!({}));
    claim["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    world.create("claim", claim);
    world
        .event("FailedMount: MountVolume.SetUp failed for volume \"d\" : persistentvolumeclaim \"data\"")
        .await;
}

#[tokio::test]
async fn a_group_owns_the_volumes_that_are_made_for_it() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new(&[IMAGE]).await;
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m", "namespace": "n"}, "data": {"k": "v"}});
    world.api.put("/api/v1/namespaces/n/configmaps/m", map);
    let mut spec = one(json!({}));
    spec["securityContext"] = json!({"fsGroup": 1234});
    spec["volumes"] = json!([
        {"name": "conf", "configMap": {"name": "m", "defaultMode": 0o400}},
        {"name": "work", "emptyDir": {}},
    ]);
    world.create("g", spec);
    world.phase("g", "Running").await;
    let volumes = world.root().join("pods/uid-g/volumes");
    for (path, mode) in [
        ("kubernetes.io~configmap/conf", 0o42777),
        ("kubernetes.io~configmap/conf/k", 0o100440),
        ("kubernetes.io~empty-dir/work", 0o42777),
    ] {
        let metadata = std::fs::metadata(volumes.join(path)).unwrap();
        assert_eq!((metadata.gid(), format!("{:o}", metadata.mode())), (1234, format!("{mode:o}")), "{path}");
    }
}

#[tokio::test]
async fn ephemeral_containers_join_a_running_pod_once() {
    let world = World::new(&[IMAGE]).await;
    world.create("d", one(json!({})));
    world.phase("d", "Running").await;
    let mut pod = world.pod("d").unwrap();
    pod["metadata"]["generation"] = json!(2);
    pod["spec"]["ephemeralContainers"] = json!([
        {"name": "lost", "image": "absent:1", "imagePullPolicy": "Never"},
        {"name": "look", "image": IMAGE, "targetContainerName": "c", "stdin": true, "tty": true},
    ]);
    world.api.put("/api/v1/namespaces/n/pods/d", pod);
    let running = |status: &Value| status["ephemeralContainerStatuses"][1]["state"]["running"].is_object();
    let status = world.status("d", "the ephemeral container", running).await;
    let lost = &status["ephemeralContainerStatuses"][0];
    assert_eq!(lost["state"]["waiting"]["reason"], "ErrImageNeverPull");
    assert_eq!(lost["ready"], false);
    assert_eq!(lost.get("started"), None);
    let config = world.runtime.config("look").unwrap();
    assert!(config.tty && config.stdin && config.labels["io.kubernetes.container.name"] == "look");
    let security = config.linux.unwrap().security_context.unwrap();
    let namespaces = security.namespace_options.unwrap();
    assert_eq!(namespaces.pid, nauplius_cri::v1::NamespaceMode::Target as i32);
    assert_eq!(namespaces.target_id, world.runtime.id("c"));
    world.runtime.end("look", 3);
    let ended = |status: &Value| status["ephemeralContainerStatuses"][1]["state"]["terminated"].is_object();
    let status = world.status("d", "its end", ended).await;
    assert_eq!(
        (&status["phase"], &status["containerStatuses"][0]["ready"]),
        (&json!("Running"), &json!(true))
    );
    assert_eq!(world.runtime.calls().iter().filter(|call| *call == "start look").count(), 1);
    world.event("Started: Container started").await;
}

#[tokio::test]
async fn pods_are_resized_where_there_is_room() {
    let mut world = World::new(&[IMAGE]).await;
    let asking = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "16Mi"}, "limits": {"cpu": "100", "memory": "32Mi"}});
    world.create("r", one(json!({"resources": asking("100m")})));
    let status = world.phase("r", "Running").await;
    assert_eq!(status["containerStatuses"][0]["resources"], asking("100m"));
    let ask = |cpu: &str, generation: i32| {
        let mut pod = world.pod("r").unwrap();
        pod["metadata"]["generation"] = json!(generation);
        pod["spec"]["containers"][0]["resources"] = asking(cpu);
        world.api.put("/api/v1/namespaces/n/pods/r", pod);
    };
    ask("200m", 2);
    let resized = |cpu: &'static str| {
        move |status: &Value| status["containerStatuses"][0]["resources"]["requests"]["cpu"] == cpu
    };
    let status = world.status("r", "the resize", resized("200m")).await;
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    world.event("ResizeStarted: Pod resize started: {").await;
    world.event("ResizeCompleted: Pod resize completed: {").await;
    let condition = |status: &Value, type_: &str| {
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == type_)
    };
    world.status("r", "its end", |status| condition(status, "PodResizeInProgress").is_none()).await;
    // More than the node has is infeasible, and stays so over a restart of the kubelet.
    ask("99", 3);
    let pending = |status: &Value| condition(status, "PodResizePending").is_some();
    let status = world.status("r", "the refusal", pending).await;
    let told = condition(&status, "PodResizePending").unwrap();
    assert_eq!((&told["reason"], &told["status"]), (&json!("Infeasible"), &json!("True")));
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .starts_with("Node didn't have enough capacity: cpu, requested: 99000")
    );
    assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "200m");
    world.event("ResizeInfeasible: Pod resize Infeasible: {").await;
    let updates =
        |world: &World| world.runtime.calls().iter().filter(|call| call.starts_with("update ")).count();
    assert_eq!(updates(&world), 1);
    world.restart().await;
    world.kubelet.ready().await;
    let mut pod = world.pod("r").unwrap();
    pod["metadata"]["labels"] = json!({"look": "again"});
    world.api.put("/api/v1/namespaces/n/pods/r", pod);
    let mut pod = world.pod("r").unwrap();
    pod["metadata"]["generation"] = json!(4);
    pod["spec"]["containers"][0]["resources"] = asking("300m");
    world.api.put("/api/v1/namespaces/n/pods/r", pod);
    let status = world.status("r", "another resize", resized("300m")).await;
    assert_eq!(condition(&status, "PodResizePending"), None);
    assert_eq!((updates(&world), &status["containerStatuses"][0]["restartCount"]), (2, &json!(0)));
}

#[tokio::test]
async fn failing_liveness_restarts_and_hooks_run() {
    let world = World::new(&[IMAGE]).await;
    let hooks =
        json!({"postStart": {"exec": {"command": ["post"]}}, "preStop": {"exec": {"command": ["pre"]}}});
    let probe = json!({"exec": {"command": ["alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    world.create("l", one(json!({"livenessProbe": probe, "lifecycle": hooks})));
    world.phase("l", "Running").await;
    world.runtime.commands_end_with(1);
    world.event("Unhealthy: Liveness probe failed: out").await;
    world.event("Killing: Container c failed liveness probe, will be restarted").await;
    world.status("l", "a restart", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    let calls = world.runtime.calls();
    assert!(calls.contains(&"exec post".to_owned()) && calls.contains(&"exec pre".to_owned()));
}

#[tokio::test]
async fn an_idle_node_asks_nothing() {
    let world = World::with(Api::new(), Fake::new(&[IMAGE])).await;
    world.create("p", one(json!({"readinessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 1}})));
    world.status("p", "readiness", |status| status["containerStatuses"][0]["ready"] == true).await;
    world.event("Started: Container started").await;
    nauplius_base::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = world.api.log().len();
    nauplius_base::time::sleep(std::time::Duration::from_secs(3)).await;
    let idle: Vec<String> = world.api.log().split_off(before);
    let others: Vec<&String> = idle.iter().filter(|line| !line.contains("/leases/")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn what_is_not_built_is_refused() {
    let world = World::new(&[IMAGE]).await;
    let mut sysctl = one(json!({}));
    sysctl["securityContext"] = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    world.create("sysctl", sysctl);
    assert_eq!(world.phase("sysctl", "Failed").await["reason"], "SysctlForbidden");
    let mut users = one(json!({}));
    users["hostUsers"] = json!(false);
    world.create("users", users);
    world.event("FailedCreatePodSandBox: Failed to create pod sandbox: user namespaces").await;
    world.delete("users", 0);
    world.api.wait("its end", |api| api.get("/api/v1/namespaces/n/pods/users").is_none().then_some(())).await;
}

#[tokio::test]
async fn deletion_does_not_wait_for_a_pull_and_statuses_settle() {
    let world = World::new(&[IMAGE]).await;
    world.create("p", one(json!({"resources": {"requests": {"cpu": "100m"}}})));
    let status = world.phase("p", "Running").await;
    assert_eq!(status["qosClass"], "Burstable");
    // Somebody else's condition is kept, and is no reason to write.
    let mut pod = world.pod("p").unwrap();
    let mine = json!({"type": "example.com/Mine", "status": "True"});
    pod["status"]["conditions"].as_array_mut().unwrap().push(mine.clone());
    world.api.put("/api/v1/namespaces/n/pods/p", pod);
    nauplius_base::time::sleep(std::time::Duration::from_millis(300)).await;
    let patches = || {
        world.api.log().iter().filter(|line| line.starts_with("PATCH") && line.contains("/pods/p/")).count()
    };
    let before = patches();
    // A status that was changed under our feet is put right.
    let mut pod = world.pod("p").unwrap();
    pod["status"]["phase"] = json!("Pending");
    world.api.put("/api/v1/namespaces/n/pods/p", pod);
    let status = world.phase("p", "Running").await;
    assert!(status["conditions"].as_array().unwrap().contains(&mine));
    assert_eq!(patches(), before + 1);
}

#[tokio::test]
async fn a_container_that_never_started_counts_as_no_restart() {
    let mut world = World::new(&[IMAGE]).await;
    world.runtime.refuse_starts(true);
    world.create("p", one(json!({})));
    let failed =
        |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "RunContainerError";
    let status = world.status("p", "RunContainerError", failed).await;
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["message"], "exec: no such file");
    world.event("Failed: Error: exec: no such file").await;
    world.runtime.refuse_starts(false);
    world.restart().await;
    let status = world.phase("p", "Running").await;
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(world.runtime.calls().iter().filter(|call| call.starts_with("remove c")).count(), 1);
}

/// Whoever waits for the end takes what the pod holds for free.
#[tokio::test]
async fn a_deadline_is_told_when_the_grace_is_over() {
    let world = World::new(&[IMAGE]).await;
    world.runtime.obey(false);
    let mut spec = one(json!({}));
    spec["activeDeadlineSeconds"] = json!(2);
    world.create("late", spec);
    let unready = |status: &Value| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().any(|condition| condition["type"] == "Ready" && condition["reason"] == "PodFailed")
    };
    let status = world.status("late", "not to be ready any more", unready).await;
    assert!(status["phase"] == "Running" && status.get("reason").is_none(), "{status}");
    assert!(status["containerStatuses"][0]["state"]["running"].is_object(), "{status}");
    world.event("DeadlineExceeded: Pod was active on the node longer than the specified deadline").await;
    world.runtime.obey(true);
    let status = world.phase("late", "Failed").await;
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert!(status["containerStatuses"][0]["state"]["terminated"].is_object(), "{status}");
}

#[tokio::test]
async fn hooks_of_sidecars_run_at_once_and_sidecars_end_last() {
    let world = World::new(&[IMAGE]).await;
    let mut spec = one(json!({"lifecycle": {"preStop": {"exec": {"command": ["pre", "c"]}}}}));
    spec["terminationGracePeriodSeconds"] = json!(30);
    spec["initContainers"] = json!([{"name": "s", "image": IMAGE, "restartPolicy": "Always",
        "lifecycle": {"preStop": {"exec": {"command": ["pre", "s"]}}}}]);
    world.create("p", spec);
    world.phase("p", "Running").await;
    world.runtime.obey(false);
    world.delete("p", 30);
    let stop = |name: &str| format!("stop {} in ", world.runtime.id(name));
    let (stop_main, stop_sidecar) = (stop("c"), stop("s"));
    let place = |begin: &str| world.runtime.calls().iter().position(|call| call.starts_with(begin));
    world
        .api
        .wait("the sidecar's hook", |_| {
            (place("exec pre s").is_some() && place(&stop_main).is_some()).then_some(())
        })
        .await;
    world.event("Killing: Stopping container s").await;
    assert_eq!(place(&stop_sidecar), None, "{:?}", world.runtime.calls());
    world.runtime.obey(true);
    world.api.wait("the sidecar's end", |_| place(&stop_sidecar)).await;
}
