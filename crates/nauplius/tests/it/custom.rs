//! Custom resources on a real cluster, as an operator uses them: `kube`'s derived kind, its controller runtime with finalizers, owners
//! and garbage collection, the end of a namespace and of a definition.

use crate::cluster::Cluster;
use crate::kube_rs::connect;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, CustomResource, Resource, ResourceExt};
use nauplius_base::{task, time};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const DEFINITION: &str = "sites.example.com";

/// What a site is to be.
#[derive(CustomResource, Debug, Clone, Serialize, Deserialize)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Site",
    namespaced,
    status = "SiteStatus",
    schema = "disabled"
)]
struct SiteSpec {
    text: String,
    #[serde(default)]
    pages: i64,
}

/// What it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct SiteStatus {
    ready: bool,
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    in_time(what, async {
        while !holds().await {
            time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn definition() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": DEFINITION},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "sites", "singular": "site", "kind": "Site"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["text"], "properties": {
                        "text": {"type": "string"}, "pages": {"type": "integer", "default": 1}}},
                    "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
                }}}}],
        },
    }))
    .unwrap()
}

struct Operator {
    client: Client,
    cleaned: AtomicUsize,
}

impl Operator {
    fn maps(&self, site: &Site) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &site.namespace().unwrap())
    }

    /// A config map of the site's, and the site's status.
    async fn build(&self, site: &Site) -> kube::Result<Action> {
        let owner = site.controller_owner_ref(&()).unwrap();
        let map: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": site.name_any(), "ownerReferences": [owner]},
            "data": {"text": site.spec.text, "pages": site.spec.pages.to_string()},
        }))
        .unwrap();
        match self.maps(site).create(&PostParams::default(), &map).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        let sites: Api<Site> = Api::namespaced(self.client.clone(), &site.namespace().unwrap());
        let status = Patch::Merge(json!({"status": {"ready": true}}));
        sites.patch_status(&site.name_any(), &PatchParams::default(), &status).await?;
        Ok(Action::await_change())
    }
}

type Failure = kube::runtime::finalizer::Error<kube::Error>;

async fn reconcile(site: Arc<Site>, operator: Arc<Operator>) -> Result<Action, Failure> {
    let sites: Api<Site> = Api::namespaced(operator.client.clone(), &site.namespace().unwrap());
    finalizer(&sites, "example.com/clean", site, |event| async {
        match event {
            Event::Apply(site) => operator.build(&site).await,
            Event::Cleanup(_) => {
                operator.cleaned.fetch_add(1, Ordering::Relaxed);
                Ok(Action::await_change())
            }
        }
    })
    .await
}

async fn operate(operator: Arc<Operator>) {
    let sites: Api<Site> = Api::default_namespaced(operator.client.clone());
    let retry = |_: Arc<Site>, _: &Failure, _: Arc<Operator>| Action::requeue(Duration::from_millis(100));
    Controller::new(sites, watcher::Config::default())
        .run(reconcile, retry, operator)
        .for_each(|_| async {})
        .await;
}

#[tokio::test]
async fn an_operator_runs_on_custom_resources() {
    let cluster = Cluster::up();
    let client = connect(&cluster).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let established = await_condition(definitions.clone(), DEFINITION, conditions::is_crd_established());
    in_time("the definition to be established", established).await.unwrap();

    let operator = Arc::new(Operator { client: client.clone(), cleaned: AtomicUsize::new(0) });
    let running = task::spawn("operator", operate(Arc::clone(&operator)));
    let (sites, maps): (Api<Site>, Api<ConfigMap>) =
        (Api::default_namespaced(client.clone()), Api::default_namespaced(client.clone()));
    let site = Site::new("home", SiteSpec { text: "welcome".to_owned(), pages: 3 });
    sites.create(&PostParams::default(), &site).await.unwrap();
    let ready =
        |site: Option<&Site>| site.and_then(|site| site.status.as_ref()).is_some_and(|status| status.ready);
    in_time("the site to be ready", await_condition(sites.clone(), "home", ready)).await.unwrap();
    assert_eq!(maps.get("home").await.unwrap().data.unwrap()["pages"], "3");

    sites.delete("home", &DeleteParams::default()).await.unwrap();
    until("the site to go", || async { sites.get_opt("home").await.unwrap().is_none() }).await;
    assert_eq!(operator.cleaned.load(Ordering::Relaxed), 1);
    until("what it owned to go", || async { maps.get_opt("home").await.unwrap().is_none() }).await;
    running.abort();

    ends_with_its_namespace(&client).await;
    ends_with_its_definition(&client, &definitions).await;
}

/// Nobody operates here: the namespace itself takes the object with it.
async fn ends_with_its_namespace(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "town"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let sites: Api<Site> = Api::namespaced(client.clone(), "town");
    let site = Site::new("hall", SiteSpec { text: "open".to_owned(), pages: 1 });
    sites.create(&PostParams::default(), &site).await.unwrap();
    namespaces.delete("town", &DeleteParams::default()).await.unwrap();
    until("the namespace to go", || async { namespaces.get_opt("town").await.unwrap().is_none() }).await;
    let left = Api::<Site>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty());
}

async fn ends_with_its_definition(client: &Client, definitions: &Api<CustomResourceDefinition>) {
    let sites: Api<Site> = Api::default_namespaced(client.clone());
    sites
        .create(&PostParams::default(), &Site::new("last", SiteSpec { text: "bye".to_owned(), pages: 1 }))
        .await
        .unwrap();
    definitions.delete(DEFINITION, &DeleteParams::default()).await.unwrap();
    until("the definition to go", || async { definitions.get_opt(DEFINITION).await.unwrap().is_none() })
        .await;
    // The server learns of it as any watcher does.
    until("the resource to go", || async {
        let answer = sites.list(&ListParams::default()).await;
        matches!(answer, Err(kube::Error::Api(status)) if status.code == 404)
    })
    .await;
    // The same resource again begins empty.
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let established = await_condition(definitions.clone(), DEFINITION, conditions::is_crd_established());
    in_time("the definition to be established again", established).await.unwrap();
    assert!(sites.list(&ListParams::default()).await.unwrap().items.is_empty());
}
