//! Stock kubectl, old and new, over TLS: what it reads out of discovery and OpenAPI.

use crate::network::{LOOPBACK, client_roots, server_tls};
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::{ApiServer, Config, serve};
use nauplius_base::task::{Group, spawn};
use nauplius_pki::{Authority, LeafRequest};
use nauplius_store::Clock;
use nauplius_store::model::ModelStore;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;

/// A server of its own, over TLS, and the administrator's credentials for it.
pub struct Server {
    files: tempfile::TempDir,
    address: SocketAddr,
    group: Group,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

/// A kubectl of one version, with a home and a namespace of its own, as the administrator.
pub struct Kubectl {
    binary: PathBuf,
    home: PathBuf,
    // The server lives as long as anybody talks to it.
    _server: Arc<Server>,
}

/// Other versions lie beside the kubectl of the path.
pub fn binary(version: &str) -> Option<PathBuf> {
    let name = format!("kubectl.{version}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).find_map(|folder| std::fs::canonicalize(folder.join("kubectl")).ok());
    let binary =
        found.and_then(|kubectl| Some(kubectl.parent()?.join(&name))).filter(|binary| binary.exists());
    if binary.is_none() {
        println!("SKIP: {name} is not installed");
    }
    binary
}

impl Server {
    /// Starts one.
    pub async fn start() -> Arc<Self> {
        let authority = Authority::create("kubernetes").unwrap();
        let store = Arc::new(ModelStore::new(Clock::system()));
        let mut config = Config::new(store, nauplius_kinds::builtin(), Arc::new(Union::default()));
        config.anonymous = false;
        config.authenticators.push(Arc::new(crate::network::Certificates));
        let group = Group::new();
        let server = ApiServer::start(config, &group).await.unwrap();
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = serve::tls_config(server_tls(&authority), client_roots(&authority)).unwrap();
        spawn("server", serve::serve(server, listener, tls));
        let files = tempfile::tempdir().unwrap();
        let admin =
            authority.issue(&LeafRequest::client("admin", vec!["system:masters".to_owned()])).unwrap();
        let write = |name: &str, content: &str| std::fs::write(files.path().join(name), content).unwrap();
        write("ca.crt", &authority.certificate_pem());
        write("admin.crt", &admin.certificate_pem);
        write("admin.key", &admin.key_pem);
        Arc::new(Self { files, address, group })
    }
}

impl Kubectl {
    async fn start(version: &str) -> Option<Self> {
        let binary = binary(version)?;
        Some(Self::new(binary, Server::start().await, version, "default"))
    }

    /// A version on a server that others use, too.
    pub fn on(server: &Arc<Server>, version: &str, namespace: &str) -> Option<Self> {
        Some(Self::new(binary(version)?, Arc::clone(server), version, namespace))
    }

    fn new(binary: PathBuf, server: Arc<Server>, version: &str, namespace: &str) -> Self {
        let files = server.files.path();
        let (home, file) = (files.join(version), |name: &str| files.join(name));
        std::fs::create_dir_all(&home).unwrap();
        let address = format!("https://{}", server.address);
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": address, "certificate-authority": file("ca.crt")}}],
            "users": [{"name": "test", "user": {"client-certificate": file("admin.crt"), "client-key": file("admin.key")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        });
        std::fs::write(home.join("config"), kubeconfig.to_string()).unwrap();
        Self { binary, home, _server: server }
    }

    /// Exit code and output of both kinds.
    pub async fn run(&self, arguments: &str, input: &str) -> (i32, String) {
        let mut command = Command::new(&self.binary);
        let home = &self.home;
        command.args(arguments.split_whitespace()).current_dir(home).env_clear().env("HOME", home);
        command.env("KUBECONFIG", home.join("config")).env("PATH", "/usr/bin:/bin");
        command.env("KUBE_EDITOR", "sed -i s/replicas:.1/replicas:\\ 4/");
        command.env("KUBECTL_APPLYSET", "true").stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let running = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // One that does not read its input may be gone before it is written.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        });
        let output = running.await.unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    }

    /// The output of a command that must succeed.
    pub async fn good(&self, arguments: &str, input: &str) -> String {
        let (code, text) = self.run(arguments, input).await;
        assert_eq!(code, 0, "{arguments}: {text}");
        text
    }

    /// A command that must say these things.
    pub async fn says(&self, arguments: &str, expected: &[&str]) {
        let text = self.good(arguments, "").await;
        for expected in expected {
            assert!(squeeze(&text).contains(expected), "{arguments} does not say {expected:?}: {text}");
        }
    }
}

/// Runs of blanks count as one, and every line begins after a line break.
pub fn squeeze(text: &str) -> String {
    let mut squeezed = String::from("\n");
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        writeln!(squeezed, "{}", words.join(" ")).unwrap();
    }
    squeezed
}

/// A deployment of one container, and what else stands in its list.
pub fn deployment(image: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app: web}}\n  \
         template:\n    metadata:\n      labels: {{app: web}}\n    spec:\n      containers:\n      - name: web\n        image: {image}\n{more}"
    )
}

async fn discovers(kubectl: &Kubectl) {
    kubectl.says("api-versions", &["\napps/v1\n", "\nrbac.authorization.k8s.io/v1\n", "\nv1\n"]).await;
    let verbs = "create,delete,deletecollection,get,list,patch,update,watch";
    kubectl
        .says(
            "api-resources -o wide",
            &[
                &format!("\ndeployments deploy apps/v1 true Deployment {verbs} all\n"),
                &format!("\nconfigmaps cm v1 true ConfigMap {verbs}\n"),
                "\nnamespaces ns v1 false Namespace create,delete,get,list,patch,update,watch\n",
                "\ntokenreviews authentication.k8s.io/v1 false TokenReview create\n",
            ],
        )
        .await;
}

async fn explains(kubectl: &Kubectl) {
    let pod = &[
        "KIND: Pod",
        "VERSION: v1",
        "containers <[]Container>",
        "image <string>",
        "name <string> -required-",
    ];
    kubectl.says("explain pod.spec.containers", pod).await;
    kubectl.says("explain pods.spec.restartPolicy", &["restartPolicy <string>", "Always"]).await;
    kubectl
        .says(
            "explain deployment --recursive",
            &["GROUP: apps", "maxSurge <IntOrString>", "sysctls <[]Sysctl>"],
        )
        .await;
    kubectl.says("explain service.spec.ports.targetPort", &["targetPort <IntOrString>"]).await;
    let (code, text) = kubectl.run("explain pod.spec.nothing", "").await;
    assert!(code == 1 && text.contains("field \"nothing\" does not exist"), "{text}");
}

async fn applies(kubectl: &Kubectl) {
    kubectl.good("apply -f -", &deployment("a:1", "")).await;
    kubectl.good("set env deployment/web A=1", "").await;
    let sidecar = "      - name: sidecar\n        image: b:1\n";
    let (code, diff) = kubectl.run("diff -f -", &deployment("a:2", sidecar)).await;
    assert!(code == 1 && diff.contains("+      - image: b:1") && !diff.contains("-        env:"), "{diff}");
    assert!(diff.contains("+        image: a:2"), "{diff}");
    kubectl.good("apply -f -", &deployment("a:2", sidecar)).await;
    let images =
        kubectl.good("get deployment web -o jsonpath={.spec.template.spec.containers[*].image}", "").await;
    assert_eq!(images, "a:2 b:1");
    // The strategic merge kept what another command had set in the same container.
    let kept = kubectl
        .good("get deployment web -o jsonpath={.spec.template.spec.containers[0].env[0].name}", "")
        .await;
    assert_eq!(kept, "A");
    let (code, diff) = kubectl.run("diff -f -", &deployment("a:2", sidecar)).await;
    assert_eq!(code, 0, "{diff}");
    let patch = r#"{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"web"}],"containers":[{"$patch":"delete","name":"sidecar"}]}}}}"#;
    kubectl.good(&format!("patch deployment web -p {patch}"), "").await;
    kubectl.good("edit deployment web", "").await;
    let replicas = kubectl.good("get deployment web -o jsonpath={.spec.replicas}", "").await;
    assert_eq!(replicas, "4");
}

async fn validates(kubectl: &Kubectl) {
    let wrong = deployment("a:1", "").replace("replicas", "replica");
    let (code, text) = kubectl.run("apply -f -", &wrong).await;
    assert!(code == 1 && text.contains("unknown field \"spec.replica\""), "{text}");
    let (code, text) = kubectl.run("create --dry-run=server -f -", &wrong).await;
    assert!(code == 1 && text.contains("unknown field"), "{text}");
    kubectl.good("apply --dry-run=server -f -", &deployment("c:1", "")).await;
    let (_, text) = kubectl.run("apply --validate=ignore --dry-run=server -f -", &wrong).await;
    assert!(!text.contains("unknown field"), "{text}");
}

/// Every way to change an object in place, and the object that comes of it.
async fn patches(kubectl: &Kubectl) {
    kubectl.good("create deployment patched --image=a:1", "").await;
    let merge = r#"{"metadata":{"labels":{"team":"x"}},"spec":{"paused":true}}"#;
    kubectl.good(&format!("patch deployment patched --type=merge -p {merge}"), "").await;
    let json = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"b:2"},{"op":"remove","path":"/metadata/labels/team"}]"#;
    kubectl.good(&format!("patch deployment patched --type=json -p {json}"), "").await;
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","env":[{"name":"A","value":"1"}]}]}}}}"#;
    kubectl.good(&format!("patch deployment patched -p {strategic}"), "").await;
    kubectl.good("label deployment patched tier=web", "").await;
    kubectl.good("annotate deployment patched note=1", "").await;
    kubectl.good("scale deployment patched --replicas=3", "").await;
    let shown = "{.spec.replicas}/{.spec.paused}/{.spec.template.spec.containers[0].image}/\
                 {.spec.template.spec.containers[0].env[0].name}/{.metadata.labels}/{.metadata.annotations.note}";
    let shown = kubectl.good(&format!("get deployment patched -o jsonpath={shown}"), "").await;
    assert_eq!(shown, r#"3/true/b:2/A/{"app":"patched","tier":"web"}/1"#);
    let wrong = r#"[{"op":"test","path":"/spec/replicas","value":9}]"#;
    let (code, text) = kubectl.run(&format!("patch deployment patched --type=json -p {wrong}"), "").await;
    assert!(
        code == 1 && text.contains("the server rejected our request due to an error in our request"),
        "{text}"
    );
}

/// Conditions and fields are waited for, by watches.
async fn waits(kubectl: &Kubectl) {
    kubectl.good("create configmap waited --from-literal=k=v", "").await;
    kubectl.good("wait configmap/waited --for=jsonpath={.data.k}=v --timeout=20s", "").await;
    let status = r#"{"status":{"conditions":[{"type":"Available","status":"True"}]}}"#;
    kubectl
        .good(&format!("patch deployment patched --subresource=status --type=merge -p {status}"), "")
        .await;
    let met = kubectl.good("wait deployment/patched --for=condition=Available --timeout=20s", "").await;
    assert_eq!(met, "deployment.apps/patched condition met\n");
    let (code, text) = kubectl.run("wait deployment/patched --for=condition=Never --timeout=1s", "").await;
    assert!(code == 1 && text.contains("timed out waiting for the condition"), "{text}");
    kubectl.good("delete configmap waited --wait=true --timeout=20s", "").await;
}

/// What is no longer in the manifest goes, and only that.
async fn prunes(kubectl: &Kubectl) {
    let map = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{set: pruned}}\n"
        )
    };
    kubectl.good("apply -f -", &format!("{}{}", map("one"), map("two"))).await;
    kubectl.good("create configmap other", "").await;
    let prune = "apply -f - --prune -l set=pruned --prune-allowlist=core/v1/ConfigMap";
    let said = kubectl.good(prune, &map("two")).await;
    assert!(said.contains("configmap/one pruned") && !said.contains("configmap/other"), "{said}");
    let left = kubectl.good("get configmaps -o name --chunk-size=1", "").await;
    assert_eq!(left, "configmap/other\nconfigmap/two\n");
}

/// A definition of custom resources.
pub const TABS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: crontabs.stable.example.com
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Cron, type: string, jsonPath: .spec.cron}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas, priority: 1}
    schema:
      openAPIV3Schema:
        type: object
        description: A CronTab runs again and again.
        properties:
          spec:
            type: object
            required: [cron]
            properties:
              cron: {type: string, description: When it runs.}
              replicas: {type: integer, default: 1}
          status:
            type: object
            properties: {replicas: {type: integer}}
";

/// An object of it.
pub fn tab(cron: &str, more: &str) -> String {
    format!(
        "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata:\n  name: a\nspec:\n  cron: {cron}\n{more}"
    )
}

async fn uses_custom_resources(kubectl: &Kubectl) {
    kubectl.good("apply -f -", TABS).await;
    kubectl.good("wait --for=condition=established --timeout=60s crd/crontabs.stable.example.com", "").await;
    let row = "\ncrontabs ct stable.example.com/v1 true CronTab\n";
    kubectl.says("api-resources --api-group=stable.example.com", &[row]).await;
    kubectl
        .says(
            "explain crontab.spec",
            &["KIND: CronTab", "cron <string> -required-", "When it runs.", "replicas <integer>"],
        )
        .await;
    kubectl.good("apply -f -", &tab("'1'", "")).await;
    kubectl.says("get ct", &["\nNAME CRON\n", "\na 1\n"]).await;
    kubectl.says("get ct -o wide", &["\nNAME CRON REPLICAS\n", "\na 1 1\n"]).await;
    kubectl.says("get all", &["\ncrontab.stable.example.com/a 1\n"]).await;
    kubectl.says("describe ct a", &["\nKind: CronTab\n", "\nCron: 1\n"]).await;
    kubectl.good("apply -f -", &tab("'2'", "  replicas: 2\n")).await;
    kubectl.good("scale --replicas=3 ct/a", "").await;
    let replicas = kubectl.good("get ct a -o jsonpath={.spec.replicas}", "").await;
    assert_eq!(replicas, "3");
    let (code, diff) = kubectl.run("diff -f -", &tab("'3'", "  replicas: 2\n")).await;
    assert!(code == 1 && diff.contains("+  cron: \"3\"") && diff.contains("+  replicas: 2"), "{diff}");
    kubectl.good("patch ct a --type=merge -p {\"spec\":{\"cron\":\"4\"}}", "").await;
    let (code, text) = kubectl.run("patch ct a -p {\"spec\":{\"cron\":\"5\"}}", "").await;
    assert!(code == 1 && text.contains("is not supported by stable.example.com/v1, Kind=CronTab"), "{text}");
    let (code, text) = kubectl.run("apply -f -", &tab("'2'", "  odd: 1\n")).await;
    assert!(code == 1 && text.contains("unknown field \"spec.odd\""), "{text}");
    let (code, text) = kubectl.run("apply -f -", &tab("7", "")).await;
    assert!(code == 1 && text.contains("spec.cron"), "{text}");
    kubectl.good("delete crd crontabs.stable.example.com --timeout=60s", "").await;
    let (code, text) = kubectl.run("get ct", "").await;
    // It remembers what there was.
    assert!(code == 1 && text.contains("the server could not find the requested resource"), "{text}");
}

async fn finds_its_way(version: &str) {
    let Some(kubectl) = Kubectl::start(version).await else { return };
    discovers(&kubectl).await;
    explains(&kubectl).await;
    if version == "1.28" {
        // The protobuf form of v2.
        let pod = &["KIND: Pod", "RESOURCE: containers <[]Object>", "imagePullPolicy <string>"];
        kubectl.says("explain pod.spec.containers --output=plaintext-openapiv2", pod).await;
    }
    applies(&kubectl).await;
    validates(&kubectl).await;
    patches(&kubectl).await;
    waits(&kubectl).await;
    prunes(&kubectl).await;
    if matches!(version, "1.28" | "1.33") {
        uses_custom_resources(&kubectl).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_28_finds_its_way() {
    finds_its_way("1.28").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_29_finds_its_way() {
    finds_its_way("1.29").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_30_finds_its_way() {
    finds_its_way("1.30").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_31_finds_its_way() {
    finds_its_way("1.31").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_32_finds_its_way() {
    finds_its_way("1.32").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_33_finds_its_way() {
    finds_its_way("1.33").await;
}

/// The last kubectl that finds out what the server can do by the protobuf form of OpenAPI v2 alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_1_27_finds_its_way() {
    let Some(kubectl) = Kubectl::start("1.27").await else { return };
    explains(&kubectl).await;
    applies(&kubectl).await;
    validates(&kubectl).await;
}
