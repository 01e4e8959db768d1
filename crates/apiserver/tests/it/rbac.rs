//! Role-based access control: what is granted holds from the next request on, nobody grants what he does not have, and reviews tell
//! it all.

use crate::secured::{Secured, secured};
use crate::support::Fixture;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn rule(groups: Value, resources: Value, verbs: Value) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": user}]})
}

/// Joe, who may do as a namespace's admin does, in `default`.
async fn joe(cluster: &Secured) -> Fixture {
    let admin = cluster.admin();
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    admin.post(&bindings, &binding("joe", "ClusterRole", "admin", "joe")).await.expect(201);
    cluster.remote(Some(("joe", &["devs"])), None)
}

#[tokio::test]
async fn rights_come_and_go_with_the_next_request() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let jane = cluster.remote(Some(("jane", &[])), None);
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let pods = "/api/v1/namespaces/default/pods";
    let refused = "403 pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \
                   \"default\"";
    for _ in 0..10 {
        assert_eq!(jane.get(pods).await.refusal(), refused);
        admin.post(&bindings, &binding("b", "Role", "reader", "jane")).await.expect(201);
        let missing = format!("{refused}: RBAC: role.{GROUP} \"reader\" not found");
        assert_eq!(jane.get(pods).await.refusal(), missing);
        admin
            .post(&roles, &role("reader", json!([rule(json!([""]), json!(["pods"]), json!(["list"]))])))
            .await
            .expect(201);
        jane.get(pods).await.expect(200);
        let wrong = "403 pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \
                     \"kube-system\"";
        assert_eq!(jane.get("/api/v1/namespaces/kube-system/pods").await.refusal(), wrong);
        admin.delete(&format!("{bindings}/b")).await.expect(200);
        assert_eq!(jane.get(pods).await.refusal(), refused);
        admin.delete(&format!("{roles}/reader")).await.expect(200);
    }
}

#[tokio::test]
async fn a_stream_that_is_asked_for_with_get_needs_create_too() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let joe = cluster.local("joe", &[]);
    admin.post(&bindings, &binding("b", "Role", "streamer", "joe")).await.expect(201);
    for subresource in ["exec", "attach", "portforward"] {
        let resource = format!("pods/{subresource}");
        let path = format!("/api/v1/namespaces/default/pods/p/{subresource}");
        let refused = |verb: &str| {
            format!(
                "403 pods \"p\" is forbidden: User \"joe\" cannot {verb} resource \"{resource}\" in API group \"\" in the \
                 namespace \"default\""
            )
        };
        for (verbs, expected) in [
            (json!(["get"]), refused("create")),
            (json!(["create"]), refused("get")),
            // Nobody in this test speaks to kubelets.
            (json!(["get", "create"]), "501 this server has no credentials for kubelets".to_owned()),
        ] {
            let rules = json!([rule(json!([""]), json!([resource]), verbs)]);
            admin.post(&roles, &role("streamer", rules)).await.expect(201);
            let told = joe.get(&path).await.refusal();
            assert_eq!(told, expected);
            admin.delete(&format!("{roles}/streamer")).await.expect(200);
        }
    }
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_have() {
    let cluster = secured().await;
    let joe = joe(&cluster).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let held = rule(json!([""]), json!(["pods"]), json!(["get", "list"]));
    joe.post(&roles, &role("own", json!([held]))).await.expect(201);
    let more = json!([rule(json!([""]), json!(["nodes", "pods"]), json!(["get", "delete"]))]);
    let refusal = |name: &str, resource: &str, lines: &str| {
        format!(
            "403 {resource}.{GROUP} \"{name}\" is forbidden: user \"joe\" (groups=[\"devs\" \"system:authenticated\"]) is \
             attempting to grant RBAC permissions not currently held:\n{lines}"
        )
    };
    let nodes = r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get" "delete"]}"#;
    assert_eq!(
        joe.post(&roles, &role("more", more.clone())).await.refusal(),
        refusal("more", "roles", nodes)
    );
    let changed = json!({"rules": more});
    let own = format!("{roles}/own");
    let merge = "application/merge-patch+json";
    assert_eq!(joe.patch(&own, merge, &changed).await.refusal(), refusal("own", "roles", nodes));
    let owned = json!({"metadata": {"finalizers": ["example.com/x"]}});
    joe.patch(&own, merge, &owned).await.expect(200);

    let to_view = binding("view", "ClusterRole", "view", "friend");
    joe.post(&bindings, &to_view).await.expect(201);
    let to_admin = binding("all", "ClusterRole", "cluster-admin", "joe");
    let everything =
        "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}";
    assert_eq!(joe.post(&bindings, &to_admin).await.refusal(), refusal("all", "rolebindings", everything));
    let to_nothing = binding("none", "ClusterRole", "no-such", "joe");
    assert_eq!(
        joe.post(&bindings, &to_nothing).await.refusal(),
        format!("404 clusterroles.{GROUP} \"no-such\" not found")
    );
}

#[tokio::test]
async fn escalate_and_bind_are_rights_of_their_own() {
    let cluster = secured().await;
    let (admin, joe) = (cluster.admin(), joe(&cluster).await);
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let special = json!([
        {"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["cluster-admin"]},
        {"apiGroups": [GROUP], "resources": ["roles"], "verbs": ["escalate"]},
    ]);
    admin.post(&roles, &role("special", special)).await.expect(201);
    admin.post(&bindings, &binding("special", "Role", "special", "joe")).await.expect(201);
    let all = json!([rule(json!(["*"]), json!(["*"]), json!(["*"]))]);
    joe.post(&roles, &role("all", all)).await.expect(201);
    joe.post(&bindings, &binding("all", "ClusterRole", "cluster-admin", "friend")).await.expect(201);
    let refused =
        joe.post(&bindings, &binding("node", "ClusterRole", "system:node", "friend")).await.refusal();
    assert!(refused.contains("not currently held"), "{refused}");
    // Everything in one namespace is not everything.
    let friend = cluster.remote(Some(("friend", &[])), None);
    friend.get("/api/v1/namespaces/default/secrets").await.expect(200);
    assert_eq!(friend.get("/api/v1/secrets").await.code, 403);
}

#[tokio::test]
async fn aggregation_needs_every_right() {
    let cluster = secured().await;
    let admin = cluster.admin();
    let manages =
        json!([rule(json!([GROUP]), json!(["clusterroles"]), json!(["create", "update", "patch"]))]);
    admin.post(&format!("{RBAC}/clusterroles"), &role("manager", manages)).await.expect(201);
    let bound = binding("manager", "ClusterRole", "manager", "joe");
    admin.post(&format!("{RBAC}/clusterrolebindings"), &bound).await.expect(201);
    let joe = cluster.local("joe", &[]);
    let mut gathering = role("gathering", json!([]));
    gathering["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    assert_eq!(
        joe.post(&format!("{RBAC}/clusterroles"), &gathering).await.refusal(),
        format!(
            "403 clusterroles.{GROUP} \"gathering\" is forbidden: must have cluster-admin privileges to use an aggregationRule"
        )
    );
    admin.post(&format!("{RBAC}/clusterroles"), &gathering).await.expect(201);
}

#[tokio::test]
async fn reviews_tell_what_is_allowed() {
    let cluster = secured().await;
    let (admin, joe) = (cluster.admin(), joe(&cluster).await);
    let group = "/apis/authorization.k8s.io/v1";
    let ask = |kind: &str, spec: Value| json!({"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": spec});
    let attributes = |verb: &str, resource: &str, namespace: &str| json!({"verb": verb, "resource": resource, "namespace": namespace});
    for (verb, resource, namespace, allowed) in [
        ("list", "pods", "default", true),
        ("list", "pods", "kube-system", false),
        ("list", "nodes", "", false),
    ] {
        let spec = json!({"resourceAttributes": attributes(verb, resource, namespace)});
        let review = ask("SelfSubjectAccessReview", spec.clone());
        let status =
            joe.post(&format!("{group}/selfsubjectaccessreviews"), &review).await.expect(201)["status"]
                .clone();
        assert_eq!(status["allowed"], allowed, "{verb} {resource} {namespace}");
        if allowed {
            assert_eq!(
                status["reason"],
                "RBAC: allowed by RoleBinding \"joe/default\" of ClusterRole \"admin\" to User \"joe\""
            );
        }
        let mut asked = spec;
        asked["user"] = json!("joe");
        let review = ask("SubjectAccessReview", asked);
        let answer = admin.post(&format!("{group}/subjectaccessreviews"), &review).await.expect(201);
        assert_eq!(answer["status"]["allowed"], allowed);
    }
    let local = ask(
        "LocalSubjectAccessReview",
        json!({"user": "joe", "nonResourceAttributes": {"path": "/", "verb": "get"}}),
    );
    let refused = admin.post(&format!("{group}/namespaces/default/localsubjectaccessreviews"), &local).await;
    assert!(refused.refusal().contains("spec.nonResourceAttributes"), "{}", refused.refusal());
    let rules = ask("SelfSubjectRulesReview", json!({"namespace": "default"}));
    let status =
        joe.post(&format!("{group}/selfsubjectrulesreviews"), &rules).await.expect(201)["status"].clone();
    assert_eq!(status["incomplete"], false);
    let has = |list: &str, key: &str, item: &str| {
        status[list]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule[key].as_array().unwrap().contains(&json!(item)))
    };
    assert!(has("resourceRules", "resources", "deployments"));
    assert!(has("resourceRules", "resources", "selfsubjectreviews"));
    assert!(has("nonResourceRules", "nonResourceURLs", "/healthz"));
    let kubelet = cluster.local("system:node:n", &["system:nodes"]);
    let status =
        kubelet.post(&format!("{group}/selfsubjectrulesreviews"), &rules).await.expect(201)["status"].clone();
    assert_eq!(status["incomplete"], true);
    assert_eq!(status["evaluationError"], "node authorizer does not support user rule resolution");
}

#[tokio::test]
async fn acting_as_others_is_a_right_too() {
    let cluster = secured().await;
    let (admin, joe) = (cluster.admin(), joe(&cluster).await);
    let ask = async |client: &Fixture, headers: &[(&str, &str)]| {
        let body = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}).to_string();
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/json"));
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let answer = client.with_headers(http::Method::POST, path, &headers, body).await;
        if answer.code == 201 { answer.json()["status"]["userInfo"].to_string() } else { answer.refusal() }
    };
    assert_eq!(
        ask(
            &admin,
            &[("impersonate-user", "jane"), ("impersonate-group", "ops"), ("impersonate-extra-scopes", "a")]
        )
        .await,
        r#"{"extra":{"scopes":["a"]},"groups":["ops","system:authenticated"],"username":"jane"}"#
    );
    assert_eq!(
        ask(&admin, &[("impersonate-user", "system:serviceaccount:a:b")]).await,
        r#"{"groups":["system:serviceaccounts","system:serviceaccounts:a","system:authenticated"],"username":"system:serviceaccount:a:b"}"#
    );
    assert_eq!(
        ask(&joe, &[("impersonate-user", "jane")]).await,
        "403 users \"jane\" is forbidden: User \"joe\" cannot impersonate resource \"users\" in API group \"\" at the \
         cluster scope"
    );
    let own = ask(&joe, &[("impersonate-user", "system:serviceaccount:default:default")]).await;
    assert!(own.contains("system:serviceaccount:default:default"), "{own}");
    let groups = [
        ("impersonate-user", "system:serviceaccount:default:default"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(
        ask(&joe, &groups).await,
        "403 groups \"system:masters\" is forbidden: User \"joe\" cannot impersonate resource \"groups\" in API group \"\" \
         at the cluster scope"
    );
    let nobody = ask(&admin, &[("impersonate-group", "ops")]).await;
    assert!(nobody.starts_with("500 "), "{nobody}");
}
