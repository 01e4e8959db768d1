//! What stock kubectl says of rights and identities: `auth can-i`, `auth whoami`, `create token`, and refusals.

use crate::kubectl::{binary, squeeze};
use crate::secured::{Secured, secured};
use nauplius_pki::LeafRequest;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

struct Kubectl {
    binary: PathBuf,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// With the contexts `admin` and `joe`.
    fn of(cluster: &Secured, binary: PathBuf) -> Self {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(home.path().join(name), content).unwrap();
        write("ca.crt", &cluster.authority.certificate_pem());
        let users = [("admin", "system:masters"), ("joe", "devs")];
        for (name, group) in users {
            let issued = cluster.authority.issue(&LeafRequest::client(name, vec![group.to_owned()])).unwrap();
            write(&format!("{name}.crt"), &issued.certificate_pem);
            write(&format!("{name}.key"), &issued.key_pem);
        }
        let user = |name: &str| json!({"name": name, "user": {"client-certificate": format!("{name}.crt"), "client-key": format!("{name}.key")}});
        let context = |name: &str| json!({"name": name, "context": {"cluster": "test", "user": name}});
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "admin",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{}", cluster.address), "certificate-authority": "ca.crt"}}],
            "users": users.map(|(name, _)| user(name)),
            "contexts": users.map(|(name, _)| context(name)),
        });
        write("config", &kubeconfig.to_string());
        Self { binary, home }
    }

    async fn run(&self, context: &str, arguments: &str) -> String {
        let mut command = Command::new(&self.binary);
        let home = self.home.path();
        command.args(["--context", context]).args(arguments.split_whitespace());
        command.current_dir(home).env_clear().env("HOME", home).env("KUBECONFIG", home.join("config"));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        squeeze(&String::from_utf8_lossy(&text))
    }

    async fn says(&self, context: &str, arguments: &str, expected: &str) {
        let said = self.run(context, arguments).await;
        assert!(
            said.contains(expected),
            "{context}: kubectl {arguments}\ndoes not say {expected:?}:\n{said}"
        );
    }
}

async fn prepare(cluster: &Secured) {
    let admin = cluster.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, &json!({"metadata": {"name": "robot"}})).await.expect(201);
    let binding = json!({"metadata": {"name": "joe"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "joe"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    admin.post(bindings, &binding).await.expect(201);
}

async fn check(version: &str) {
    let Some(binary) = binary(version) else { return };
    let cluster = secured().await;
    prepare(&cluster).await;
    let kubectl = Kubectl::of(&cluster, binary);
    let cases: &[(&str, &str, &str)] = &[
        ("joe", "auth can-i list pods -n default", "\nyes\n"),
        ("joe", "auth can-i list pods -n kube-system", "\nno\n"),
        ("joe", "auth can-i get nodes", "\nno\n"),
        ("admin", "auth can-i * *", "\nyes\n"),
        ("admin", "auth can-i list secrets --as=joe -n kube-system", "\nno\n"),
        ("joe", "auth can-i get /healthz", "\nyes\n"),
        ("joe", "auth can-i --list", "\nResources Non-Resource URLs Resource Names Verbs\n"),
        ("joe", "auth can-i --list", "\nselfsubjectaccessreviews.authorization.k8s.io [] [] [create]\n"),
        ("joe", "auth can-i --list", "\n[/version] [] [get]\n"),
        ("joe", "auth whoami", "\nATTRIBUTE VALUE\nUsername joe\nGroups [devs system:authenticated]\n"),
        (
            "joe",
            "get pods -n kube-system",
            "\nError from server (Forbidden): pods is forbidden: User \"joe\" cannot list resource \"pods\" in API group \
             \"\" in the namespace \"kube-system\"\n",
        ),
        (
            "joe",
            "get nodes --as=jane",
            "\nError from server (Forbidden): users \"jane\" is forbidden: User \"joe\" cannot impersonate resource \
             \"users\" in API group \"\" at the cluster scope\n",
        ),
        (
            "joe",
            "create token robot --duration=5m",
            "\nerror: failed to create token: TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: \
             Invalid value: 300: may not specify a duration less than 10 minutes\n",
        ),
        (
            "joe",
            "create token robot --bound-object-kind=Pod --bound-object-name=none",
            "\nerror: failed to create token: pods \"none\" not found\n",
        ),
        (
            "joe",
            "create rolebinding mine --clusterrole=cluster-admin --user=joe",
            "\nerror: failed to create rolebinding: rolebindings.rbac.authorization.k8s.io is forbidden: User \"joe\" cannot \
             create resource \"rolebindings\" in API group \"rbac.authorization.k8s.io\" in the namespace \"default\"\n",
        ),
        (
            "admin",
            "run p --image=i -n nope",
            "\nError from server (NotFound): namespaces \"nope\" not found\n",
        ),
        (
            "admin",
            "delete namespace default",
            "\nError from server (Forbidden): namespaces \"default\" is forbidden: this namespace may not be deleted\n",
        ),
    ];
    for (context, arguments, expected) in cases {
        kubectl.says(context, arguments, expected).await;
    }
    let token = kubectl.run("joe", "create token robot --duration=10m --audience=vault").await;
    let claims = token.trim().split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], json!(["vault"]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_28_tells_of_rights() {
    check("1.28").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_33_tells_of_rights() {
    check("1.33").await;
}
