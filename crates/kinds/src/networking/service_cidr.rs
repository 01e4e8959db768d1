//! ServiceCIDR: a range from which services get their addresses.

use crate::check::{Errors, IMMUTABLE};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::texts;
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_RANGES: usize = 2;

pub(crate) struct ServiceCidr(Descriptor);

pub(crate) fn kind() -> ServiceCidr {
    let descriptor = describe("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs");
    ServiceCidr(descriptor.cluster_scoped().status().done())
}

impl Kind for ServiceCidr {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let ranges = texts(spec, "cidrs");
        let field = path.child("cidrs");
        if ranges.is_empty() {
            errors.push(FieldError::required(&field, "at least one CIDR required"));
            return errors;
        }
        if ranges.len() > MAX_RANGES {
            // Upstream shows the whole spec.
            errors.push(FieldError::invalid(&field, spec.clone(), "may only hold up to 2 values"));
            return errors;
        }
        for (index, range) in ranges.iter().enumerate() {
            errors.extend(names::canonical_cidr(&field.index(index), range));
        }
        let families: Vec<_> =
            ranges.iter().filter_map(|range| names::parse_cidr(range)).map(|(ip, _)| ip.is_ipv4()).collect();
        if matches!(families[..], [first, second] if first == second) {
            let detail =
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.push(FieldError::invalid(&field, spec["cidrs"].clone(), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (ranges, old_ranges) = (texts(&new["spec"], "cidrs"), texts(&old["spec"], "cidrs"));
        let mut errors = Errors::new();
        let path = Path::new("spec").child("cidrs");
        let mut fixed = |count: usize| {
            for (index, (range, old)) in ranges.iter().zip(&old_ranges).take(count).enumerate() {
                if range != old {
                    errors.push(FieldError::invalid(&path.index(index), *range, IMMUTABLE));
                }
            }
        };
        match (old_ranges.len(), ranges.len()) {
            (old, new) if old == new => fixed(new),
            // One range may be joined by one of the other family.
            (1, 2) => {
                fixed(1);
                errors.extend(self.validate(new));
            }
            _ => errors.push(FieldError::invalid(&path, new["spec"]["cidrs"].clone(), IMMUTABLE)),
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), table::string("CIDRs", "The ranges of addresses."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let ranges = texts(&object["spec"], "cidrs").join(",");
        vec![table::name_cell(object), ranges.into(), table::age_cell(object, now_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};
    use serde_json::json;

    fn ranges(cidrs: &[&str]) -> Value {
        json!({"spec": {"cidrs": cidrs}})
    }

    #[test]
    fn ranges_are_checked_and_stay() {
        assert_eq!(created(&kind(), ranges(&["10.0.0.0/8"]))["status"], json!({}));
        creation(&kind(), json!({"spec": {}}), &["spec.cidrs: Required value: at least one CIDR required"]);
        creation(
            &kind(),
            ranges(&["10.0.0.1/8"]),
            &[
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
            ],
        );
        updated(
            &kind(),
            &ranges(&["10.0.0.0/8"]),
            ranges(&["11.0.0.0/8"]),
            &["spec.cidrs[0]: Invalid value: \"11.0.0.0/8\": field is immutable"],
        );
        updated(&kind(), &ranges(&["10.0.0.0/8"]), ranges(&["10.0.0.0/8", "2001:db8::/112"]), &[]);
    }

    #[test]
    fn the_row_shows_them() {
        row(
            &kind(),
            ranges(&["10.0.0.0/8", "2001:db8::/112"]),
            json!(["x", "10.0.0.0/8,2001:db8::/112", "75s"]),
        );
    }
}
