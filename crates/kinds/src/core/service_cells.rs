//! The row of a service.

use crate::kind::Column;
use crate::table::{self, NONE, or_none, string, wide};
use crate::tree::{count, list, text, texts};
use serde_json::Value;
use std::collections::BTreeSet;

/// Upstream cuts the addresses of a load balancer to this width, except with `-o wide`; a table does not know which it is
/// for, and upstream fills tables as for wide output.
pub(super) fn columns() -> Vec<Column> {
    vec![
        table::name(),
        string("Type", "How the service is offered."),
        string("Cluster-IP", "Its address inside of the cluster."),
        string("External-IP", "Its addresses outside of the cluster."),
        string("Port(s)", "Its ports, with those of the nodes."),
        table::age(),
        wide(string("Selector", "The labels of the pods that it leads to.")),
    ]
}

pub(super) fn cells(service: &Value, now_s: i64) -> Vec<Value> {
    let spec = &service["spec"];
    vec![
        table::name_cell(service),
        text(spec, "type").into(),
        or_none(texts(spec, "clusterIPs").first().copied().unwrap_or_default()),
        external_ip(service).into(),
        or_none(&ports(spec)),
        table::age_cell(service, now_s),
        table::labels_cell(&spec["selector"]),
    ]
}

fn external_ip(service: &Value) -> String {
    let spec = &service["spec"];
    let external = texts(spec, "externalIPs");
    match text(spec, "type") {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let points = list(&service["status"]["loadBalancer"], "ingress").iter();
            let shown = points.map(|point| [text(point, "ip"), text(point, "hostname")]);
            let shown = shown.filter_map(|names| names.into_iter().find(|name| !name.is_empty()));
            let balanced: BTreeSet<_> = shown.collect();
            let all: Vec<_> = balanced.into_iter().chain(external).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(spec: &Value) -> String {
    let shown = |port: &Value| {
        let (number, protocol) = (count(port, "port"), text(port, "protocol"));
        match count(port, "nodePort") {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    };
    list(spec, "ports").iter().map(shown).collect::<Vec<_>>().join(",")
}
