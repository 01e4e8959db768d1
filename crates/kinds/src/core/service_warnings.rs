//! What a Service may say but better would not.

use super::service::is_headless;
use crate::check::each_text;
use crate::tree::{get, is_unset, text};
use crate::warnings::{cidr, ip};
use nauplius_meta::field::Path;
use serde_json::Value;

const OLD_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The warnings about a service, in upstream's order.
pub(super) fn of_service(service: &Value) -> Vec<String> {
    let (spec, path) = (&service["spec"], Path::new("spec"));
    let type_ = text(spec, "type");
    let mut warnings = Vec::new();
    if get(&service["metadata"]["annotations"], OLD_HINTS).is_some() {
        let new = "service.kubernetes.io/topology-mode";
        warnings.push(format!("annotation {OLD_HINTS} is deprecated, please use {new} instead"));
    }
    let own_addresses = each_text(spec, "clusterIPs", &path).into_iter();
    for (path, address) in own_addresses.filter(|(_, address)| *address != "None") {
        ip(address, &path, &mut warnings);
    }
    if type_ == "ClusterIP" && is_headless(spec) {
        let ignored = [
            (!is_unset(spec, "loadBalancerIP"), "loadBalancerIP"),
            (!is_unset(spec, "externalIPs"), "externalIPs"),
            (text(spec, "sessionAffinity") != "None", "SessionAffinity"),
        ];
        let ignored = ignored.into_iter().filter(|(is_so, _)| *is_so);
        warnings.extend(ignored.map(|(_, field)| format!("spec.{field} is ignored for headless services")));
    }
    for (path, address) in each_text(spec, "externalIPs", &path) {
        ip(address, &path, &mut warnings);
    }
    ip(text(spec, "loadBalancerIP"), &path.child("loadBalancerIP"), &mut warnings);
    for (path, network) in each_text(spec, "loadBalancerSourceRanges", &path) {
        // Blanks around a range are allowed here alone.
        cidr(network.trim(), &path, &mut warnings);
    }
    let is_name = type_ == "ExternalName";
    if is_name && !is_unset(spec, "externalIPs") {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_name && !is_unset(spec, "externalName") {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        let words = "\"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(format!("spec.trafficDistribution: {words}"));
    }
    warnings
}
