//! One allowed and one forbidden request for every identity that a component has, in process and over TLS.

use crate::secured::{Secured, pod, secured};
use crate::support::Fixture;
use http::Method;
use nauplius_apiserver::UserInfo;
use serde_json::{Value, json};

/// A request and what becomes of it: the code, and for refusals what the message ends with.
struct Try {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    expected: &'static str,
}

fn get(path: &'static str, expected: &'static str) -> Try {
    Try { method: "GET", path, body: None, expected }
}

fn post(path: &'static str, body: Value, expected: &'static str) -> Try {
    Try { method: "POST", path, body: Some(body), expected }
}

async fn check(who: &str, client: &Fixture, tries: &[Try]) {
    for one in tries {
        let body = one.body.as_ref().map(Value::to_string).unwrap_or_default();
        let headers = [(
            "content-type",
            if one.method == "PATCH" { "application/merge-patch+json" } else { "application/json" },
        )];
        let method = Method::from_bytes(one.method.as_bytes()).unwrap();
        let answer = client.with_headers(method, one.path, &headers, body).await;
        let said = if answer.code.is_success() { answer.code.as_u16().to_string() } else { answer.refusal() };
        assert!(said == one.expected, "{who}: {} {}:\n  {said}\n  {}", one.method, one.path, one.expected);
    }
}

/// The same as a user in process and with a client certificate.
async fn check_certificate(cluster: &Secured, name: &str, groups: &[&str], tries: &[Try]) {
    check(name, &cluster.local(name, groups), tries).await;
    check(name, &cluster.remote(Some((name, groups)), None), tries).await;
}

/// The same as a service account in process and with a token.
async fn check_account(cluster: &Secured, namespace: &str, name: &str, tries: &[Try]) {
    check(name, &cluster.as_user(UserInfo::service_account(namespace, name)), tries).await;
    let token = cluster.token(namespace, name, json!({})).await;
    check(name, &cluster.remote(None, Some(&token)), tries).await;
}

fn event(namespace: &str) -> Value {
    json!({"metadata": {"generateName": "e-"}, "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "p"},
        "reason": "R", "message": "m", "type": "Normal"})
}

#[tokio::test]
async fn components_have_their_own_rights_and_no_more() {
    let cluster = secured().await;
    check_certificate(
        &cluster,
        "system:kube-controller-manager",
        &[],
        &[
            get("/apis/apps/v1/deployments", "200"),
            post("/api/v1/namespaces/default/events", event("default"), "201"),
            post(
                "/api/v1/namespaces/default/pods",
                pod("x", ""),
                "403 pods is forbidden: User \"system:kube-controller-manager\" cannot create resource \"pods\" in API \
                 group \"\" in the namespace \"default\"",
            ),
        ],
    )
    .await;
    check_certificate(
        &cluster,
        "system:kube-scheduler",
        &[],
        &[
            get("/api/v1/pods", "200"),
            get(
                "/api/v1/secrets",
                "403 secrets is forbidden: User \"system:kube-scheduler\" cannot list resource \"secrets\" in API group \
                 \"\" at the cluster scope",
            ),
        ],
    )
    .await;
    check_certificate(
        &cluster,
        "system:kube-proxy",
        &[],
        &[
            get("/apis/discovery.k8s.io/v1/endpointslices", "200"),
            get("/apis/networking.k8s.io/v1/servicecidrs", "200"),
            get(
                "/api/v1/pods",
                "403 pods is forbidden: User \"system:kube-proxy\" cannot list resource \"pods\" in API group \"\" at the \
                 cluster scope",
            ),
        ],
    )
    .await;
    check_certificate(
        &cluster,
        "kube-apiserver-kubelet-client",
        &[],
        &[
            get("/api/v1/nodes", "200"),
            get(
                "/api/v1/namespaces/default/pods/p",
                "403 pods \"p\" is forbidden: User \"kube-apiserver-kubelet-client\" cannot get resource \"pods\" in API \
                 group \"\" in the namespace \"default\"",
            ),
        ],
    )
    .await;
    check_certificate(&cluster, "kubernetes-admin", &["system:masters"], &[get("/api/v1/secrets", "200")])
        .await;
}

#[tokio::test]
async fn each_controller_is_its_own_account() {
    const NODES: &str = "/api/v1/nodes";
    let refused = |name: &str, verb: &str| {
        let text = format!(
            "403 nodes is forbidden: User \"system:serviceaccount:kube-system:{name}\" cannot {verb} resource \"nodes\" in \
             API group \"\" at the cluster scope"
        );
        &*text.leak()
    };
    let cluster = secured().await;
    let allowed = [
        ("deployment-controller", "/apis/apps/v1/replicasets"),
        ("replicaset-controller", "/apis/apps/v1/replicasets"),
        ("endpoint-controller", "/api/v1/endpoints"),
        ("generic-garbage-collector", "/api/v1/configmaps"),
        ("namespace-controller", "/api/v1/secrets"),
        ("endpointslice-controller", "/apis/discovery.k8s.io/v1/endpointslices"),
        ("endpointslicemirroring-controller", "/api/v1/endpoints"),
        ("node-controller", "/apis/coordination.k8s.io/v1/leases"),
        ("job-controller", "/apis/batch/v1/jobs"),
        ("statefulset-controller", "/apis/apps/v1/statefulsets"),
        ("daemon-set-controller", "/apis/apps/v1/daemonsets"),
    ];
    let node = json!({"metadata": {"name": "evil"}});
    for (name, path) in allowed {
        let tries = [get(path, "200"), post(NODES, node.clone(), refused(name, "create"))];
        // A kind that is not served yet has its rights already.
        if cluster.admin().get(path).await.code == 404 {
            continue;
        }
        check_account(&cluster, "kube-system", name, &tries).await;
    }
    let account = |name: &str| json!({"metadata": {"generateName": format!("{name}-")}});
    let tries = [
        post("/api/v1/namespaces/default/serviceaccounts", account("a"), "201"),
        get(NODES, refused("service-account-controller", "list")),
    ];
    check_account(&cluster, "kube-system", "service-account-controller", &tries).await;
    let tries = [
        post("/api/v1/namespaces/default/configmaps", account("a"), "201"),
        get(NODES, refused("root-ca-cert-publisher", "list")),
    ];
    check_account(&cluster, "kube-system", "root-ca-cert-publisher", &tries).await;
    let tries = [get("/api/v1/services", "200"), get(NODES, refused("coredns", "list"))];
    check_account(&cluster, "kube-system", "coredns", &tries).await;
}

#[tokio::test]
async fn a_default_account_learns_who_it_is_and_what_it_may() {
    let cluster = secured().await;
    let review = |kind: &str, group: &str, spec: Value| json!({"kind": kind, "apiVersion": format!("{group}/v1"), "spec": spec});
    let tries = [
        get("/api", "200"),
        post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            review("SelfSubjectReview", "authentication.k8s.io", json!({})),
            "201",
        ),
        post(
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            review("SelfSubjectRulesReview", "authorization.k8s.io", json!({"namespace": "default"})),
            "201",
        ),
        get(
            "/api/v1/namespaces/default/pods",
            "403 pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API \
             group \"\" in the namespace \"default\"",
        ),
        post(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            review("TokenReview", "authentication.k8s.io", json!({"token": "x"})),
            "403 tokenreviews.authentication.k8s.io is forbidden: User \"system:serviceaccount:default:default\" cannot \
             create resource \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
    ];
    check_account(&cluster, "default", "default", &tries).await;
}

#[tokio::test]
async fn strangers_see_only_what_is_public() {
    let cluster = secured().await;
    let tries = [
        get("/api", "403 forbidden: User \"system:anonymous\" cannot get path \"/api\""),
        get("/openapi/v2", "403 forbidden: User \"system:anonymous\" cannot get path \"/openapi/v2\""),
        get("/metrics", "403 forbidden: User \"system:anonymous\" cannot get path \"/metrics\""),
        get(
            "/api/v1/namespaces",
            "403 namespaces is forbidden: User \"system:anonymous\" cannot list resource \"namespaces\" in API group \"\" \
             at the cluster scope",
        ),
    ];
    for client in [cluster.as_user(UserInfo::anonymous()), cluster.remote(None, None)] {
        for path in ["/healthz", "/livez", "/readyz", "/version"] {
            assert_eq!(client.get(path).await.code, 200, "{path}");
        }
        check("anonymous", &client, &tries).await;
        assert_eq!(client.get("/api").await.headers["x-content-type-options"], "nosniff");
        // Strangers are told in the format that they take, and that they are late before who they are.
        let yaml = client.with_headers(Method::GET, "/api", &[("accept", "application/yaml")], "").await;
        assert_eq!(
            (yaml.code.as_u16(), &yaml.headers["content-type"]),
            (403, &"application/yaml".parse().unwrap())
        );
        assert_eq!(client.get("/api?timeout=1ns").await.code, 504);
        assert_eq!(client.get("/api?timeout=x").await.code, 400);
    }
    // Wrong credentials do not become no credentials.
    for token in ["nonsense", "a.b.c"] {
        let answer = cluster.remote(None, Some(token)).get("/version").await;
        assert_eq!(answer.refusal(), "401 Unauthorized");
    }
}

/// A node with a pod that uses a secret, another node's pod, and what nobody refers to.
async fn nodes_with_pods(cluster: &Secured) {
    let admin = cluster.admin();
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}}))
        .await
        .expect(201);
    for node in ["n1", "n2"] {
        admin.post("/api/v1/nodes", &json!({"metadata": {"name": node}})).await.expect(201);
        let mut own = pod(&format!("on-{node}"), node);
        own["spec"]["volumes"] = json!([
            {"name": "s", "secret": {"secretName": format!("of-{node}")}},
            {"name": "c", "configMap": {"name": format!("of-{node}")}},
        ]);
        admin.post("/api/v1/namespaces/default/pods", &own).await.expect(201);
        let named = json!({"metadata": {"name": format!("of-{node}")}});
        admin.post("/api/v1/namespaces/default/secrets", &named).await.expect(201);
        admin.post("/api/v1/namespaces/default/configmaps", &named).await.expect(201);
    }
    let unused = json!({"metadata": {"name": "unused"}});
    admin.post("/api/v1/namespaces/default/secrets", &unused).await.expect(201);
    // A consistent read brings the caches up, as a kubelet's watch would show it its pods.
    admin.get("/api/v1/namespaces/default/secrets/unused").await.expect(200);
}

#[tokio::test]
async fn kubelets_read_what_their_pods_need() {
    let cluster = secured().await;
    nodes_with_pods(&cluster).await;
    let unrelated = |verb: &str, resource: &str, name: &str| {
        let text = format!(
            "403 {resource} \"{name}\" is forbidden: User \"system:node:n1\" cannot {verb} resource \"{resource}\" in API \
             group \"\" in the namespace \"default\": no relationship found between node 'n1' and this object"
        );
        &*text.leak()
    };
    let tries = [
        get("/api/v1/namespaces/default/secrets/of-n1", "200"),
        get(
            "/api/v1/secrets?fieldSelector=metadata.name%3Dof-n1",
            "403 secrets \"of-n1\" is forbidden: User \
             \"system:node:n1\" cannot list resource \"secrets\" in API group \"\" at the cluster scope: can only read \
             namespaced object of this type",
        ),
        get("/api/v1/namespaces/default/secrets/of-n2", unrelated("get", "secrets", "of-n2")),
        get("/api/v1/namespaces/default/secrets/unused", unrelated("get", "secrets", "unused")),
        get("/api/v1/namespaces/default/configmaps/of-n1", "200"),
        get("/api/v1/namespaces/default/configmaps/of-n2", unrelated("get", "configmaps", "of-n2")),
        get("/api/v1/namespaces/default/pods/on-n1", "200"),
        get("/api/v1/namespaces/default/pods/on-n2", unrelated("get", "pods", "on-n2")),
        get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "200"),
        get(
            "/api/v1/pods",
            "403 pods is forbidden: User \"system:node:n1\" cannot list resource \"pods\" in API group \"\" at the \
             cluster scope: can only list/watch pods with spec.nodeName field selector",
        ),
        get("/api/v1/nodes/n1", "200"),
        get(
            "/api/v1/nodes/n2",
            "403 nodes \"n2\" is forbidden: User \"system:node:n1\" cannot get resource \"nodes\" in API group \"\" at \
             the cluster scope: node 'n1' cannot read 'n2', only its own Node object",
        ),
        get(
            "/api/v1/nodes",
            "403 nodes is forbidden: User \"system:node:n1\" cannot list resource \"nodes\" in API group \"\" at the \
             cluster scope: node 'n1' cannot read all nodes, only its own Node object",
        ),
        get("/api/v1/services", "200"),
        get(
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2",
            "403 leases.coordination.k8s.io \"n2\" is forbidden: User \"system:node:n1\" cannot get resource \"leases\" \
             in API group \"coordination.k8s.io\" in the namespace \"kube-node-lease\": can only access node lease with \
             the same name as the requesting node",
        ),
        get(
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
            "404 leases.coordination.k8s.io \"n1\" not found",
        ),
    ];
    check_certificate(&cluster, "system:node:n1", &["system:nodes"], &tries).await;
    let rogue = [get(
        "/api/v1/namespaces/default/secrets/of-n1",
        "403 secrets \"of-n1\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in \
         the namespace \"default\"",
    )];
    check_certificate(&cluster, "system:node:n1", &[], &rogue).await;
}

#[tokio::test]
async fn kubelets_write_what_is_theirs() {
    let cluster = secured().await;
    nodes_with_pods(&cluster).await;
    let patch =
        |path: &'static str, body: Value, expected| Try { method: "PATCH", path, body: Some(body), expected };
    let delete = |path: &'static str, expected| Try { method: "DELETE", path, body: None, expected };
    let uid = cluster.admin().get("/api/v1/nodes/n1").await.expect(200)["metadata"]["uid"].clone();
    let mirror = |change: &dyn Fn(&mut Value)| {
        let mut mirror = pod("mirror", "n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
        change(&mut mirror);
        mirror
    };
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let pods = "/api/v1/namespaces/default/pods";
    let tries = [
        patch("/api/v1/namespaces/default/pods/on-n1/status", json!({"status": {"message": "m"}}), "200"),
        patch(
            "/api/v1/namespaces/default/pods/on-n1/status",
            json!({"metadata": {"labels": {"a": "b"}}}),
            "403 pods \"on-n1\" is forbidden: node \"n1\" cannot update labels through pod status",
        ),
        patch(
            "/api/v1/namespaces/default/pods/on-n2/status",
            json!({"status": {"message": "m"}}),
            "403 pods \"on-n2\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to \
             itself",
        ),
        delete(
            "/api/v1/namespaces/default/pods/on-n2",
            "403 pods \"on-n2\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself",
        ),
        patch("/api/v1/nodes/n1/status", json!({"status": {"phase": "Running"}}), "200"),
        patch("/api/v1/nodes/n1", json!({"metadata": {"labels": {"kubernetes.io/hostname": "h"}}}), "200"),
        patch(
            "/api/v1/nodes/n1",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
            "403 nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/control-plane",
        ),
        patch(
            "/api/v1/nodes/n1",
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
            "403 nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints",
        ),
        patch(
            "/api/v1/nodes/n2/status",
            json!({"status": {"phase": "Running"}}),
            "403 nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"",
        ),
        post(
            "/api/v1/nodes",
            json!({"metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/a": "b"}}}),
            "403 nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: \
             node-restriction.kubernetes.io/a",
        ),
        post(
            leases,
            json!({"metadata": {"name": "n2"}}),
            "403 leases.coordination.k8s.io \"n2\" is forbidden: can only access \
             node lease with the same name as the requesting node",
        ),
        post(
            pods,
            pod("plain", "n1"),
            "403 pods \"plain\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can \
             only create mirror pods",
        ),
        post(
            pods,
            mirror(&|pod| pod["metadata"]["ownerReferences"] = json!([])),
            "403 pods \"mirror\" is forbidden: node \"n1\" can only create pods with an owner reference set to itself",
        ),
        post(
            pods,
            mirror(&|pod| pod["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "c"}}])),
            "403 pods \"mirror\" is forbidden: node \"n1\" can not create pods that reference configmaps",
        ),
        post(
            pods,
            mirror(&|pod| pod["spec"]["serviceAccountName"] = Value::from("default")),
            "403 pods \"mirror\" is forbidden: a mirror pod may not reference service accounts",
        ),
        post("/api/v1/namespaces/default/pods?dryRun=All", mirror(&|_| {}), "201"),
    ];
    check_certificate(&cluster, "system:node:n1", &["system:nodes"], &tries).await;
}
