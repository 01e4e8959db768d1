//! Ownership seen through the `scale` subresource: the path of the replicas has another name there. It must not know how a scale is made
//! of an object.
use std::collections::BTreeMap;

use serde_json::Value;

use super::element::PathElement;
use super::managed::{DecodeManagedError, Managed, ManagerId, Owned};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";
const REPLICAS: &[&str] = &["spec", "replicas"];

/// Where the replicas of an object are, in each of its versions.
pub struct ScalePaths<'a> {
    /// The version in which the scale is written.
    pub version: &'a str,
    /// The path in a version; none for a version that is not served.
    pub path: &'a dyn Fn(&str) -> Option<Vec<String>>,
}

fn elements(path: &[String]) -> Vec<PathElement> {
    path.iter().map(|name| PathElement::field(name.as_str())).collect()
}

fn set_of(path: &[PathElement]) -> Set {
    let mut set = Set::default();
    set.insert(path);
    set
}

impl ScalePaths<'_> {
    fn elements(&self, version: &str) -> Option<Vec<PathElement>> {
        (self.path)(version).map(|path| elements(&path))
    }

    /// The entries that a scale shows of an object's.
    pub fn to_scale(&self, parent: &[Value]) -> Result<Vec<Value>, DecodeManagedError> {
        let mut scale = Managed::default();
        for (id, owned) in Managed::decode(parent)?.owners {
            let owns = self.elements(&owned.version).is_some_and(|path| owned.set.has(&path));
            if owns {
                let set = Set::of_fields(&[REPLICAS]);
                scale.owners.insert(id, Owned { set, version: SCALE_VERSION.to_owned(), time: owned.time });
            }
        }
        Ok(scale.encode())
    }

    /// The entries of an object whose scale was written and now has these.
    pub fn to_parent(&self, parent: &[Value], scale: &[Value]) -> Result<Vec<Value>, DecodeManagedError> {
        let parent = Managed::decode(parent)?;
        let mut scale = Managed::decode(scale)?;
        let times: BTreeMap<ManagerId, Option<String>> =
            parent.owners.iter().map(|(id, owned)| (id.clone(), owned.time.clone())).collect();
        let mut merged = Managed::default();
        for (id, mut owned) in parent.owners {
            let Some(path) = self.elements(&owned.version) else { continue };
            if owned.set.has(&path) && scale.owners.remove(&id).is_none() {
                // Another has the replicas now.
                owned.set = owned.set.difference(&set_of(&path));
            }
            if !owned.set.is_empty() {
                merged.owners.insert(id, owned);
            }
        }
        let Some(path) = self.elements(self.version) else { return Ok(merged.encode()) };
        for (mut id, owned) in scale.owners {
            if !owned.set.has_fields(REPLICAS) {
                continue;
            }
            let time = times.get(&id).cloned().flatten();
            if !id.api_version.is_empty() {
                self.version.clone_into(&mut id.api_version);
            }
            let new = Owned { set: set_of(&path), version: self.version.to_owned(), time };
            let entry = merged.owners.entry(id).or_insert_with(|| new.clone());
            entry.set = entry.set.union(&new.set);
        }
        Ok(merged.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, version: &str, subresource: &str, fields: &[&str]) -> Value {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}});
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    fn paths(version: &str) -> Option<Vec<String>> {
        let replicas = match version {
            "apps/v1" => "replicas",
            "apps/v2" => "count",
            _ => return None,
        };
        Some(vec!["spec".to_owned(), replicas.to_owned()])
    }

    fn check_parent(parent: &[Value], scale: &[Value], expected: &[Value]) {
        let handler = ScalePaths { version: "apps/v1", path: &paths };
        assert_eq!(handler.to_parent(parent, scale).unwrap(), expected);
    }

    #[test]
    fn a_scale_shows_who_owns_the_replicas() {
        let handler = ScalePaths { version: "apps/v1", path: &paths };
        let parent = [
            entry("a", "Apply", "apps/v1", "", &["replicas", "selector"]),
            entry("b", "Apply", "apps/v1", "", &["selector"]),
            entry("c", "Update", "apps/v2", "", &["count"]),
            entry("d", "Update", "apps/v3", "", &["replicas"]),
        ];
        let expected = [
            entry("a", "Apply", "autoscaling/v1", "", &["replicas"]),
            entry("c", "Update", "autoscaling/v1", "", &["replicas"]),
        ];
        assert_eq!(handler.to_scale(&parent).unwrap(), expected);
    }

    #[test]
    fn the_replicas_move_to_who_scaled() {
        let both = |operation| entry("test", operation, "apps/v1", "", &["replicas", "selector"]);
        let rest = |operation| entry("test", operation, "apps/v1", "", &["selector"]);
        let scaled = |name, operation| entry(name, operation, "autoscaling/v1", "scale", &["replicas"]);
        let owns = |name, operation| entry(name, operation, "apps/v1", "scale", &["replicas"]);
        for (before, by) in
            [("Apply", "Update"), ("Update", "Update"), ("Apply", "Apply"), ("Update", "Apply")]
        {
            for name in ["scale", "test"] {
                let mut expected = vec![rest(before), owns(name, by)];
                if (before == "Update" && by == "Apply") || (before == by && name == "scale") {
                    expected.reverse();
                }
                check_parent(&[both(before)], &[scaled(name, by)], &expected);
            }
        }
    }

    #[test]
    fn what_nobody_took_stays() {
        let parent = [entry("test", "Apply", "apps/v1", "", &["replicas", "selector"])];
        let shared = [
            entry("test", "Apply", "autoscaling/v1", "", &["replicas"]),
            entry("test", "Apply", "autoscaling/v1", "scale", &["replicas"]),
        ];
        let expected = [parent[0].clone(), entry("test", "Apply", "apps/v1", "scale", &["replicas"])];
        check_parent(&parent, &shared, &expected);
        check_parent(
            &[entry("test", "Apply", "apps/v1", "", &["replicas"])],
            &[entry("scale", "Update", "autoscaling/v1", "scale", &["replicas"])],
            &[entry("scale", "Update", "apps/v1", "scale", &["replicas"])],
        );
        check_parent(
            &[entry("old", "Apply", "apps/v10", "", &["selector"])],
            &[entry("scale", "Update", "autoscaling/v1", "", &["replicas"])],
            &[entry("scale", "Update", "apps/v1", "", &["replicas"])],
        );
        // An update whose entry comes back under the version of the scale is the same entry.
        check_parent(
            &[entry("test", "Update", "apps/v1", "", &["replicas", "selector"])],
            &[entry("test", "Update", "autoscaling/v1", "", &["replicas"])],
            &[entry("test", "Update", "apps/v1", "", &["replicas", "selector"])],
        );
    }
}
