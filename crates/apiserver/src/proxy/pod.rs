//! What is asked of a kubelet about a pod: paths and queries, with upstream's rules for naming the container. Pure.

use crate::error::ApiResult;
use crate::request::Query;
use nauplius_base::time::rfc3339_seconds;
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

/// Which part of which log is wanted.
pub(super) struct LogOptions<'a> {
    container: &'a str,
    params: Vec<(&'static str, String)>,
    /// Whoever answers as the kubelet is believed.
    pub unverified: bool,
}

impl<'a> LogOptions<'a> {
    /// Reads the query of a request about the pod `name`, which need not exist.
    pub fn of(query: &'a Query, name: &str) -> ApiResult<Self> {
        let mut params = Vec::new();
        for name in ["follow", "previous", "timestamps"] {
            if query.flag(name) {
                params.push((name, "true".to_owned()));
            }
        }
        let mut errors = Vec::new();
        let since_time = since_time(query)?;
        for (name, least) in [("tailLines", 0), ("limitBytes", 1)] {
            params.extend(count(query, name, least, &mut errors)?.map(|count| (name, count)));
        }
        if since_time.is_some() && query.non_empty("sinceSeconds").is_some() {
            let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            // So reads a path that consists of an empty name.
            errors.push(FieldError::forbidden(&Path::new("[]"), detail));
        } else {
            params.extend(since_time.map(|since| ("sinceTime", since)));
            let since = count(query, "sinceSeconds", 1, &mut errors)?;
            params.extend(since.map(|since| ("sinceSeconds", since)));
        }
        if query.non_empty("stream").is_some() {
            // Upstream's gate for it is off.
            errors.push(FieldError::forbidden(&Path::new("stream"), "may not be specified"));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(&GroupKind::new("", "PodLogOptions"), name, errors));
        }
        let container = query.get("container").unwrap_or_default();
        Ok(Self { container, params, unverified: query.flag("insecureSkipTLSVerifyBackend") })
    }
}

/// The time is passed on in whole seconds, as upstream does it.
fn since_time(query: &Query) -> ApiResult<Option<String>> {
    let Some(text) = query.non_empty("sinceTime") else { return Ok(None) };
    let since = nauplius_meta::time::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(Some(rfc3339_seconds(since)))
}

/// `/containerLogs/...`
pub(super) fn log_target(pod: &Value, options: &LogOptions<'_>) -> ApiResult<String> {
    let container = container(pod, options.container)?;
    Ok(target("containerLogs", pod, Some(container), &options.params))
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
    /// Reads the options of exec or attach. Whether they make sense is the kubelet's to say, and the runtime's.
    pub fn of(query: &'a Query, exec: bool) -> Self {
        let mut params = Vec::new();
        for (option, param) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
        {
            if query.flag(option) {
                params.push((param, "1".to_owned()));
            }
        }
        if exec {
            params.extend(query.all("command").map(|word| ("command", word.to_owned())));
        }
        Self { container: query.get("container").unwrap_or_default(), params }
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
        let query = Query::parse(query);
        let options = LogOptions::of(&query, "p");
        options.and_then(|options| log_target(pod, &options)).unwrap_or_else(|error| error.message())
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
            log(&one, "sinceTime=2026-01-02T03:04:05.9%2B01:00&insecureSkipTLSVerifyBackend=true"),
            "/containerLogs/n/p/a?sinceTime=2026-01-02T02%3A04%3A05Z"
        );
        assert_eq!(
            log(&one, "sinceTime=then"),
            "parsing time \"then\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"then\" as \"2006\""
        );
        assert_eq!(
            log(&one, "sinceTime=2026-01-02T03:04:05Z&sinceSeconds=0"),
            "PodLogOptions \"p\" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        );
        assert_eq!(
            log(&pod(&["a", "b"], &["i"]), ""),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn streams() {
        let query = Query::parse("command=sh&command=-c&command=echo+%26&stdin=true&stdout=true&tty=true");
        let streams = Streams::of(&query, true);
        assert_eq!(
            stream_target("exec", &pod(&["a"], &[]), &streams).unwrap(),
            "/exec/n/p/a?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20%26"
        );
        let query = Query::parse("command=x");
        assert_eq!(
            stream_target("attach", &pod(&["a"], &[]), &Streams::of(&query, false)).unwrap(),
            "/attach/n/p/a"
        );
        let ports = Query::parse("ports=80,81");
        assert_eq!(port_forward_target(&pod(&["a"], &[]), &ports).unwrap(), "/portForward/n/p?port=80%2C81");
    }
}
