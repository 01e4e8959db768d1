//! Endpoints in, writes out, and nothing more to write afterwards.

use super::*;
use crate::testing::{object, trace};
use serde_json::{Value, json};

fn service(selector: Value) -> Arc<Service> {
    object(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"selector": selector}}))
}

fn endpoints(extra: Value) -> Arc<Endpoints> {
    let mut endpoints = json!({"metadata": {"name": "s", "namespace": "n", "uid": "e"}, "subsets": [
        {"addresses": [{"ip": "10.1.2.3", "hostname": "h", "nodeName": "node"}], "notReadyAddresses": [{"ip": "10.1.2.4"}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}]}]});
    nauplius_meta::patch::merge::apply(&mut endpoints, extra);
    object(endpoints)
}

fn view(extra: Value) -> View {
    View { service: Some(service(Value::Null)), endpoints: Some(endpoints(extra)), slices: Vec::new() }
}

/// The slices that a plan writes, named in the order they are made.
fn apply(view: &mut View, plan: &Plan) {
    for action in &plan.actions {
        let Action::Write(write) = action else { continue };
        let name = write.path.rsplit('/').next().unwrap_or_default().to_owned();
        if write.method != http::Method::POST {
            view.slices.retain(|slice| slice.name() != name);
        }
        if write.method != http::Method::DELETE {
            let mut slice = EndpointSlice::decode(&write.body).unwrap();
            let made = format!("s-{}", view.slices.len());
            slice.metadata.name.get_or_insert(made);
            view.slices.push(Arc::new(slice));
        }
    }
}

fn settled(mut view: View) -> View {
    let first = plan(&view);
    apply(&mut view, &first);
    assert_eq!(trace(&plan(&view)), Vec::<String>::new());
    view
}

fn seen(view: &View) -> Vec<(String, String, usize)> {
    let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
    let one =
        |slice: &Arc<EndpointSlice>| (slice.name().to_owned(), slice.address_type.clone(), count(slice));
    let mut seen: Vec<_> = view.slices.iter().map(one).collect();
    seen.sort();
    seen
}

#[test]
fn endpoints_without_selector_are_mirrored_with_all_they_say() {
    let metadata = json!({"labels": {"a": "1"}, "annotations": {"note": "x", "endpoints.kubernetes.io/last-change-trigger-time": "t",
        "kubectl.kubernetes.io/last-applied-configuration": "{}"}});
    let view = settled(view(json!({"metadata": metadata})));
    let slice = serde_json::from_slice::<Value>(&view.slices[0].encode()).unwrap();
    let expected = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-0", "generateName": "s-", "namespace": "n", "annotations": {"note": "x"},
            "labels": {"a": "1", SERVICE_NAME: "s", MANAGED_BY.0: MANAGED_BY.1},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Endpoints", "name": "s", "uid": "e", "controller": true, "blockOwnerDeletion": true}]},
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "hostname": "h", "nodeName": "node"},
            {"addresses": ["10.1.2.4"], "conditions": {"ready": false}}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}]});
    assert_eq!(slice, expected);
}

#[test]
fn changes_are_followed_and_slices_used_again() {
    let mut view = settled(view(json!({})));
    view.endpoints = Some(endpoints(
        json!({"subsets": [{"addresses": [{"ip": "10.1.2.9"}, {"ip": "010.1.2.008"}], "ports": [{"port": 81}]}]}),
    ));
    assert_eq!(trace(&plan(&view)), ["PUT n/endpointslices/s-0"]);
    let mut view = settled(view);
    let addresses: Vec<_> =
        view.slices[0].endpoints.iter().flatten().map(|one| one.addresses[0].clone()).collect();
    assert_eq!(addresses, ["10.1.2.8", "10.1.2.9"]);
    view.endpoints = Some(endpoints(json!({"metadata": {"labels": {"b": "2"}}, "subsets": [
        {"addresses": [{"ip": "10.1.2.8"}, {"ip": "10.1.2.9"}, {"ip": "fd00::1"}], "ports": [{"port": 81}]}]})));
    let view = settled(view);
    assert_eq!(seen(&view), [("s-0".into(), "IPv4".into(), 2), ("s-1".into(), "IPv6".into(), 1)]);
    assert!(view.slices.iter().all(|slice| slice.metadata.labels.as_ref().unwrap()["b"] == "2"));
}

#[test]
fn ports_apart_are_slices_apart_and_empty_endpoints_have_none() {
    let subset = |port: i32, ip: &str| json!({"addresses": [{"ip": ip}], "ports": [{"port": port}]});
    let mut view = settled(view(
        json!({"subsets": [subset(80, "10.0.0.1"), subset(81, "10.0.0.1"), subset(80, "10.0.0.2")]}),
    ));
    assert_eq!(seen(&view), [("s-0".into(), "IPv4".into(), 2), ("s-1".into(), "IPv4".into(), 1)]);
    view.endpoints = Some(endpoints(json!({"subsets": []})));
    assert_eq!(trace(&plan(&view)), ["DELETE n/endpointslices/s-0", "DELETE n/endpointslices/s-1"]);
}

#[test]
fn what_is_not_to_be_mirrored_has_its_slices_taken_away() {
    let check = |change: &dyn Fn(&mut View)| {
        let mut view = settled(view(json!({})));
        change(&mut view);
        assert_eq!(trace(&plan(&view)), ["DELETE n/endpointslices/s-0"]);
    };
    check(&|view| view.endpoints = None);
    check(&|view| view.service = None);
    check(&|view| view.service = Some(service(json!({"app": "a"}))));
    check(&|view| view.endpoints = Some(endpoints(json!({"metadata": {"labels": {SKIP_MIRROR: "true"}}}))));
    check(&|view| view.endpoints = Some(endpoints(json!({"metadata": {"annotations": {LEADER: "{}"}}}))));
}

#[test]
fn endpoints_that_end_get_no_slice_and_too_many_are_cut_and_told() {
    let leaving = view(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(plan(&leaving), Plan::nothing());
    let many: Vec<_> = (0..1100).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)})).collect();
    let mut view = view(
        json!({"subsets": [{"addresses": many, "notReadyAddresses": [{"ip": "x"}], "ports": [{"port": 1}]}]}),
    );
    let first = plan(&view);
    let message = "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 101 addresses were skipped";
    assert_eq!(
        trace(&first),
        ["POST n/endpointslices".to_owned(), format!("event Warning TooManyAddressesToMirror: {message}")]
    );
    apply(&mut view, &first);
    assert_eq!(seen(&view), [("s-0".into(), "IPv4".into(), ENDPOINTS_MAX)]);
}

#[test]
fn an_address_that_is_none_is_told() {
    let view =
        view(json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "x"}], "ports": [{"port": 1}]}]}));
    let lines = trace(&plan(&view));
    assert_eq!(
        lines[1..],
        ["event Warning InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices"]
    );
}
