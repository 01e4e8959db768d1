//! What is asked of a kubelet about a pod: paths and queries, with upstream's rules for naming the container. Pure.

use crate::error::ApiResult;
use crate::request::Query;
use nauplius_client::api::escape;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupKind;
use nauplius_meta::object;
use serde_json::Value;

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    object::get_array(pod, &["spec", list])
        .iter()
        .map(|container| object::get_str(container, &["name"]))
        .collect()
}

/// The container that is meant: the one named, or the only one.
fn container<'a>(pod: &'a Value, wanted: &'a str) -> ApiResult<&'a str> {
    let (containers, init) = (names(pod, "containers"), names(pod, "initContainers"));
    let pod_name = object::name(pod);
    if !wanted.is_empty() {
        let known = containers.contains(&wanted)
            || init.contains(&wanted)
            || names(pod, "ephemeralContainers").contains(&wanted);
        let unknown = || ApiError::bad_request(format!("container {wanted} is not valid for pod {pod_name}"));
        return if known { Ok(wanted) } else { Err(unknown()) };
    }
    match &containers[..] {
        [only] => Ok(only),
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        several => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                several.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

fn target(endpoint: &str, pod: &Value, container: Option<&str>, params: &[(&str, String)]) -> String {
    let mut target = format!("/{endpoint}/{}/{}", object::namespace(pod), object::name(pod));
    if let Some(container) = container {
        target.push('/');
        target.push_str(container);
    }
    for (index, (name, value)) in params.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(&format!("{name}={}", escape(value)));
    }
    target
}

/// `/containerLogs/...`
pub(super) fn log_target(pod: &Value, query: &Query) -> ApiResult<String> {
    if query.flag("insecureSkipTLSVerifyBackend") {
        let message = "insecureSkipTLSVerifyBackend is not supported: kubelets are always verified";
        return Err(ApiError::bad_request(message));
    }
    let container = container(pod, query.get("container").unwrap_or_default())?;
    let mut params = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) {
            params.push((name, "true".to_owned()));
        }
    }
    let mut errors = Vec::new();
    for (name, least) in [("tailLines", 0), ("limitBytes", 1)] {
        params.extend(count(query, name, least, &mut errors)?.map(|count| (name, count)));
    }
    match (query.non_empty("sinceTime"), query.non_empty("sinceSeconds")) {
        (Some(_), Some(_)) => {
            let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(FieldError::forbidden(&Path::root(), detail));
        }
        (Some(since), None) => params.push(("sinceTime", since.to_owned())),
        (None, _) => {
            let since = count(query, "sinceSeconds", 1, &mut errors)?;
            params.extend(since.map(|since| ("sinceSeconds", since)));
        }
    }
    if query.non_empty("stream").is_some() {
        // Upstream's gate for it is off.
        errors.push(FieldError::forbidden(&Path::new("stream"), "may not be specified"));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(&GroupKind::new("", "PodLogOptions"), object::name(pod), errors));
    }
    Ok(target("containerLogs", pod, Some(container), &params))
}

/// A number of the query that is at least so much.
fn count(query: &Query, name: &str, least: i64, errors: &mut Vec<FieldError>) -> ApiResult<Option<String>> {
    let Some(text) = query.non_empty(name) else { return Ok(None) };
    let number: i64 = text
        .parse()
        .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
    if number < least {
        let than = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
        errors.push(FieldError::invalid(&Path::new(name), number, than));
    }
    Ok(Some(text.to_owned()))
}

/// Which streams of a container are wanted.
pub(super) struct Streams<'a> {
    container: &'a str,
    params: Vec<(&'static str, String)>,
}

impl<'a> Streams<'a> {
    /// Reads the options of exec or attach.
    pub fn of(query: &'a Query, exec: bool) -> ApiResult<Self> {
        let mut params = Vec::new();
        for (option, param) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
        {
            if query.flag(option) {
                params.push((param, "1".to_owned()));
            }
        }
        if params.iter().all(|(param, _)| *param == "tty") {
            return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        if exec {
            let before = params.len();
            params.extend(query.all("command").map(|word| ("command", word.to_owned())));
            if params.len() == before {
                return Err(ApiError::bad_request("you must specify a command to execute"));
            }
        }
        Ok(Self { container: query.get("container").unwrap_or_default(), params })
    }
}

/// `/exec/...` and `/attach/...`
pub(super) fn stream_target(endpoint: &str, pod: &Value, streams: &Streams<'_>) -> ApiResult<String> {
    let container = container(pod, streams.container)?;
    Ok(target(endpoint, pod, Some(container), &streams.params))
}

/// `/portForward/...`
pub(super) fn port_forward_target(pod: &Value, query: &Query) -> ApiResult<String> {
    let ports: Vec<&str> =
        query.all("ports").flat_map(|ports| ports.split(',')).filter(|port| !port.is_empty()).collect();
    if let Some(wrong) = ports.iter().find(|port| port.parse::<u16>().is_err()) {
        return Err(ApiError::bad_request(format!("strconv.ParseUint: parsing {wrong:?}: invalid syntax")));
    }
    let params = if ports.is_empty() { Vec::new() } else { vec![("port", ports.join(","))] };
    Ok(target("portForward", pod, None, &params))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &[&str], init: &[&str]) -> Value {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Value>();
        json!({"metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": list(containers), "initContainers": list(init)}})
    }

    fn log(pod: &Value, query: &str) -> String {
        log_target(pod, &Query::parse(query)).unwrap_or_else(|error| error.message())
    }

    #[test]
    fn logs() {
        let one = pod(&["a"], &[]);
        assert_eq!(log(&one, ""), "/containerLogs/n/p/a");
        assert_eq!(
            log(&one, "follow=true&tailLines=5&timestamps=1&previous=false"),
            "/containerLogs/n/p/a?follow=true&timestamps=true&tailLines=5"
        );
        assert_eq!(log(&one, "container=x"), "container x is not valid for pod p");
        assert_eq!(
            log(&one, "tailLines=-1"),
            "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"
        );
        assert_eq!(
            log(&pod(&["a", "b"], &["i"]), ""),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn streams() {
        let query = Query::parse("command=sh&command=-c&command=echo+%26&stdin=true&stdout=true&tty=true");
        let streams = Streams::of(&query, true).unwrap();
        assert_eq!(
            stream_target("exec", &pod(&["a"], &[]), &streams).unwrap(),
            "/exec/n/p/a?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20%26"
        );
        assert!(Streams::of(&Query::parse("command=x"), true).is_err());
        assert!(Streams::of(&Query::parse("stdout=1"), true).is_err());
        let ports = Query::parse("ports=80,81");
        assert_eq!(port_forward_target(&pod(&["a"], &[]), &ports).unwrap(), "/portForward/n/p?port=80%2C81");
    }
}
