//! Pods of a test, from JSON: they write down what they find, in their logs or in a directory of the host, and the test reads it.

use crate::cluster::Cluster;
use crate::kube_rs::connect;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use nauplius_base::time;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

const DEMO: &str = "nauplius.local/demo:1";
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster with pods of a test.
pub struct Workload {
    /// Where they run.
    pub cluster: Cluster,
    /// They.
    pub pods: Api<Pod>,
    events: Api<Event>,
}

/// A container that runs a script. What it says and what it complains of come in order: one stream has both.
pub fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": DEMO, "command": ["sh", "-c", format!("exec 2>&1; {script}")]})
}

/// A pod with one container that runs a script once; `more` is merged into its spec, and `own` into the container.
pub fn once(name: &str, script: &str, more: Value, own: Value) -> Value {
    let mut c = container("c", script);
    merge(&mut c, own);
    let mut spec = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [c]});
    merge(&mut spec, more);
    json!({"metadata": {"name": name}, "spec": spec})
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    into.as_object_mut().unwrap().extend(more);
}

impl Workload {
    /// A fresh cluster.
    pub async fn new() -> Self {
        let cluster = Cluster::up();
        let client = connect(&cluster).await;
        std::fs::create_dir(cluster.scratch.path().join("notes")).unwrap();
        Self {
            pods: Api::default_namespaced(client.clone()),
            events: Api::default_namespaced(client),
            cluster,
        }
    }

    /// A file of the host that pods write.
    pub fn note(&self, name: &str) -> PathBuf {
        self.cluster.scratch.path().join("notes").join(name)
    }

    /// What they have written into it.
    pub fn noted(&self, name: &str) -> String {
        std::fs::read_to_string(self.note(name)).unwrap_or_default()
    }

    /// The directory of the notes, as a volume.
    pub fn notes(&self) -> Value {
        json!({"name": "notes", "hostPath": {"path": self.note("")}})
    }

    /// Makes a pod.
    pub async fn make(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods.create(&PostParams::default(), &pod).await.unwrap();
    }

    /// Waits until `condition` finds something in the pod.
    pub async fn wait<T>(&self, pod: &str, what: &str, condition: impl Fn(&Value) -> Option<T>) -> T {
        let found = RefCell::new(None);
        let look = |pod: Option<&Pod>| {
            let looked = pod.and_then(|pod| condition(&serde_json::to_value(pod).unwrap()));
            found.replace(looked);
            found.borrow().is_some()
        };
        let waited = time::timeout(PATIENCE, await_condition(self.pods.clone(), pod, look)).await;
        let Some(found) = found.take() else {
            let now = self.pods.get(pod).await.map(|pod| json!(pod.status).to_string());
            let events = self.events(pod).await;
            panic!(
                "{pod}: no {what} ({:?}): {now:?}\n{events:?}\n{}",
                waited.map(|_| ()),
                self.cluster.log_tail()
            );
        };
        found
    }

    /// Waits until the pod has ended, and gives its phase and the log of a container.
    pub async fn ended(&self, pod: &str, container: &str) -> (String, String) {
        let phase = self
            .wait(pod, "end", |pod| {
                let phase = pod["status"]["phase"].as_str()?;
                ["Succeeded", "Failed"].contains(&phase).then(|| phase.to_owned())
            })
            .await;
        let of = LogParams { container: Some(container.to_owned()), ..LogParams::default() };
        (phase, self.pods.logs(pod, &of).await.unwrap())
    }

    /// Waits until the pod is ready.
    pub async fn ready(&self, pod: &str) {
        self.wait(pod, "readiness", |pod| {
            let conditions = pod["status"]["conditions"].as_array()?;
            let is = |one: &&Value| one["type"] == "Ready" && one["status"] == "True";
            conditions.iter().find(is).map(drop)
        })
        .await;
    }

    /// Waits until the first container waits for this reason, and gives the message.
    pub async fn waiting(&self, pod: &str, reason: &str) -> String {
        self.wait(pod, reason, |pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            (waiting["reason"] == reason).then(|| waiting["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn delete(&self, pod: &str) {
        let uid = self.pods.get(pod).await.unwrap().uid().unwrap();
        self.pods.delete(pod, &DeleteParams::default()).await.unwrap();
        let gone = await_condition(self.pods.clone(), pod, conditions::is_deleted(&uid));
        let gone = time::timeout(PATIENCE, gone).await;
        assert!(gone.is_ok(), "{pod} is not gone\n{}", self.cluster.log_tail());
    }

    /// What was said about a pod: type, reason and message.
    pub async fn events(&self, pod: &str) -> Vec<String> {
        let about = ListParams::default().fields(&format!("involvedObject.name={pod}"));
        let events = self.events.list(&about).await.unwrap().items;
        let text = |part: Option<String>| part.unwrap_or_default();
        let line =
            |event: Event| format!("{} {} {}", text(event.type_), text(event.reason), text(event.message));
        events.into_iter().map(line).collect()
    }

    /// Waits until this was said about a pod.
    pub async fn said(&self, pod: &str, line: &str) {
        let told = time::timeout(PATIENCE, async {
            while !self.events(pod).await.iter().any(|said| said == line) {
                time::sleep(Duration::from_millis(50)).await;
            }
        });
        if told.await.is_err() {
            panic!("{line:?} was not said of {pod}: {:?}", self.events(pod).await);
        }
    }
}
