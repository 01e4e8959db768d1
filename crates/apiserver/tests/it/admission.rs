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
