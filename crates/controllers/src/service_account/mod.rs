//! Every active namespace has a service account called `default`.

use crate::context::{Context, enqueue};
use nauplius_base::time::Timestamp;
use nauplius_kinds::{Namespace, Object, ServiceAccount};
use nauplius_reconcile::{Action, Controller, Informer, Key, Plan, Queue};
use std::sync::Arc;

const ACCOUNT: &str = "default";
const WORKERS: usize = 1;

struct ServiceAccounts {
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

/// What the plan depends on; the key is the namespace's.
struct View {
    namespace: Arc<Namespace>,
    exists: bool,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    enqueue(&context.namespaces, &queue, |change| Some(Key::of(&**change.object())));
    enqueue(&context.service_accounts, &queue, |change| {
        let account = change.object();
        (account.name() == ACCOUNT).then(|| Key::new("", account.namespace()))
    });
    let controller = ServiceAccounts {
        namespaces: context.namespaces.clone(),
        accounts: context.service_accounts.clone(),
    };
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.service_accounts));
}

/// Whether things may still be made in the namespace.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase != Some("Terminating") && namespace.meta().deletion_timestamp.is_none()
}

impl Controller for ServiceAccounts {
    type View = View;
    const NAME: &'static str = "service-account-controller";
    const QUEUE: &'static str = "serviceaccount";

    fn view(&self, key: &Key) -> Option<View> {
        let namespace = Arc::clone(self.namespaces.snapshot().get(key)?);
        let exists = self.accounts.snapshot().find(namespace.name(), ACCOUNT).is_some();
        Some(View { namespace, exists })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if is_active(&view.namespace) && !view.exists {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some(ACCOUNT.to_owned());
            account.metadata.namespace = Some(view.namespace.name().to_owned());
            plan.act(Action::create(&account));
        }
        plan
    }
}
