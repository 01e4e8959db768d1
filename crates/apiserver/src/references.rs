//! Which other objects a pod or a persistent volume refers to, by kind. Shared by the Node authorizer and admission; who asks, and
//! what may be done with the answer, is not known here.

use serde_json::Value;

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// Volume sources of drivers whose `secretRef` names a secret.
const DRIVERS: [&str; 8] =
    ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "glusterfs"];

/// A kind of object that pods refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
}

impl Reference {
    /// The names of all objects of this kind, in the pod's namespace, that the pod refers to.
    pub(crate) fn names(self, pod: &Value) -> Vec<&str> {
        let spec = &pod["spec"];
        match self {
            Self::Secret => secrets(spec),
            Self::ConfigMap => config_maps(spec),
            Self::Claim => items(&spec["volumes"])
                .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
                .collect(),
            Self::ResourceClaim => {
                let named = items(&spec["resourceClaims"]).map(|claim| &claim["resourceClaimName"]);
                let made =
                    items(&pod["status"]["resourceClaimStatuses"]).map(|claim| &claim["resourceClaimName"]);
                named.chain(made).filter_map(Value::as_str).collect()
            }
            Self::ServiceAccount => spec["serviceAccountName"].as_str().into_iter().collect(),
        }
    }

    /// Whether the pod refers to the object of this name.
    pub(crate) fn is_in(self, pod: &Value, name: &str) -> bool {
        self.names(pod).contains(&name) || (self == Self::Claim && has_ephemeral_claim(pod, name))
    }
}

/// A claim that is made for a volume of one pod carries the names of both.
fn has_ephemeral_claim(pod: &Value, name: &str) -> bool {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let Some(volume) = name.strip_prefix(pod_name).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    items(&pod["spec"]["volumes"]).any(|own| !own["ephemeral"].is_null() && own["name"] == volume)
}

fn secrets(spec: &Value) -> Vec<&str> {
    let mut names: Vec<&Value> = items(&spec["imagePullSecrets"])
        .map(|secret| &secret["name"])
        .chain(environment(spec, "secret"))
        .collect();
    for volume in items(&spec["volumes"]) {
        names.push(&volume["secret"]["secretName"]);
        names.push(&volume["azureFile"]["secretName"]);
        names.push(&volume["csi"]["nodePublishSecretRef"]["name"]);
        names.extend(DRIVERS.iter().map(|driver| &volume[*driver]["secretRef"]["name"]));
        names.extend(items(&volume["projected"]["sources"]).map(|source| &source["secret"]["name"]));
    }
    names.into_iter().filter_map(Value::as_str).collect()
}

fn config_maps(spec: &Value) -> Vec<&str> {
    let mut names: Vec<&Value> = environment(spec, "configMap").collect();
    for volume in items(&spec["volumes"]) {
        names.push(&volume["configMap"]["name"]);
        names.extend(items(&volume["projected"]["sources"]).map(|source| &source["configMap"]["name"]));
    }
    names.into_iter().filter_map(Value::as_str).collect()
}

/// What the environments of all containers refer to: `kind` is `secret` or `configMap`.
fn environment<'a>(spec: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    let (one, all) = (format!("{kind}KeyRef"), format!("{kind}Ref"));
    containers(spec).flat_map(move |container| {
        let variables = items(&container["env"]).map(|variable| &variable["valueFrom"][one.as_str()]["name"]);
        let sources = items(&container["envFrom"]).map(|source| &source[all.as_str()]["name"]);
        variables.chain(sources).collect::<Vec<&Value>>()
    })
}

/// Containers of every sort.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.into_iter().flat_map(|list| items(&spec[list]))
}

/// The secrets that a kubelet needs to mount a persistent volume: namespace and name.
pub(crate) fn secrets_of_volume(volume: &Value) -> Vec<(&str, &str)> {
    let spec = &volume["spec"];
    let claim = spec["claimRef"]["namespace"].as_str().unwrap_or_default();
    let csi = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
    let references = csi.iter().map(|key| &spec["csi"][*key]);
    let references = references.chain(DRIVERS.iter().map(|driver| &spec[*driver]["secretRef"]));
    let named = references.filter_map(|reference| {
        Some((reference["namespace"].as_str().unwrap_or(claim), reference["name"].as_str()?))
    });
    let azure = &spec["azureFile"];
    let azure =
        azure["secretName"].as_str().map(|name| (azure["secretNamespace"].as_str().unwrap_or(claim), name));
    named.chain(azure).collect()
}

pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_refer_is_seen() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "builder",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}],
                "envFrom": [{"configMapRef": {"name": "all"}}]}],
            "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "late"}}]}],
            "resourceClaims": [{"resourceClaimName": "gpu"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "file"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "half"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "disk"}},
                {"name": "d", "ephemeral": {}},
                {"name": "e", "csi": {"nodePublishSecretRef": {"name": "driver"}}},
            ],
        }});
        assert_eq!(Reference::Secret.names(&pod), ["pull", "key", "late", "file", "part", "driver"]);
        assert_eq!(Reference::ConfigMap.names(&pod), ["all", "half"]);
        assert!(Reference::Claim.is_in(&pod, "disk"));
        assert!(Reference::Claim.is_in(&pod, "p-d"));
        assert!(!Reference::Claim.is_in(&pod, "p-a"));
        assert!(Reference::ResourceClaim.is_in(&pod, "gpu"));
        assert!(Reference::ServiceAccount.is_in(&pod, "builder"));
        let volume = json!({"spec": {"claimRef": {"namespace": "n"}, "rbd": {"secretRef": {"name": "r"}},
            "csi": {"nodeStageSecretRef": {"namespace": "m", "name": "s"}}}});
        assert_eq!(secrets_of_volume(&volume), [("m", "s"), ("n", "r")]);
    }
}
