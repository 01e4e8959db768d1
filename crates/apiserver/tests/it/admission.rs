//! Admission as tables: what is changed, and what is refused in which words.

use crate::secured::{Secured, pod, secured};
use crate::support::Fixture;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn account(admin: &Fixture, namespace: &str, object: Value) {
    admin.post(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &object).await.expect(201);
}

async fn cluster() -> (Secured, Fixture) {
    let cluster = secured().await;
    let admin = cluster.admin();
    account(&admin, "default", json!({"metadata": {"name": "default"}})).await;
    (cluster, admin)
}

fn with(name: &str, spec: Value) -> Value {
    let mut pod = pod(name, "");
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[tokio::test]
async fn nothing_is_made_where_there_is_no_namespace() {
    let (_cluster, admin) = cluster().await;
    let missing = "404 namespaces \"nope\" not found";
    assert_eq!(admin.post("/api/v1/namespaces/nope/pods", &pod("a", "")).await.refusal(), missing);
    let map = json!({"metadata": {"name": "a"}});
    assert_eq!(admin.post("/api/v1/namespaces/nope/configmaps", &map).await.refusal(), missing);
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "going"}})).await.expect(201);
    admin.post("/api/v1/namespaces/going/configmaps", &map).await.expect(201);
    admin.delete("/api/v1/namespaces/going").await.expect(200);
    admin.get("/api/v1/namespaces/going").await.expect(200);
    let refused = admin.post("/api/v1/namespaces/going/secrets", &map).await;
    assert_eq!(
        refused.refusal(),
        "403 secrets \"a\" is forbidden: unable to create new content in namespace going because it is being terminated"
    );
    assert_eq!(
        refused.json()["details"]["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace going is being terminated",
            "field": "metadata.namespace"}])
    );
    let changed = json!({"data": {"k": "v"}});
    let maps = "/api/v1/namespaces/going/configmaps/a";
    admin.patch(maps, "application/merge-patch+json", &changed).await.expect(200);
    admin.delete(maps).await.expect(200);
    for name in ["default", "kube-system", "kube-public"] {
        let refused = admin.delete(&format!("/api/v1/namespaces/{name}")).await;
        assert_eq!(
            refused.refusal(),
            format!("403 namespaces \"{name}\" is forbidden: this namespace may not be deleted")
        );
    }
}

#[tokio::test]
async fn a_pod_has_the_priority_of_its_class() {
    let (_cluster, admin) = cluster().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    admin.post(classes, &class("high", 1000, false)).await.expect(201);
    let refusals = [
        (
            json!({"priorityClassName": "no"}),
            "403 pods \"p\" is forbidden: no PriorityClass with name no was found",
        ),
        (
            json!({"priorityClassName": "high", "priority": 7}),
            "403 pods \"p\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority \
             admission controller computed 1000 from the given PriorityClass name",
        ),
        (
            json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
            "403 pods \"p\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be \
             provided in pod spec; priority admission controller computed Never from the given PriorityClass name",
        ),
    ];
    for (spec, expected) in refusals {
        assert_eq!(admin.post(PODS, &with("p", spec)).await.refusal(), expected);
    }
    let made = [
        ("plain", json!({}), 0, "PreemptLowerPriority", Value::Null),
        ("high", json!({"priorityClassName": "high", "priority": 1000}), 1000, "Never", json!("high")),
        (
            "critical",
            json!({"priorityClassName": "system-node-critical"}),
            2_000_001_000,
            "PreemptLowerPriority",
            json!("system-node-critical"),
        ),
    ];
    for (name, spec, priority, policy, class) in made {
        let made = admin.post(PODS, &with(name, spec)).await.expect(201);
        assert_eq!(made["spec"]["priority"], priority, "{name}");
        assert_eq!(made["spec"]["preemptionPolicy"], policy, "{name}");
        assert_eq!(made["spec"]["priorityClassName"], class, "{name}");
    }
    admin.post(classes, &class("usual", 5, true)).await.expect(201);
    let second = admin.post(classes, &class("other", 6, true)).await;
    assert_eq!(
        second.refusal(),
        "403 priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. \
         Only one default can exist"
    );
    admin.get(&format!("{classes}/usual")).await.expect(200);
    let by_default = admin.post(PODS, &pod("by-default", "")).await.expect(201);
    assert_eq!(by_default["spec"]["priorityClassName"], "usual");
    assert_eq!(by_default["spec"]["priority"], 5);
    assert_eq!(
        admin.delete(&format!("{classes}/system-node-critical")).await.refusal(),
        "403 priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and \
         cannot be deleted"
    );
}

#[tokio::test]
async fn a_pod_runs_as_an_account_that_exists() {
    let (_cluster, admin) = cluster().await;
    let made = admin.post(PODS, &pod("a", "")).await.expect(201);
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["serviceAccount"], "default");
    let volume = &made["spec"]["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(
        volume["projected"]["sources"][0]["serviceAccountToken"],
        json!({"expirationSeconds": 3607, "path": "token"})
    );
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    let seconds =
        made["spec"]["tolerations"].as_array().unwrap().iter().map(|one| one["tolerationSeconds"].clone());
    assert_eq!(seconds.collect::<Vec<_>>(), [300, 300]);

    let refused = admin.post(PODS, &with("b", json!({"serviceAccountName": "nobody"}))).await;
    assert_eq!(
        refused.refusal(),
        "403 pods \"b\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    let mut generated = with("", json!({"serviceAccountName": "nobody"}));
    generated["metadata"] = json!({"generateName": "web-"});
    assert_eq!(
        admin.post(PODS, &generated).await.refusal(),
        "403 pods \"web-\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    let quiet = json!({"metadata": {"name": "quiet"}, "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "pull"}]});
    account(&admin, "default", quiet).await;
    let made = admin.post(PODS, &with("c", json!({"serviceAccountName": "quiet"}))).await.expect(201);
    assert!(made["spec"]["volumes"].is_null());
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
}

#[tokio::test]
async fn an_account_may_bound_the_secrets_of_its_pods() {
    let (_cluster, admin) = cluster().await;
    let strict = json!({"metadata": {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "secrets": [{"name": "known"}]});
    account(&admin, "default", strict).await;
    let refused = |what: &str| {
        format!(
            "403 pods \"p\" is forbidden: {what} is not allowed because service account strict does not reference that secret"
        )
    };
    let container = |fields: Value| {
        let mut container = json!({"name": "c", "image": "i"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let cases = [
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
            refused("volume with secret.secretName=\"other\""),
        ),
        (
            container(json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]})),
            refused("container c with envVar E referencing secret.secretName=\"other\""),
        ),
        (
            container(json!({"envFrom": [{"secretRef": {"name": "other"}}]})),
            refused("container c with envFrom referencing secret.secretName=\"other\""),
        ),
        (
            json!({"imagePullSecrets": [{"name": "other"}]}),
            "403 pods \"p\" is forbidden: imagePullSecrets[0].name=\"other\" is not allowed because service account \
             strict does not reference that imagePullSecret"
                .to_owned(),
        ),
    ];
    for (mut spec, expected) in cases {
        spec["serviceAccountName"] = json!("strict");
        assert_eq!(admin.post(PODS, &with("p", spec)).await.refusal(), expected);
    }
    let spec = json!({"serviceAccountName": "strict", "volumes": [{"name": "v", "secret": {"secretName": "known"}}]});
    admin.post(PODS, &with("p", spec)).await.expect(201);
}

#[tokio::test]
async fn a_pod_waits_for_the_account_of_a_new_namespace() {
    let (cluster, admin) = cluster().await;
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "fresh"}})).await.expect(201);
    let other = cluster.admin();
    let pod = pod("early", "");
    let early = admin.post("/api/v1/namespaces/fresh/pods", &pod);
    let later = account(&other, "fresh", json!({"metadata": {"name": "default"}}));
    let (made, ()) = tokio::join!(early, later);
    assert_eq!(made.expect(201)["spec"]["serviceAccountName"], "default");
}

#[tokio::test]
async fn limit_ranges_fill_and_bound() {
    let (_cluster, admin) = cluster().await;
    let ranges = "/api/v1/namespaces/default/limitranges";
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]}});
    admin.post(ranges, &range).await.expect(201);
    let made = admin.post(PODS, &pod("a", "")).await.expect(201);
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}));
    let note = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"].as_str().unwrap();
    assert!(note.starts_with("LimitRanger plugin set: cpu request for container "), "{note}");
    let mut big = pod("b", "");
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    assert_eq!(
        admin.post(PODS, &big).await.refusal(),
        "403 pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
    }});
    assert_eq!(
        admin.post("/api/v1/namespaces/default/persistentvolumeclaims", &claim).await.refusal(),
        "403 persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request \
         is 2Gi"
    );
}

#[tokio::test]
async fn claims_and_ingresses_get_the_default_class() {
    let (_cluster, admin) = cluster().await;
    let class = |name: &str, extra: Value| {
        let mut class = json!({"metadata": {"name": name, "annotations": {}}});
        nauplius_meta::patch::merge::apply(&mut class, extra);
        class
    };
    let storage = json!({"provisioner": "example.com/disk", "metadata": {"annotations": {
        "storageclass.kubernetes.io/is-default-class": "true",
    }}});
    admin.post("/apis/storage.k8s.io/v1/storageclasses", &class("usual", storage)).await.expect(201);
    let ingress = json!({"spec": {"controller": "example.com/c"}, "metadata": {"annotations": {
        "ingressclass.kubernetes.io/is-default-class": "true",
    }}});
    admin.post("/apis/networking.k8s.io/v1/ingressclasses", &class("front", ingress)).await.expect(201);
    // The classes are seen at once.
    admin.get("/apis/storage.k8s.io/v1/storageclasses/usual").await.expect(200);
    admin.get("/apis/networking.k8s.io/v1/ingressclasses").await.expect(200);
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str, class: Value| {
        json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        }})
    };
    let made = admin.post(claims, &claim("a", Value::Null)).await.expect(201);
    assert_eq!(made["spec"]["storageClassName"], "usual");
    let made = admin.post(claims, &claim("none", json!(""))).await.expect(201);
    assert_eq!(made["spec"]["storageClassName"], "");
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}});
    let made =
        admin.post("/apis/networking.k8s.io/v1/namespaces/default/ingresses", &ingress).await.expect(201);
    assert_eq!(made["spec"]["ingressClassName"], "front");
    // And a claim grows only where its class lets it.
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let merge = "application/merge-patch+json";
    let of_claim = format!("{claims}/a");
    let volume = json!({"spec": {"volumeName": "v"}, "status": null});
    admin.patch(&of_claim, merge, &volume).await.expect(200);
    admin
        .patch(&format!("{of_claim}/status"), merge, &json!({"status": {"phase": "Bound"}}))
        .await
        .expect(200);
    assert_eq!(
        admin.patch(&of_claim, merge, &more).await.refusal(),
        "403 persistentvolumeclaims \"a\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass \
         that provisions the pvc must support resize"
    );
    let allows = json!({"allowVolumeExpansion": true});
    admin.patch("/apis/storage.k8s.io/v1/storageclasses/usual", merge, &allows).await.expect(200);
    admin.get("/apis/storage.k8s.io/v1/storageclasses/usual").await.expect(200);
    admin.patch(&of_claim, merge, &more).await.expect(200);
}

#[tokio::test]
async fn a_pod_costs_what_its_runtime_class_says() {
    let (_cluster, admin) = cluster().await;
    let class = json!({
        "metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
    });
    admin.post("/apis/node.k8s.io/v1/runtimeclasses", &class).await.expect(201);
    let made = admin.post(PODS, &with("a", json!({"runtimeClassName": "vm"}))).await.expect(201);
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"vm": "yes"}));
    let tolerations = made["spec"]["tolerations"].as_array().unwrap();
    assert!(tolerations.contains(&json!({"key": "vm", "operator": "Exists"})), "{tolerations:?}");
    let refusals = [
        (json!({"runtimeClassName": "no"}), "pod rejected: RuntimeClass \"no\" not found"),
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ];
    for (spec, expected) in refusals {
        let refusal = admin.post(PODS, &with("p", spec)).await.refusal();
        assert_eq!(refusal, format!("403 pods \"p\" is forbidden: {expected}"));
    }
}

#[tokio::test]
async fn pods_keep_to_the_level_of_their_namespace() {
    let (_cluster, admin) = cluster().await;
    admin.post(PODS, &with("loose", json!({"hostNetwork": true}))).await.expect(201);
    let merge = "application/merge-patch+json";
    let level = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let namespace = "/api/v1/namespaces/default";
    assert_eq!(
        admin.patch(namespace, merge, &level("tight")).await.refusal(),
        "422 Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"tight\": \
         must be one of privileged, baseline, restricted"
    );
    admin.get(PODS).await.expect(200);
    let answer = admin.patch(namespace, merge, &level("baseline")).await;
    assert_eq!(answer.code.as_u16(), 200, "{}", answer.json());
    let warnings: Vec<_> =
        answer.headers.get_all("warning").iter().map(|text| text.to_str().unwrap()).collect();
    assert!(warnings[0].contains("existing pods in namespace"), "{warnings:?}");
    assert!(warnings[1].contains("loose: host namespaces"), "{warnings:?}");
    admin.get(namespace).await.expect(200);
    assert_eq!(
        admin.post(PODS, &with("p", json!({"hostNetwork": true, "hostPID": true}))).await.refusal(),
        "403 pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true, hostPID=true)"
    );
    admin.post(PODS, &pod("sound", "")).await.expect(201);
    // What is not significant may change, also of a pod that would not be let in now.
    admin
        .patch(&format!("{PODS}/loose"), merge, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "hostIPC": true, "containers": [{"name": "c", "image": "i"}],
    }});
    let set = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let answer = admin.post("/apis/apps/v1/namespaces/default/deployments", &set).await;
    let warning = answer.headers["warning"].to_str().unwrap();
    let expected = "would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostIPC=true)";
    assert!(warning.contains(expected), "{warning}");
    answer.expect(201);
}

#[tokio::test]
async fn only_who_may_speaks_for_a_signer() {
    let (cluster, admin) = cluster().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = |name: &str, organization: &str| {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "jane");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
        json!({"metadata": {"name": name}, "spec": {
            "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem),
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        }})
    };
    assert_eq!(
        admin.post(requests, &request("all", "system:masters")).await.refusal(),
        "403 certificatesigningrequests.certificates.k8s.io \"all\" is forbidden: use of kubernetes.io/kube-apiserver-client \
         signer with system:masters group is not allowed"
    );
    admin.post(requests, &request("some", "devs")).await.expect(201);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "approver"}, "rules": [{
        "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
        "verbs": ["get", "update", "patch"],
    }]});
    admin.post(&format!("{rbac}/clusterroles"), &role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "approver"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "approver"},
    });
    admin.post(&format!("{rbac}/clusterrolebindings"), &binding).await.expect(201);
    let jane = cluster.local("jane", &[]);
    let approved =
        json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Fine"}]}});
    let (path, merge) = (format!("{requests}/some/approval"), "application/merge-patch+json");
    assert_eq!(
        jane.patch(&path, merge, &approved).await.refusal(),
        "403 certificatesigningrequests.certificates.k8s.io \"some\" is forbidden: user not permitted to approve requests with \
         signerName \"kubernetes.io/kube-apiserver-client\""
    );
    let signers = json!({"rules": [role["rules"][0], {
        "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/*"], "verbs": ["approve"],
    }]});
    admin.patch(&format!("{rbac}/clusterroles/approver"), merge, &signers).await.expect(200);
    admin.get(&format!("{rbac}/clusterroles/approver")).await.expect(200);
    jane.patch(&path, merge, &approved).await.expect(200);
}
