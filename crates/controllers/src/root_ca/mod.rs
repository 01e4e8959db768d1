//! Every active namespace has the config map `kube-root-ca.crt`, from which pods learn whom to trust.

use crate::context::{Context, enqueue};
use crate::service_account::is_active;
use nauplius_base::time::Timestamp;
use nauplius_kinds::{ConfigMap, Namespace, Object};
use nauplius_reconcile::{Action, Controller, Informer, Key, Plan, Queue};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal \
     service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);
const WORKERS: usize = 1;

struct RootCa {
    namespaces: Informer<Namespace>,
    config_maps: Informer<ConfigMap>,
    bundle: String,
}

struct View {
    namespace: Arc<Namespace>,
    known: Option<Arc<ConfigMap>>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.namespaces, &queue, |change| Some(Key::of(&**change.object())));
    enqueue(&context.root_cas, &queue, |change| Some(Key::new("", change.object().namespace())));
    let controller = RootCa {
        namespaces: context.namespaces.clone(),
        config_maps: context.root_cas.clone(),
        bundle: context.settings.root_ca.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.root_cas));
}

impl RootCa {
    fn data(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(KEY.to_owned(), self.bundle.clone())])
    }
}

impl Controller for RootCa {
    type View = View;
    const NAME: &'static str = "root-ca-cert-publisher";
    const QUEUE: &'static str = "root_ca_cert_publisher";

    fn view(&self, key: &Key) -> Option<View> {
        let namespace = Arc::clone(self.namespaces.snapshot().get(key)?);
        let known = self.config_maps.snapshot().find(namespace.name(), NAME).cloned();
        Some(View { namespace, known })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if !is_active(&view.namespace) {
            return plan;
        }
        match &view.known {
            None => {
                let mut config_map = ConfigMap { data: Some(self.data()), ..ConfigMap::default() };
                config_map.metadata.name = Some(NAME.to_owned());
                config_map.metadata.namespace = Some(view.namespace.name().to_owned());
                let (key, text) = DESCRIPTION;
                config_map.metadata.annotations = Some(BTreeMap::from([(key.to_owned(), text.to_owned())]));
                plan.act(Action::create(&config_map));
            }
            Some(known) if known.data.as_ref() != Some(&self.data()) => {
                let mut config_map = ConfigMap::clone(known);
                config_map.data = Some(self.data());
                plan.act(Action::update(&config_map));
            }
            Some(_) => {}
        }
        plan
    }
}
