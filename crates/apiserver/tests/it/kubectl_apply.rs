//! Every way in which stock kubectl, old and new, applies, compares, waits and replaces, all versions on one server.

use crate::kubectl::{Kubectl, Server, TABS, deployment, squeeze, tab};
use futures_util::future::join_all;
use serde_json::Value;

const VERSIONS: &[&str] = &["1.28", "1.29", "1.30", "1.31", "1.32", "1.33"];
/// The first version that waits for what is not there yet.
const WAITS_FOR_CREATION: &str = "1.31";

/// A command that must be refused with these words.
async fn refused(kubectl: &Kubectl, arguments: &str, input: &str, words: &[&str]) {
    let (code, text) = kubectl.run(arguments, input).await;
    assert_eq!(code, 1, "{arguments}: {text}");
    for words in words {
        assert!(text.contains(words), "{arguments} does not say {words:?}: {text}");
    }
}

/// The manager, operation and subresource of each entry.
async fn managers(kubectl: &Kubectl, object: &str) -> String {
    let shown = kubectl.good(&format!("get {object} --show-managed-fields -o json"), "").await;
    let object: Value = serde_json::from_str(&shown).unwrap();
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries
        .map(|entry| ["manager", "operation", "subresource"].map(|name| text(entry, name)).join("/") + ",")
        .collect()
}

async fn server_side_apply(kubectl: &Kubectl) {
    let said = kubectl.good("apply --server-side -f -", &deployment("a:1", "")).await;
    assert_eq!(said, "deployment.apps/web serverside-applied\n");
    kubectl.good("apply --server-side -f -", &deployment("a:1", "")).await;
    assert_eq!(managers(kubectl, "deployment/web").await, "kubectl/Apply/,");
    let shown = kubectl.good("get deployment web -o yaml --show-managed-fields", "").await;
    assert!(shown.contains("manager: kubectl\n") && shown.contains("k:{\"name\":\"web\"}:"), "{shown}");
    let hidden = kubectl.good("get deployment web -o yaml", "").await;
    assert!(!hidden.contains("managedFields"), "{hidden}");

    let other = "apply --server-side --field-manager=other -f -";
    let conflict = &[
        "Apply failed with 1 conflict: conflict with \"kubectl\"",
        ".spec.template.spec.containers[name=\"web\"].image",
        "--force-conflicts",
    ];
    refused(kubectl, other, &deployment("b:1", ""), conflict).await;
    // A dry run conflicts, too, and forces without a trace.
    refused(kubectl, &format!("{other} --dry-run=server"), &deployment("b:1", ""), conflict).await;
    let dry = format!("{other} --dry-run=server --force-conflicts");
    let said = kubectl.good(&dry, &deployment("b:1", "")).await;
    assert_eq!(said, "deployment.apps/web serverside-applied (server dry run)\n");
    assert_eq!(managers(kubectl, "deployment/web").await, "kubectl/Apply/,");
    kubectl.good(&format!("{other} --force-conflicts"), &deployment("b:1", "")).await;
    assert_eq!(managers(kubectl, "deployment/web").await, "kubectl/Apply/,other/Apply/,");
    let image = "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.good(image, "").await, "b:1");
    // The first manager gave nothing up but the image: the container stays when it lets go of the rest.
    refused(kubectl, "apply --server-side -f -", &deployment("a:1", ""), &["conflict with \"other\""]).await;
}

async fn server_side_diff(kubectl: &Kubectl) {
    let other = "diff --server-side --field-manager=other -f -";
    kubectl.good(other, &deployment("b:1", "")).await;
    let (code, diff) = kubectl.run(other, &deployment("b:2", "")).await;
    assert!(
        code == 1 && diff.contains("-      - image: b:1") && diff.contains("+      - image: b:2"),
        "{diff}"
    );
    let forced = "diff --server-side --force-conflicts -f -";
    let (code, diff) = kubectl.run(forced, &deployment("a:9", "")).await;
    assert!(code == 1 && diff.contains("+      - image: a:9"), "{diff}");
    let (code, diff) = kubectl.run("diff --server-side -f -", &deployment("a:9", "")).await;
    assert!(code > 1 && diff.contains("conflict with \"other\""), "{code} {diff}");
    let (code, diff) =
        kubectl.run("diff --server-side -f -", &tab("'1'", "").replace("name: a", "name: fresh")).await;
    assert!(code == 1 && diff.contains("+  cron: \"1\"") && diff.contains("+  replicas: 1"), "{diff}");
}

fn map(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{set: pruned}}\ndata: {{k: '{value}'}}\n"
    )
}

/// From client-side apply to server-side apply and back.
async fn migrates(kubectl: &Kubectl) {
    kubectl.good("apply -f -", &map("moved", "1")).await;
    assert_eq!(managers(kubectl, "cm/moved").await, "kubectl-client-side-apply/Update/,");
    kubectl.good("apply --server-side -f -", &map("moved", "2")).await;
    // The annotation is applied by a manager of its own.
    let now = managers(kubectl, "cm/moved").await;
    assert!(now.contains("kubectl/Apply/,") && !now.contains("client-side"), "{now}");
    let last = kubectl.good("apply view-last-applied cm/moved", "").await;
    assert!(last.contains("k: \"2\""), "{last}");
    // What is no longer applied goes, although client-side apply had set it.
    kubectl.good("apply --server-side -f -", &map("moved", "2").replace("k:", "l:")).await;
    let data = "get cm moved -o jsonpath={.data}";
    assert_eq!(kubectl.good(data, "").await, r#"{"l":"2"}"#);
    kubectl.good("apply -f -", &map("moved", "3").replace("k:", "l:")).await;
    assert_eq!(kubectl.good(data, "").await, r#"{"l":"3"}"#);
    kubectl.good("apply set-last-applied -f - --create-annotation", &map("moved", "3")).await;
}

async fn applies_client_side(kubectl: &Kubectl) {
    let sidecar = "      - name: sidecar\n        image: s:1\n        ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]\n";
    kubectl.good("apply -f -", &deployment("c:1", sidecar).replace("web", "client")).await;
    let said = kubectl.good("apply -f -", &deployment("c:1", sidecar).replace("web", "client")).await;
    assert_eq!(said, "deployment.apps/client unchanged\n");
    let (code, diff) = kubectl.run("diff -f -", &deployment("c:2", "").replace("web", "client")).await;
    assert!(
        code == 1 && diff.contains("-      - image: s:1") && diff.contains("+      - image: c:2"),
        "{diff}"
    );
    let said = kubectl.good("apply -f -", &deployment("c:2", "").replace("web", "client")).await;
    assert_eq!(said, "deployment.apps/client configured\n");
    let images = "get deployment client -o jsonpath={.spec.template.spec.containers[*].image}";
    assert_eq!(kubectl.good(images, "").await, "c:2");
    kubectl.good("edit deployment client", "").await;
    assert_eq!(kubectl.good("get deployment client -o jsonpath={.spec.replicas}", "").await, "4");
}

/// By an allowlist and a label, and by the members of an apply set.
async fn prunes(kubectl: &Kubectl) {
    let (one, two) = (map("one", "1"), map("two", "1"));
    let listed = "apply -f - --prune -l set=pruned --prune-allowlist=core/v1/ConfigMap";
    kubectl.good("delete cm moved", "").await;
    kubectl.good(listed, &format!("{one}{two}")).await;
    let said = kubectl.good(listed, &two).await;
    assert!(said.contains("configmap/one pruned"), "{said}");
    assert_eq!(kubectl.good("get cm -l set=pruned -o name", "").await, "configmap/two\n");

    let namespace = kubectl.good("config view --minify -o jsonpath={..namespace}", "").await;
    for set in
        ["apply -f - --prune --applyset=set", "apply --server-side -f - --prune --applyset=configmap/set"]
    {
        let set = format!("{set} -n {namespace}");
        let (three, four) = (map("three", "1"), map("four", "1"));
        kubectl.good(&set, &format!("{three}{four}")).await;
        let said = kubectl.good(&set, &four).await;
        assert!(said.contains("configmap/three pruned"), "{said}");
        let members = kubectl.good("get cm -l applyset.kubernetes.io/part-of -o name", "").await;
        assert_eq!(members, "configmap/four\n");
        kubectl.good("delete cm four", "").await;
    }
    // Older versions write resources, newer ones kinds.
    let annotations = kubectl.good("get secret set -o jsonpath={.metadata.annotations}", "").await;
    assert!(annotations.to_lowercase().contains("\"configmap"), "{annotations}");
}

async fn waits(kubectl: &Kubectl, version: &str) {
    let status = r#"{"status":{"conditions":[{"type":"Available","status":"True"}],"replicas":2}}"#;
    kubectl.good(&format!("patch deployment web --subresource=status --type=merge -p {status}"), "").await;
    kubectl.good("wait deployment/web --for=condition=Available --timeout=60s", "").await;
    kubectl.good("wait deployment/web --for=condition=Available=True --timeout=60s", "").await;
    kubectl.good("wait deployment/web --for=jsonpath={.status.replicas}=2 --timeout=60s", "").await;
    kubectl.good("create configmap waited", "").await;
    let gone = kubectl.good("wait configmap/waited --for=delete --timeout=60s", "");
    let delete = kubectl.good("delete configmap waited --wait=false", "");
    tokio::join!(gone, delete);
    if version >= WAITS_FOR_CREATION {
        let there = kubectl.good("wait configmap/awaited --for=create --timeout=60s", "");
        let create = kubectl.good("create configmap awaited", "");
        let (said, _) = tokio::join!(there, create);
        assert_eq!(said, "configmap/awaited condition met\n");
    }
}

async fn replaces(kubectl: &Kubectl) {
    let uid = "get cm replaced -o jsonpath={.metadata.uid}";
    kubectl.good("create -f -", &map("replaced", "1")).await;
    let (first, before) = (kubectl.good("get cm replaced -o yaml", "").await, kubectl.good(uid, "").await);
    kubectl.good("replace -f -", &map("replaced", "2")).await;
    refused(kubectl, "replace -f -", &first, &["the object has been modified"]).await;
    assert_eq!(kubectl.good(uid, "").await, before);
    kubectl.good("replace --force -f - --timeout=60s", &map("replaced", "3")).await;
    assert_ne!(kubectl.good(uid, "").await, before);
    refused(kubectl, "replace -f -", &map("nobody", "1"), &["configmaps \"nobody\" not found"]).await;
}

async fn patches(kubectl: &Kubectl) {
    kubectl.good("patch deployment web --type=merge -p {\"spec\":{\"paused\":true}}", "").await;
    let json = r#"[{"op":"test","path":"/spec/paused","value":true},{"op":"replace","path":"/spec/minReadySeconds","value":3}]"#;
    kubectl.good(&format!("patch deployment web --type=json -p {json}"), "").await;
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","args":["x"]}]}}}}"#;
    kubectl.good(&format!("patch deployment web --type=strategic -p {strategic}"), "").await;
    let fields = "{.spec.paused}/{.spec.minReadySeconds}/{.spec.template.spec.containers[0].args[0]}";
    let fields = kubectl.good(&format!("get deployment web -o jsonpath={fields}"), "").await;
    assert_eq!(fields, "true/3/x");
    let wrong = r#"{"spec":{"replicas":"many"}}"#;
    let words = "The request is invalid: patch: Invalid value: \"map[spec:map[replicas:many]]\": unrecognized type: int32";
    refused(kubectl, &format!("patch deployment web -p {wrong}"), "", &[words]).await;
    assert!(managers(kubectl, "deployment/web").await.contains("kubectl-patch/Update/,"));
}

async fn custom_resources(kubectl: &Kubectl) {
    let explained = kubectl.good("explain crontab.spec --recursive", "").await;
    assert!(squeeze(&explained).contains("\ncron <string> -required-\n"), "{explained}");
    kubectl.says("explain ct.spec.replicas", &["FIELD: replicas <integer>"]).await;
    kubectl.good("apply --server-side -f -", &tab("'1'", "")).await;
    let other = "apply --server-side --field-manager=other -f -";
    refused(kubectl, other, &tab("'2'", ""), &["conflict with \"kubectl\": .spec.cron"]).await;
    kubectl.good(other, &tab("'1'", "  replicas: 3\n")).await;
    kubectl.good("apply --server-side -f -", &tab("'1'", "")).await;
    assert_eq!(managers(kubectl, "ct/a").await, "kubectl/Apply/,other/Apply/,");
    let (code, diff) = kubectl.run("diff -f -", &tab("'9'", "")).await;
    assert!(code == 1 && diff.contains("+  cron: \"9\""), "{diff}");
    kubectl.good("scale ct/a --replicas=5", "").await;
    assert!(
        managers(kubectl, "ct/a").await.contains("/Update/scale,"),
        "{}",
        managers(kubectl, "ct/a").await
    );
    kubectl.good("wait ct/a --for=jsonpath={.spec.replicas}=5 --timeout=60s", "").await;
}

async fn does_all(kubectl: &Kubectl, version: &str, namespace: &str) {
    kubectl.good(&format!("create namespace {namespace}"), "").await;
    server_side_apply(kubectl).await;
    server_side_diff(kubectl).await;
    migrates(kubectl).await;
    applies_client_side(kubectl).await;
    prunes(kubectl).await;
    waits(kubectl, version).await;
    replaces(kubectl).await;
    patches(kubectl).await;
    custom_resources(kubectl).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kubectl_applies_on_one_server() {
    let server = Server::start().await;
    let mut kubectls = Vec::new();
    for version in VERSIONS {
        let namespace = format!("of-{}", version.replace('.', "-"));
        kubectls
            .extend(Kubectl::on(&server, version, &namespace).map(|kubectl| (kubectl, *version, namespace)));
    }
    let Some((first, ..)) = kubectls.first() else { return };
    first.good("apply --server-side -f -", TABS).await;
    first.good("wait --for=condition=established --timeout=60s crd/crontabs.stable.example.com", "").await;
    join_all(kubectls.iter().map(|(kubectl, version, namespace)| does_all(kubectl, version, namespace)))
        .await;
}
