//! Paths and queries of the kubelet's server, as upstream names them. Pure.

use percent_encoding::percent_decode_str;

/// Which container of which pod is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// Uid, when the path has one.
    pub uid: Option<String>,
    /// Empty for port-forward.
    pub container: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`
    Health,
    /// `/pods`
    Pods,
    /// `/runningpods/`
    RunningPods,
    /// `/containerLogs/...`
    Log(Target),
    /// `/exec/...`
    Exec(Target),
    /// `/attach/...`
    Attach(Target),
    /// `/portForward/...`
    PortForward(Target),
    /// `/run/...`
    Run(Target),
    /// `/stats/summary`
    StatsSummary,
    /// `/metrics`
    Metrics,
    /// `/metrics/cadvisor`
    CadvisorMetrics,
    /// `/metrics/probes`
    ProbeMetrics,
    /// `/metrics/resource`
    ResourceMetrics,
    /// `/configz`
    Configz,
    /// `/logs/...`
    NodeLogs(String),
    /// `/checkpoint/...`
    Checkpoint(Target),
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn target(parts: &[String], with_container: bool) -> Option<Target> {
    let (namespace, pod) = (parts.first()?.clone(), parts.get(1)?.clone());
    let (uid, container) = match (&parts[2..], with_container) {
        ([container], true) => (None, container.clone()),
        ([uid, container], true) => (Some(uid.clone()), container.clone()),
        ([], false) => (None, String::new()),
        ([uid], false) => (Some(uid.clone()), String::new()),
        _ => return None,
    };
    Some(Target { namespace, pod, uid, container })
}

/// The route of a path.
pub fn route(path: &str) -> Option<Route> {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let rest = parts.get(1..).unwrap_or_default();
    match (parts.first()?.as_str(), rest) {
        ("healthz", [] | [_]) => Some(Route::Health),
        ("pods", []) => Some(Route::Pods),
        ("runningpods", []) => Some(Route::RunningPods),
        ("containerLogs", rest) => target(rest, true).filter(|target| target.uid.is_none()).map(Route::Log),
        ("exec", rest) => target(rest, true).map(Route::Exec),
        ("attach", rest) => target(rest, true).map(Route::Attach),
        ("portForward", rest) => target(rest, false).map(Route::PortForward),
        ("run", rest) => target(rest, true).map(Route::Run),
        ("stats", [summary]) if summary == "summary" => Some(Route::StatsSummary),
        ("metrics", []) => Some(Route::Metrics),
        ("metrics", [which]) => match which.as_str() {
            "cadvisor" => Some(Route::CadvisorMetrics),
            "probes" => Some(Route::ProbeMetrics),
            "resource" => Some(Route::ResourceMetrics),
            _ => None,
        },
        ("checkpoint", rest) => {
            target(rest, true).filter(|target| target.uid.is_none()).map(Route::Checkpoint)
        }
        ("configz", []) => Some(Route::Configz),
        ("logs", _) => {
            Some(Route::NodeLogs(decode(path.trim_start_matches("/logs").trim_start_matches('/'))))
        }
        _ => None,
    }
}

/// The pairs of a query, decoded, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of the text after the question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    /// The first value of a name.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set, as Go reads booleans.
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.first(name), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_understood() {
        let target = |uid: Option<&str>, container: &str| Target {
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            uid: uid.map(str::to_owned),
            container: container.to_owned(),
        };
        for (path, expected) in [
            ("/healthz", Some(Route::Health)),
            ("/runningpods/", Some(Route::RunningPods)),
            ("/containerLogs/n/p/c", Some(Route::Log(target(None, "c")))),
            ("/exec/n/p/c", Some(Route::Exec(target(None, "c")))),
            ("/exec/n/p/u/c", Some(Route::Exec(target(Some("u"), "c")))),
            ("/portForward/n/p", Some(Route::PortForward(target(None, "")))),
            ("/portForward/n/p/u", Some(Route::PortForward(target(Some("u"), "")))),
            ("/metrics/cadvisor", Some(Route::CadvisorMetrics)),
            ("/metrics/nope", None),
            ("/logs/", Some(Route::NodeLogs(String::new()))),
            ("/logs/a%20b/c/", Some(Route::NodeLogs("a b/c/".to_owned()))),
            ("/checkpoint/n/p/c", Some(Route::Checkpoint(target(None, "c")))),
            ("/exec/n/p", None),
            ("/", None),
            ("/nope", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
        let query = Query::parse("command=sh&command=-c&command=a%20b+c&tty=1&x");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "a b c"]);
        assert!(query.is_set("tty") && !query.is_set("x"));
    }
}
