//! Tokens: asked for, used, reviewed, and refused when what they stand for is gone.

use crate::secured::{ISSUER, Secured, pod, secured};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::{protobuf, schema};
use serde_json::{Value, json};

const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/robot/token";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn request(spec: Value) -> Value {
    json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec})
}

async fn cluster() -> Secured {
    let cluster = secured().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    for name in ["default", "robot"] {
        cluster.admin().post(accounts, &json!({"metadata": {"name": name}})).await.expect(201);
    }
    cluster
}

/// Who the bearer of a token is, or how it is refused.
async fn whoami(cluster: &Secured, token: &str) -> Result<Value, String> {
    let body = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let answer = cluster.remote(None, Some(token)).post(SELF, &body).await;
    if answer.code == 201 { Ok(answer.json()["status"]["userInfo"].clone()) } else { Err(answer.refusal()) }
}

/// Deletes and waits until reads know it.
async fn delete(cluster: &Secured, path: &str) {
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    cluster.admin().delete_with(path, &options).await.expect(200);
    cluster.admin().get(path).await.expect(404);
}

fn robot_pod() -> Value {
    let mut pod = pod("p", "n");
    pod["spec"]["serviceAccountName"] = json!("robot");
    pod
}

#[tokio::test]
async fn requests_are_checked_in_upstreams_words() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    admin.post("/api/v1/namespaces/default/pods", &pod("other", "")).await.expect(201);
    let cases = [
        (
            json!({"expirationSeconds": 599}),
            "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not \
             specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 4_294_967_297_i64}),
            "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: \
             may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}),
            "400 cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "x"}}),
            "404 pods \"x\" not found",
        ),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "other"}}),
            "400 cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name.",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(admin.post(TOKEN, &request(spec)).await.refusal(), expected);
    }
    let missing =
        admin.post("/api/v1/namespaces/default/serviceaccounts/no/token", &request(json!({}))).await;
    assert_eq!(missing.refusal(), "404 serviceaccounts \"no\" not found");
    let made = admin.post(TOKEN, &request(json!({}))).await.expect(201);
    let untyped = admin.post(TOKEN, &json!({})).await.expect(201);
    assert_eq!((&untyped["kind"], &untyped["apiVersion"]), (&made["kind"], &made["apiVersion"]));
    assert_eq!(made["kind"], "TokenRequest");
    assert_eq!(
        made["spec"],
        json!({"audiences": [ISSUER], "expirationSeconds": 3600, "boundObjectRef": null})
    );
}

#[tokio::test]
async fn a_token_lives_as_long_as_its_pod_and_account() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let pod = admin.post("/api/v1/namespaces/default/pods", &robot_pod()).await.expect(201);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid});
    let token = cluster.token("default", "robot", json!({"boundObjectRef": bound})).await;
    let free = cluster.token("default", "robot", json!({})).await;
    let me = whoami(&cluster, &token).await.unwrap();
    assert_eq!(me["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        me["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    assert_eq!(me["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(me["extra"]["authentication.kubernetes.io/node-name"], json!(["n"]));

    let stale = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "other"});
    let refused = admin.post(TOKEN, &request(json!({"boundObjectRef": stale}))).await;
    assert!(
        refused.refusal().starts_with("409 Operation cannot be fulfilled on Pod \"p\": the UID in the bound")
    );

    delete(&cluster, "/api/v1/namespaces/default/pods/p").await;
    assert_eq!(whoami(&cluster, &token).await.unwrap_err(), "401 Unauthorized");
    assert!(whoami(&cluster, &free).await.is_ok());
    delete(&cluster, "/api/v1/namespaces/default/serviceaccounts/robot").await;
    assert_eq!(whoami(&cluster, &free).await.unwrap_err(), "401 Unauthorized");
    // An account of the same name is another account.
    let again = json!({"metadata": {"name": "robot"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", &again).await.expect(201);
    assert_eq!(whoami(&cluster, &free).await.unwrap_err(), "401 Unauthorized");
}

#[tokio::test]
async fn a_token_is_for_its_audience() {
    let cluster = cluster().await;
    let vault = cluster.token("default", "robot", json!({"audiences": ["vault"]})).await;
    assert_eq!(whoami(&cluster, &vault).await.unwrap_err(), "401 Unauthorized");
    let review = |token: &str, audiences: Value| {
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "spec": {"token": token, "audiences": audiences}})
    };
    let admin = cluster.admin();
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let known = admin.post(reviews, &review(&vault, json!(["vault", "x"]))).await.expect(201);
    assert_eq!(known["status"]["authenticated"], true);
    assert_eq!(known["status"]["audiences"], json!(["vault"]));
    assert_eq!(known["status"]["user"]["username"], "system:serviceaccount:default:robot");
    let unknown = admin.post(reviews, &review(&vault, Value::Null)).await.expect(201);
    assert!(unknown["status"]["authenticated"].is_null());
    let error = unknown["status"]["error"].as_str().unwrap();
    assert!(error.contains("token audiences [\"vault\"] is invalid for the target audiences"), "{error}");
    // Tokens of secrets, as older clusters made them, say so.
    let legacy = format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
        URL_SAFE_NO_PAD.encode(r#"{"iss":"kubernetes/serviceaccount"}"#),
        URL_SAFE_NO_PAD.encode("x")
    );
    let refused = admin.post(reviews, &review(&legacy, Value::Null)).await.expect(201);
    let error = refused["status"]["error"].as_str().unwrap();
    assert!(error.contains("kubectl create token"), "{error}");
    assert_eq!(whoami(&cluster, &legacy).await.unwrap_err(), "401 Unauthorized");
}

#[tokio::test]
async fn kubelets_get_tokens_for_their_pods_alone() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    for node in ["n", "m"] {
        admin.post("/api/v1/nodes", &json!({"metadata": {"name": node}})).await.expect(201);
    }
    let pod = admin.post("/api/v1/namespaces/default/pods", &robot_pod()).await.expect(201);
    admin.get("/api/v1/namespaces/default/pods/p").await.expect(200);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let bound = |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid});
    let kubelet = cluster.local("system:node:n", &["system:nodes"]);
    kubelet.post(TOKEN, &request(json!({"boundObjectRef": bound(uid)}))).await.expect(201);
    let forbidden = |why: &str| format!("403 serviceaccounts \"robot\" is forbidden: {why}");
    let cases = [
        (json!({}), forbidden("node requested token not bound to a pod")),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}),
            forbidden("node requested token with a pod binding without a uid"),
        ),
        (
            json!({"boundObjectRef": bound("other")}),
            forbidden(
                "the UID in the bound object reference (other) does not match the UID in record. The object might have \
                 been deleted and then recreated",
            ),
        ),
        (
            json!({"boundObjectRef": bound(uid), "audiences": ["vault"]}),
            forbidden(
                "audience \"vault\" not found in pod spec volume, system:node:n is not authorized to request tokens for \
                 this audience",
            ),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(kubelet.post(TOKEN, &request(spec)).await.refusal(), expected);
    }
    let other = cluster.local("system:node:m", &["system:nodes"]);
    let refused = other.post(TOKEN, &request(json!({"boundObjectRef": bound(uid)}))).await.refusal();
    assert!(refused.ends_with("no relationship found between node 'm' and this object"), "{refused}");
}

#[tokio::test]
async fn browsers_send_tokens_in_a_subprotocol() {
    let cluster = cluster().await;
    let token = cluster.token("default", "robot", json!({})).await;
    let protocols = format!(
        "base64url.bearer.authorization.k8s.io.{}, v5.channel.k8s.io",
        URL_SAFE_NO_PAD.encode(&token)
    );
    let headers =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-protocol", protocols.as_str())];
    // In process without an identity, as a listener hands over what an HTTP/1.1 client sent.
    let path = "/api/v1/namespaces/default/pods/p/exec?command=sh";
    let mut request = http::Request::builder().method(Method::GET).uri(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(nauplius_client::transport::empty()).unwrap();
    let reply = std::sync::Arc::clone(&cluster.server).handle(request).await;
    let body = http_body_util::BodyExt::collect(reply.into_body()).await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body);
    assert!(
        text.contains(
            "User \\\"system:serviceaccount:default:robot\\\" cannot get resource \\\"pods/exec\\\""
        ),
        "{text}"
    );
}

#[tokio::test]
async fn tokens_are_asked_for_in_protobuf() {
    let cluster = cluster().await;
    let gvk = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let ty = schema::lookup_kind(&gvk).unwrap();
    let body =
        protobuf::encode(&request(json!({"audiences": ["me"], "expirationSeconds": 700})), ty).unwrap();
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let made = cluster.admin().with_headers(Method::POST, TOKEN, &headers, body).await;
    assert_eq!((made.code.as_u16(), &made.headers["content-type"]), (201, &PROTOBUF.parse().unwrap()));
    let made = protobuf::decode(&made.bytes, ty).unwrap();
    assert_eq!(made["spec"]["audiences"], json!(["me"]));
    let claims = made["status"]["token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(
        (&claims["aud"], &claims["sub"]),
        (&json!(["me"]), &json!("system:serviceaccount:default:robot"))
    );
    let seconds = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(seconds, 700);
    let refused = protobuf::encode(&request(json!({"expirationSeconds": 1})), ty).unwrap();
    let refused = cluster.admin().with_headers(Method::POST, TOKEN, &headers, refused).await;
    let status = schema::lookup_kind(&GroupVersionKind::new("", "v1", "Status")).unwrap();
    assert_eq!(refused.code.as_u16(), 422);
    assert_eq!(protobuf::decode(&refused.bytes, status).unwrap()["reason"], "Invalid");
}
