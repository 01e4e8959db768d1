//! The defaults of a pod spec. Those of a template are fewer than those of a pod, so that a template does not change when a
//! release learns a new default.

use crate::resource::{canonicalize, canonicalize_requirements, default_requests};
use crate::tree::{child, default, default_nonzero, each, flag, get, set, text, with};
use serde_json::{Value, json};

const CONTAINERS: &[&str] = &["initContainers", "containers", "ephemeralContainers"];
const FILE_MODE: i64 = 0o644;

/// What only a pod gets, besides what its spec gets.
pub(crate) fn default_pod(spec: &mut Value) {
    default_spec(spec);
    default_requests(spec, "containers");
    default_requests(spec, "initContainers");
    default_pod_requests(spec);
    default(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        default_host_ports(spec, "containers");
        default_host_ports(spec, "initContainers");
    }
}

/// Requests of the pod as a whole that are not given, where it has limits: what its containers request, else the limit.
fn default_pod_requests(spec: &mut Value) {
    let totals = crate::pod_requests::containers(spec);
    with(spec, "resources", |resources| {
        let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
        if limits.is_empty() {
            return;
        }
        let requests = child(resources, "requests");
        for name in ["cpu", "memory"] {
            if let Some(total) = totals.get(name) {
                default(requests, name, total.canonical());
            }
        }
        for (name, limit) in limits {
            default(requests, &name, limit);
        }
    });
}

fn default_host_ports(spec: &mut Value, containers: &str) {
    each(spec, containers, |container| {
        each(container, "ports", |port| {
            let number = crate::tree::count(port, "containerPort");
            default_nonzero(port, "hostPort", number);
        });
    });
}

/// The defaults of every pod spec.
pub(crate) fn default_spec(spec: &mut Value) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    child(spec, "securityContext");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    each(spec, "volumes", default_volume);
    for containers in CONTAINERS {
        each(spec, containers, default_container);
    }
    canonicalize(spec, "overhead");
    canonicalize_requirements(spec);
}

/// `serviceAccount` is the deprecated twin of `serviceAccountName` and always shows the same.
pub(crate) fn mirror_service_account(spec: &mut Value) {
    let old_name = text(spec, "serviceAccount").to_owned();
    if !old_name.is_empty() {
        default(spec, "serviceAccountName", old_name);
    }
    let name = text(spec, "serviceAccountName").to_owned();
    if !name.is_empty() {
        set(spec, "serviceAccount", name);
    }
}

fn default_container(container: &mut Value) {
    let policy = default_pull_policy(text(container, "image"));
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    child(container, "resources");
    canonicalize_requirements(container);
    each(container, "ports", |port| default(port, "protocol", "TCP"));
    each(container, "env", |variable| {
        with(variable, "valueFrom", |source| {
            with(source, "fieldRef", |reference| default(reference, "apiVersion", "v1"));
            with(source, "resourceFieldRef", default_divisor);
            with(source, "fileKeyRef", |reference| default(reference, "optional", false));
        });
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, probe, default_probe);
    }
    with(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            with(lifecycle, hook, |handler| with(handler, "httpGet", default_http_get));
        }
    });
}

/// A latest image, or one without tag and digest, is always pulled.
fn default_pull_policy(image: &str) -> &'static str {
    if image_tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// The tag that an image reference means; `None` with a digest alone, and for what is no reference.
pub(crate) fn image_tag(image: &str) -> Option<&str> {
    let (name, has_digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => name,
    };
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    if path.is_empty() || !path.chars().all(valid) {
        return None;
    }
    tag.or((!has_digest).then_some("latest"))
}

fn default_divisor(reference: &mut Value) {
    default(reference, "divisor", "0");
}

fn default_probe(probe: &mut Value) {
    default_nonzero(probe, "timeoutSeconds", 1);
    default_nonzero(probe, "periodSeconds", 10);
    default_nonzero(probe, "successThreshold", 1);
    default_nonzero(probe, "failureThreshold", 3);
    with(probe, "httpGet", default_http_get);
    with(probe, "grpc", |grpc| {
        if get(grpc, "service").is_none() {
            set(grpc, "service", "");
        }
    });
}

fn default_http_get(action: &mut Value) {
    default(action, "path", "/");
    default(action, "scheme", "HTTP");
}

fn default_volume(volume: &mut Value) {
    let sources = volume
        .as_object()
        .map_or(0, |map| map.iter().filter(|(key, v)| *key != "name" && !v.is_null()).count());
    if sources == 0 {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        with(volume, source, |source| default(source, "defaultMode", FILE_MODE));
    }
    with(volume, "downwardAPI", default_downward_files);
    with(volume, "projected", |projected| each(projected, "sources", default_projection));
    default_volume_source(volume);
    with(volume, "ephemeral", |source| {
        with(source, "volumeClaimTemplate", |template| {
            default(child(template, "spec"), "volumeMode", "Filesystem")
        });
    });
    with(volume, "image", |source| {
        let policy = default_pull_policy(text(source, "reference"));
        default(source, "pullPolicy", policy);
    });
}

/// The defaults of sources that a pod and a persistent volume may have.
pub(crate) fn default_volume_source(volume: &mut Value) {
    with(volume, "hostPath", |source| {
        if get(source, "type").is_none() {
            set(source, "type", "");
        }
    });
    with(volume, "iscsi", |source| default(source, "iscsiInterface", "default"));
    with(volume, "rbd", |source| {
        default(source, "pool", "rbd");
        default(source, "user", "admin");
        default(source, "keyring", "/etc/ceph/keyring");
    });
    with(volume, "azureDisk", |source| {
        default(source, "cachingMode", "ReadWrite");
        default(source, "kind", "Shared");
        default(source, "fsType", "ext4");
        default(source, "readOnly", false);
    });
    with(volume, "scaleIO", |source| {
        default(source, "storageMode", "ThinProvisioned");
        default(source, "fsType", "xfs");
    });
}

fn default_downward_files(source: &mut Value) {
    each(source, "items", |file| {
        with(file, "fieldRef", |reference| default(reference, "apiVersion", "v1"));
        with(file, "resourceFieldRef", default_divisor);
    });
}

fn default_projection(source: &mut Value) {
    with(source, "downwardAPI", default_downward_files);
    with(source, "serviceAccountToken", |token| default(token, "expirationSeconds", 3600));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_how_an_image_is_pulled() {
        let check = |image, expected| assert_eq!(default_pull_policy(image), expected, "{image}");
        check("demo", "Always");
        check("demo:latest", "Always");
        check("demo:1", "IfNotPresent");
        check("host:5000/demo", "Always");
        check("host:5000/demo:2", "IfNotPresent");
        check("demo@sha256:00", "IfNotPresent");
        check("demo:latest@sha256:00", "Always");
        check("Upper", "IfNotPresent");
        check("", "IfNotPresent");
    }

    #[test]
    fn a_small_pod_spec_is_filled() {
        let mut spec = json!({"containers": [{"name": "a", "image": "demo:1", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "0.1"}}}], "volumes": [{"name": "v"}]});
        default_pod(&mut spec);
        let expected = json!({
            "containers": [{
                "name": "a", "image": "demo:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "100m"}, "requests": {"cpu": "100m"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        });
        assert_eq!(spec, expected);
    }

    #[test]
    fn volumes_and_probes_are_filled() {
        let mut spec = json!({
            "containers": [{"name": "a", "image": "demo", "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "s"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                    {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
                {"name": "h", "hostPath": {"path": "/tmp"}},
            ],
        });
        default_spec(&mut spec);
        let probe = json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
            "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
        assert_eq!(spec["containers"][0]["livenessProbe"], probe);
        assert_eq!(spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(spec["volumes"][0]["secret"]["defaultMode"], 420);
        assert_eq!(spec["volumes"][1]["projected"]["defaultMode"], 420);
        let sources = &spec["volumes"][1]["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 3600);
        assert_eq!(sources[1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(spec["volumes"][2]["hostPath"]["type"], "");
        assert!(spec.get("enableServiceLinks").is_none(), "a template is not told");
    }

    #[test]
    fn host_network_takes_the_ports_of_the_host() {
        let mut spec =
            json!({"hostNetwork": true, "containers": [{"name": "a", "ports": [{"containerPort": 80}]}]});
        default_pod(&mut spec);
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
    }
}
