//! The files of config map, secret, downward and projected volumes, as data. Pure: objects and tokens are handed in.

use crate::pod::facts;
use crate::spec::field::{self, NodeFacts};
use nauplius_kinds::api::core::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};
use std::collections::BTreeMap;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner, where not root.
    pub user: Option<u32>,
}

/// Files by path below the volume.
pub type Payload = BTreeMap<String, File>;

/// Permissions come as signed numbers.
pub fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).unwrap_or(0o644).cast_unsigned() & 0o777
}

fn pick(
    all: BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    default: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let file = |data| File { data, mode: mode(None, default), user: None };
        return Ok(all.into_iter().map(|(key, data)| (key, file(data))).collect());
    };
    let mut files = Payload::new();
    for item in items {
        match all.get(&item.key) {
            Some(data) => {
                let file = File { data: data.clone(), mode: mode(item.mode, default), user: None };
                files.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

/// The files of a config map.
///
/// # Errors
/// When it, or a key of it, is missing and not optional.
pub fn config_map(
    name: &str,
    map: Option<&ConfigMap>,
    items: Option<&Vec<KeyToPath>>,
    default: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let Some(map) = map else {
        return if optional { Ok(Payload::new()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    pick(text.chain(binary).collect(), items, default, optional)
}

/// The files of a secret.
///
/// # Errors
/// As [`config_map`].
pub fn secret(
    name: &str,
    secret: Option<&Secret>,
    items: Option<&Vec<KeyToPath>>,
    default: Option<i32>,
    optional: bool,
) -> Result<Payload, String> {
    let Some(secret) = secret else {
        return if optional { Ok(Payload::new()) } else { Err(format!("secret {name:?} not found")) };
    };
    let all = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    pick(all, items, default, optional)
        .map_err(|error| error.replace("non-existent config key", "non-existent secret key"))
}

/// The files of the downward API.
///
/// # Errors
/// When a path names no field.
pub fn downward(
    pod: &Pod,
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    default: Option<i32>,
    pod_ips: &[String],
    node: &NodeFacts,
) -> Result<Payload, String> {
    let mut files = Payload::new();
    for item in items.into_iter().flatten() {
        let value = if let Some(reference) = &item.field_ref {
            let value = field::field(pod, &reference.field_path, pod_ips, node.ip);
            value.ok_or_else(|| format!("unsupported fieldPath: {}", reference.field_path))?
        } else if let Some(reference) = &item.resource_field_ref {
            let name = reference.container_name.as_deref().unwrap_or_default();
            let of = facts::container(pod, name).map(|(container, _)| container);
            let value = of.and_then(|container| field::resource(container, reference, node));
            value.ok_or_else(|| format!("unsupported container resource: {}", reference.resource))?
        } else {
            continue;
        };
        let file = File { data: value.into_bytes(), mode: mode(item.mode, default), user: None };
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}

/// The user that all containers run as, when it is one: a token may be readable by it alone.
pub fn only_user(pod: &Pod) -> Option<u32> {
    let spec = facts::spec(pod);
    let pod_user = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let all = facts::init_containers(pod).iter().chain(&spec.containers);
    let mut users =
        all.map(|container| container.security_context.as_ref().and_then(|c| c.run_as_user).or(pod_user));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(u32::try_from(first).ok()?) // Checked by the API server.
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::Object;

    #[test]
    fn keys_become_paths_with_modes() {
        let map =
            ConfigMap::decode(br#"{"metadata":{"name":"m"},"data":{"a":"1"},"binaryData":{"b":"/w=="}}"#)
                .unwrap();
        let all = config_map("m", Some(&map), None, Some(0o400), false).unwrap();
        assert_eq!(all["b"], File { data: vec![0xff], mode: 0o400, user: None });
        let item = KeyToPath { key: "a".to_owned(), path: "x/y".to_owned(), mode: Some(0o640), user: None };
        let some = config_map("m", Some(&map), Some(&vec![item]), None, false).unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(some["x/y"].mode, 0o640);
        let missing =
            Some(vec![KeyToPath { key: "z".to_owned(), path: "z".to_owned(), mode: None, user: None }]);
        for (map, optional, expected) in [
            (Some(&map), false, Err("references non-existent config key: z".to_owned())),
            (Some(&map), true, Ok(Payload::new())),
            (None, false, Err("configmap \"m\" not found".to_owned())),
            (None, true, Ok(Payload::new())),
        ] {
            assert_eq!(config_map("m", map, missing.as_ref(), None, optional), expected);
        }
    }
}
