//! What a container's end needs to know of its definition, noted at the container as upstream's kubelet does it: so one whose pod the API
//! has no more, or that no server looks after, ends as it was asked to. Both ways stand here, next to each other.

use crate::names::{PORTS, PRE_STOP, SIDECAR};
use crate::pod::facts;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, Lifecycle, Pod, PodSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The annotations of a container.
pub fn annotations(container: &Container) -> BTreeMap<String, String> {
    let mut noted = BTreeMap::new();
    if facts::is_sidecar(container) {
        noted.insert(SIDECAR.to_owned(), "true".to_owned());
    }
    let Some(pre_stop) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone()) else {
        return noted;
    };
    let short = Container {
        name: container.name.clone(),
        ports: container.ports.clone(),
        lifecycle: Some(Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() }),
        ..Container::default()
    };
    let spec = PodSpec { containers: vec![short], ..PodSpec::default() };
    let encoded = Pod { spec: Some(spec), ..Pod::default() }.encode();
    // What was encoded a moment ago is JSON.
    let tree: Value = serde_json::from_slice(&encoded).unwrap_or_default();
    let mut note = |name: &str, pointer: &str| {
        if let Some(value) = tree.pointer(pointer) {
            noted.insert(name.to_owned(), value.to_string());
        }
    };
    note(PRE_STOP, "/spec/containers/0/lifecycle/preStop");
    note(PORTS, "/spec/containers/0/ports");
    noted
}

/// As much of a pod's spec as its containers' annotations tell. `containers` are names and annotations in the order in which they were made.
pub fn spec<'a>(containers: impl Iterator<Item = (&'a str, &'a BTreeMap<String, String>)>) -> PodSpec {
    let (mut main, mut sidecars) = (Vec::new(), Vec::new());
    for (name, annotations) in containers {
        // What is no JSON was not noted by a kubelet.
        let noted = |name: &str| annotations.get(name).and_then(|text| serde_json::from_str(text).ok());
        let lifecycle = noted(PRE_STOP).map(|hook: Value| json!({"preStop": hook}));
        let ports: Option<Value> = noted(PORTS);
        let container = json!({"name": name, "ports": ports, "lifecycle": lifecycle});
        if annotations.contains_key(SIDECAR) {
            let mut sidecar = container;
            sidecar["restartPolicy"] = json!("Always");
            sidecars.push(sidecar);
        } else {
            main.push(container);
        }
    }
    let pod = json!({"metadata": {}, "spec": {"initContainers": sidecars, "containers": main}});
    match Pod::decode(pod.to_string().as_bytes()) {
        Ok(pod) => pod.spec.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "what is noted at containers cannot be read: they end without their hooks");
            PodSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(value: Value) -> Container {
        let pod = json!({"metadata": {}, "spec": {"containers": [value]}});
        Pod::decode(pod.to_string().as_bytes()).unwrap().spec.unwrap().containers.remove(0)
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let hook = json!({"preStop": {"httpGet": {"port": "web", "path": "/bye"}}, "postStart": {"sleep": {"seconds": 1}}});
        let main = container(json!({"name": "m", "image": "i", "lifecycle": hook,
            "ports": [{"name": "web", "containerPort": 80}]}));
        let sidecar = container(json!({"name": "s", "restartPolicy": "Always"}));
        let noted = annotations(&main);
        assert_eq!(noted[PRE_STOP], r#"{"httpGet":{"path":"/bye","port":"web"}}"#);
        assert_eq!(noted[PORTS], r#"[{"containerPort":80,"name":"web"}]"#);
        let beside = annotations(&sidecar);
        let spec = spec([("s", &beside), ("m", &noted), ("plain", &BTreeMap::new())].into_iter());
        let names: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["m", "plain"]);
        assert_eq!(spec.containers[0].ports, main.ports);
        let lifecycle = spec.containers[0].lifecycle.as_ref().unwrap();
        assert_eq!(lifecycle.pre_stop, main.lifecycle.unwrap().pre_stop);
        assert!(lifecycle.post_start.is_none());
        assert!(facts::is_sidecar(&spec.init_containers.unwrap()[0]));
        let broken = BTreeMap::from([(PRE_STOP.to_owned(), "[]".to_owned())]);
        assert!(super::spec([("b", &broken)].into_iter()).containers.is_empty());
    }
}
