//! Endpoints and their packing as golden cases, and the laws on random sets of pods.

use super::pack::ENDPOINTS_MAX;
use super::*;
use crate::testing::{object, trace};
use proptest::prelude::*;
use serde_json::{Value, json};

fn service(extra: Value) -> Arc<Service> {
    let mut service = json!({"metadata": {"name": "s", "namespace": "n", "uid": "u"}, "spec": {"clusterIP": "10.96.0.9",
        "ipFamilies": ["IPv4"], "selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}});
    nauplius_meta::patch::merge::apply(&mut service, extra);
    object(service)
}

fn pod(index: usize, extra: Value) -> Arc<Pod> {
    let name = format!("p{index:04}");
    let mut pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "a"}},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": format!("10.0.{}.{}", index / 250, index % 250 + 1), "conditions": [{"type": "Ready", "status": "True"}]}});
    nauplius_meta::patch::merge::apply(&mut pod, extra);
    object(pod)
}

fn view(pods: Vec<Arc<Pod>>) -> View {
    let zones = BTreeMap::from([("node".to_owned(), "z".to_owned())]);
    View { service: service(json!({})), pods, zones, slices: Vec::new() }
}

/// Applies a plan to the view's slices, as the API server would.
fn apply(view: &mut View, plan: &Plan) {
    for action in &plan.actions {
        let Action::Write(write) = action else { continue };
        let name = write.path.rsplit('/').next().unwrap_or_default().to_owned();
        match write.method.as_str() {
            "DELETE" => view.slices.retain(|slice| slice.name() != name),
            "PUT" => {
                let slice = EndpointSlice::decode(&write.body).unwrap();
                view.slices.retain(|known| known.name() != name);
                view.slices.push(Arc::new(slice));
            }
            _ => {
                let mut slice = EndpointSlice::decode(&write.body).unwrap();
                slice.metadata.name = Some(format!("s-{}", nauplius_base::id::uuid()));
                view.slices.push(Arc::new(slice));
            }
        }
    }
}

fn settled(mut view: View) -> View {
    let first = plan(&view);
    apply(&mut view, &first);
    assert_eq!(trace(&plan(&view)), Vec::<String>::new());
    view
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let view = settled(view(Vec::new()));
    assert_eq!(view.slices.len(), 1);
    let slice = &view.slices[0];
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("s-"));
    assert_eq!(slice.metadata.labels.as_ref().unwrap()[SERVICE_NAME], "s");
    assert!(slice.metadata.owner_references.is_some());
}

#[test]
fn conditions_tell_ready_serving_and_terminating() {
    let leaving = pod(1, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let failed = pod(2, json!({"status": {"phase": "Failed"}}));
    let unready = pod(3, json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    let named = pod(4, json!({"spec": {"hostname": "h", "subdomain": "s"}}));
    let view = settled(view(vec![leaving, failed, unready, named]));
    let endpoints = view.slices[0].endpoints.clone().unwrap();
    let seen: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let conditions = endpoint.conditions.as_ref().unwrap();
            (endpoint.addresses[0].as_str(), conditions.ready, conditions.serving, conditions.terminating)
        })
        .collect();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(seen, [("10.0.0.2", no, yes, yes), ("10.0.0.4", no, no, no), ("10.0.0.5", yes, yes, no)]);
    assert_eq!((endpoints[2].hostname.as_deref(), endpoints[2].zone.as_deref()), (Some("h"), Some("z")));
    assert_eq!(view.slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
}

#[test]
fn the_empty_slice_is_the_first_to_be_filled() {
    let mut view = settled(view(Vec::new()));
    view.pods.push(pod(1, json!({})));
    let name = view.slices[0].name().to_owned();
    assert_eq!(trace(&plan(&view)), [format!("PUT n/endpointslices/{name}")]);
    let mut view = settled(view);
    view.pods.clear();
    assert_eq!(trace(&plan(&view)), [format!("PUT n/endpointslices/{name}")]);
}

#[test]
fn one_change_touches_one_slice() {
    let mut view = settled(view((0..250).map(|index| pod(index, json!({}))).collect()));
    assert_eq!(view.slices.len(), 3);
    view.pods.remove(10);
    assert_eq!(trace(&plan(&view)).len(), 1);
    view.pods.push(pod(400, json!({})));
    assert_eq!(trace(&plan(&view)).len(), 1);
}

#[test]
fn headless_services_say_so() {
    let mut view = view(Vec::new());
    view.service = service(json!({"spec": {"clusterIP": "None"}}));
    let view = settled(view);
    assert_eq!(view.slices[0].metadata.labels.as_ref().unwrap()[HEADLESS], "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_two_sets_of_pods_settle(before in proptest::collection::btree_set(0..400_usize, 0..300),
                                   after in proptest::collection::btree_set(0..400_usize, 0..300)) {
        let mut view = settled(view(before.into_iter().map(|index| pod(index, json!({}))).collect()));
        view.pods = after.iter().rev().map(|index| pod(*index, json!({}))).collect();
        let view = settled(view);
        let held: Vec<_> = view.slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        prop_assert_eq!(held.iter().sum::<usize>(), after.len());
        prop_assert!(held.iter().all(|count| *count <= ENDPOINTS_MAX));
    }
}
