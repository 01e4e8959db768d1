//! A container's environment: services first, then config maps and secrets, then its own variables with `$(NAME)` expanded.
//! Pure over the objects it is handed.

use super::env_file;
use super::field::{self, NodeFacts};
use crate::pod::facts;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{ConfigMap, Container, EnvVar, FileKeySelector, Pod, Secret, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a container's variables are taken from.
pub struct Objects {
    /// By name.
    pub config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    /// By name.
    pub secrets: BTreeMap<String, Option<Arc<Secret>>>,
    /// All services of the pod's namespace, and the master's.
    pub services: Vec<Arc<Service>>,
    /// The texts of files in volumes, by volume and path.
    pub files: BTreeMap<(String, String), Option<String>>,
}

/// Where the pod runs.
pub struct Place<'a> {
    /// The pod's addresses.
    pub pod_ips: &'a [String],
    /// The node's facts.
    pub node: &'a NodeFacts,
}

/// Replaces `$(NAME)` by what `lookup` knows; `$$` is a dollar, and unknown names stay as they are.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The environment, in order; a later variable of a name replaces the earlier one at its place.
///
/// # Errors
/// Upstream's text for what is missing and not optional.
pub fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    place: &Place<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut known = Variables::default();
    from_sources(container, objects, &mut known)?;
    let services = service_variables(pod, &objects.services);
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, objects, place, &known, &services)? {
            known.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if known.get(&name).is_none() {
            known.set(&name, value);
        }
    }
    Ok(known.0)
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

fn from_sources(container: &Container, objects: &Objects, known: &mut Variables) -> Result<(), String> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match objects.config_maps.get(&reference.name).cloned().flatten() {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        known.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match objects.secrets.get(&reference.name).cloned().flatten() {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        known.set(&format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", reference.name)),
            }
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)] // One call site; the pieces have no common name.
fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    objects: &Objects,
    place: &Place<'_>,
    known: &Variables,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else {
        let lookup = |name: &str| known.get(name).map(str::to_owned).or_else(|| services.get(name).cloned());
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), &lookup)));
    };
    if let Some(reference) = &source.field_ref {
        let value = field::field(pod, &reference.field_path, place.pod_ips, place.node.ip);
        return value.map(Some).ok_or_else(|| format!("unsupported fieldPath: {}", reference.field_path));
    }
    if let Some(reference) = &source.resource_field_ref {
        let named = reference.container_name.as_deref().filter(|name| !name.is_empty());
        let of =
            named.map_or(Some(container), |name| facts::container(pod, name).map(|(container, _)| container));
        let value = of.and_then(|of| field::resource(of, reference, place.node));
        return value
            .map(Some)
            .ok_or_else(|| format!("unsupported container resource: {}", reference.resource));
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        return match objects.config_maps.get(&reference.name).cloned().flatten() {
            None if optional => Ok(None),
            None => Err(format!("configmap {:?} not found", reference.name)),
            Some(map) => match map.data.iter().flatten().find(|(key, _)| **key == reference.key) {
                Some((_, value)) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(missing_key(&reference.key, "ConfigMap", pod, &reference.name)),
            },
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        return match objects.secrets.get(&reference.name).cloned().flatten() {
            None if optional => Ok(None),
            None => Err(format!("secret {:?} not found", reference.name)),
            Some(secret) => match secret.data.iter().flatten().find(|(key, _)| **key == reference.key) {
                Some((_, value)) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(missing_key(&reference.key, "Secret", pod, &reference.name)),
            },
        };
    }
    match &source.file_key_ref {
        Some(reference) => from_file(reference, objects),
        None => Ok(Some(String::new())),
    }
}

fn from_file(reference: &FileKeySelector, objects: &Objects) -> Result<Option<String>, String> {
    let (path, key) = (&reference.path, &reference.key);
    let text = objects.files.get(&(reference.volume_name.clone(), path.clone())).cloned().flatten();
    let value = match &text {
        Some(text) => env_file::value(text, key).map_err(|why| format!("couldn't parse env file: {why}"))?,
        None => None,
    };
    match value {
        None if reference.optional == Some(true) => Ok(None),
        None if text.is_none() => Err(format!("environment variable file {path:?} not found")),
        None => Err(format!("environment variable key {key:?} not found in file {path:?}")),
        found => Ok(found),
    }
}

fn missing_key(key: &str, kind: &str, pod: &Pod, name: &str) -> String {
    format!("couldn't find key {key} in {kind} {}/{name}", pod.namespace())
}

/// `REDIS_MASTER` of `redis-master`.
fn variable_name(service: &str) -> String {
    service.to_ascii_uppercase().replace('-', "_")
}

/// The variables of services: those of the namespace when links are enabled, and the API server's in any case.
fn service_variables(pod: &Pod, services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let links = facts::spec(pod).enable_service_links.unwrap_or(true);
    let mut variables = BTreeMap::new();
    for service in services {
        let master = service.namespace() == "default" && service.name() == "kubernetes";
        if master || (links && service.namespace() == pod.namespace()) {
            one_service(service, &mut variables);
        }
    }
    variables
}

fn one_service(service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let Some(ports) = spec.ports.as_ref().filter(|ports| !ports.is_empty()) else { return };
    if address.is_empty() || address == "None" {
        return;
    }
    let prefix = variable_name(service.name());
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), ports[0].port.to_string());
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            set(format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_ascii_lowercase(), port.port);
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let stem = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        set(format!("{stem}_PROTO"), protocol.to_ascii_lowercase());
        set(format!("{stem}_PORT"), port.port.to_string());
        set(format!("{stem}_ADDR"), address.to_owned());
        set(stem, url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_follows_upstream() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("$(A)-x", "1-x"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
            ("$", "$"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    fn objects() -> Objects {
        let map = ConfigMap::decode(br#"{"metadata":{"name":"m"},"data":{"k":"v","second":"2"}}"#).unwrap();
        let secret = Secret::decode(br#"{"metadata":{"name":"s"},"data":{"p":"c2VjcmV0"}}"#).unwrap();
        let service = |json: &str| Arc::new(Service::decode(json.as_bytes()).unwrap());
        Objects {
            config_maps: BTreeMap::from([("m".to_owned(), Some(Arc::new(map))), ("gone".to_owned(), None)]),
            secrets: BTreeMap::from([("s".to_owned(), Some(Arc::new(secret)))]),
            services: vec![
                service(
                    r#"{"metadata":{"name":"kubernetes","namespace":"default"},"spec":{"clusterIP":"10.96.0.1",
                    "ports":[{"name":"https","port":443,"protocol":"TCP"}]}}"#,
                ),
                service(
                    r#"{"metadata":{"name":"my-db","namespace":"n"},"spec":{"clusterIP":"10.96.0.7","ports":[{"port":5432}]}}"#,
                ),
                service(
                    r#"{"metadata":{"name":"headless","namespace":"n"},"spec":{"clusterIP":"None","ports":[{"port":1}]}}"#,
                ),
            ],
            files: BTreeMap::from([
                (("v".to_owned(), "f".to_owned()), Some("F='from a file'\n".to_owned())),
                (("v".to_owned(), "gone".to_owned()), None),
                (("v".to_owned(), "bad".to_owned()), Some("F=x".to_owned())),
            ]),
        }
    }

    fn check(container: &str) -> Result<BTreeMap<String, String>, String> {
        let json =
            format!(r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{"containers":[{container}]}}}}"#);
        let pod = Pod::decode(json.as_bytes()).unwrap();
        let node = NodeFacts {
            ip: "10.0.0.1".parse().unwrap(),
            cpus: 2,
            memory: 1,
            allocatable_memory: 1,
            allocatable_storage: 1,
        };
        let place = Place { pod_ips: &[], node: &node };
        environment(&pod, &facts::spec(&pod).containers[0], &objects(), &place)
            .map(|all| all.into_iter().collect())
    }

    #[test]
    fn variables_come_from_everywhere() {
        let all = check(
            r#"{"name":"c","envFrom":[{"prefix":"M_","configMapRef":{"name":"m"}},{"secretRef":{"name":"no","optional":true}}],
            "env":[{"name":"X","value":"$(M_k)/$(MY_DB_SERVICE_HOST)"},{"name":"P","valueFrom":{"secretKeyRef":{"name":"s","key":"p"}}},
            {"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
            {"name":"F","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"f","key":"F"}}},
            {"name":"O","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"gone","key":"F","optional":true}}},
            {"name":"O","valueFrom":{"configMapKeyRef":{"name":"m","key":"none","optional":true}}}]}"#,
        )
        .unwrap();
        for (name, value) in [
            ("M_k", "v"),
            ("M_second", "2"),
            ("X", "v/10.96.0.7"),
            ("P", "secret"),
            ("N", "p"),
            ("F", "from a file"),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
            ("MY_DB_PORT", "tcp://10.96.0.7:5432"),
        ] {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!all.contains_key("O") && !all.contains_key("HEADLESS_SERVICE_HOST"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (container, expected) in [
            (r#"{"name":"c","envFrom":[{"configMapRef":{"name":"gone"}}]}"#, "configmap \"gone\" not found"),
            (
                r#"{"name":"c","env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"m","key":"z"}}}]}"#,
                "couldn't find key z in ConfigMap n/m",
            ),
            (
                r#"{"name":"c","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"q","key":"z"}}}]}"#,
                "secret \"q\" not found",
            ),
            (
                r#"{"name":"c","env":[{"name":"A","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"gone","key":"F"}}}]}"#,
                "environment variable file \"gone\" not found",
            ),
            (
                r#"{"name":"c","env":[{"name":"A","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"f","key":"G"}}}]}"#,
                "environment variable key \"G\" not found in file \"f\"",
            ),
            (
                r#"{"name":"c","env":[{"name":"A","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"bad","key":"F"}}}]}"#,
                "couldn't parse env file: invalid environment variable format at line 1: value must be enclosed in single quotes",
            ),
        ] {
            assert_eq!(check(container).unwrap_err(), expected);
        }
    }
}
