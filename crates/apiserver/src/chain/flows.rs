//! Which flow schema a request belongs to, and so which priority level: told in headers, by uid. Requests are not queued by it;
//! what is bounded is bounded for all alike, in `limits`.

use super::limits::lasts;
use crate::cache::{Caches, Entry};
use crate::request::{RequestInfo, UserInfo};
use crate::respond::Reply;
use http::HeaderValue;
use http::header::HeaderName;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
static SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// What a request was found to belong to.
#[derive(Clone)]
pub(crate) struct Flow {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Flow {
    /// Tells the client.
    pub(super) fn mark(&self, reply: &mut Reply) {
        reply.headers_mut().insert(SCHEMA_HEADER.clone(), self.schema.clone());
        reply.headers_mut().insert(LEVEL_HEADER.clone(), self.level.clone());
    }
}

/// All schemas in the order in which they are asked, read anew only when one of them or a level changed.
#[derive(Default)]
pub(crate) struct Flows {
    index: Mutex<Arc<Index>>,
}

#[derive(Default)]
struct Index {
    revisions: [i64; 2],
    schemas: Vec<Schema>,
}

struct Schema {
    /// Smaller ones are asked first; of equals, the one whose name comes first.
    order: (i64, String),
    rules: Vec<Rule>,
    flow: Flow,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    others: Vec<OtherRule>,
}

enum Subject {
    User(String),
    Group(String),
    /// A service account by the name of its user, or all of a namespace by how those names begin.
    Account(String),
    AccountsOf(String),
}

struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

struct OtherRule {
    verbs: Vec<String>,
    urls: Vec<String>,
}

impl Flows {
    /// What the request belongs to; nothing if it is meant to last, but for watches, which are classified as they begin.
    pub(super) fn classify(&self, caches: &Caches, user: &UserInfo, info: &RequestInfo) -> Option<Flow> {
        if lasts(&info.verb, &info.subresource) && info.verb != "watch" {
            return None;
        }
        let index = self.index(caches);
        let found =
            index.schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(user, info)));
        found.map(|schema| schema.flow.clone())
    }

    fn index(&self, caches: &Caches) -> Arc<Index> {
        let revision = |plural| caches.resource(GROUP, plural).map_or(0, |cache| cache.snapshot().1);
        let revisions = [SCHEMAS, LEVELS].map(revision);
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.revisions != revisions {
            *index = Arc::new(Index { revisions, schemas: schemas(caches) });
        }
        Arc::clone(&index)
    }
}

fn entries(caches: &Caches, plural: &str) -> Vec<Arc<Entry>> {
    let cache = caches.resource(GROUP, plural);
    cache.map(|cache| cache.snapshot().0.iter().cloned().collect()).unwrap_or_default()
}

/// An object that cannot be read classifies nothing; what keeps such objects sees to them.
fn objects(caches: &Caches, plural: &str) -> Vec<Value> {
    entries(caches, plural).iter().filter_map(|entry| entry.object().ok()).collect()
}

fn schemas(caches: &Caches) -> Vec<Schema> {
    let levels: HashMap<String, HeaderValue> =
        objects(caches, LEVELS).iter().filter_map(|level| Some((name(level), uid(level)?))).collect();
    let all = objects(caches, SCHEMAS);
    let mut schemas: Vec<Schema> = all.iter().filter_map(|object| Schema::read(object, &levels)).collect();
    schemas.sort_by(|left, right| left.order.cmp(&right.order));
    schemas
}

fn name(object: &Value) -> String {
    text(&object["metadata"], "name")
}

fn uid(object: &Value) -> Option<HeaderValue> {
    // Uids are made here, of header characters.
    HeaderValue::from_str(object["metadata"]["uid"].as_str()?).ok()
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn texts(object: &Value, key: &str) -> Vec<String> {
    let items = object[key].as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn each<T>(object: &Value, key: &str, read: impl Fn(&Value) -> T) -> Vec<T> {
    object[key].as_array().into_iter().flatten().map(read).collect()
}

impl Schema {
    /// `None` for one whose level is not there.
    fn read(object: &Value, levels: &HashMap<String, HeaderValue>) -> Option<Self> {
        let spec = &object["spec"];
        let level = levels.get(&text(&spec["priorityLevelConfiguration"], "name"))?.clone();
        let precedence = spec["matchingPrecedence"].as_i64().unwrap_or(i64::MAX);
        Some(Self {
            order: (precedence, name(object)),
            rules: each(spec, "rules", Rule::read),
            flow: Flow { schema: uid(object)?, level },
        })
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        Self {
            subjects: rule["subjects"].as_array().into_iter().flatten().filter_map(Subject::read).collect(),
            resources: each(rule, "resourceRules", |rule| ResourceRule {
                verbs: texts(rule, "verbs"),
                groups: texts(rule, "apiGroups"),
                resources: texts(rule, "resources"),
                cluster_scope: rule["clusterScope"] == true,
                namespaces: texts(rule, "namespaces"),
            }),
            others: each(rule, "nonResourceRules", |rule| OtherRule {
                verbs: texts(rule, "verbs"),
                urls: texts(rule, "nonResourceURLs"),
            }),
        }
    }

    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let is_meant = if info.is_resource {
            self.resources.iter().any(|rule| rule.matches(info))
        } else {
            self.others.iter().any(|rule| rule.matches(info))
        };
        is_meant && self.subjects.iter().any(|subject| subject.matches(user))
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        Some(match subject["kind"].as_str()? {
            "User" => Self::User(text(&subject["user"], "name")),
            "Group" => Self::Group(text(&subject["group"], "name")),
            "ServiceAccount" => {
                let account = &subject["serviceAccount"];
                let prefix = format!("system:serviceaccount:{}:", text(account, "namespace"));
                match text(account, "name").as_str() {
                    "*" => Self::AccountsOf(prefix),
                    name => Self::Account(prefix + name),
                }
            }
            _ => return None,
        })
    }

    fn matches(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.groups.contains(name),
            Self::Account(name) => *name == user.name,
            Self::AccountsOf(prefix) => user.name.starts_with(prefix),
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_resource = |own: &String| match own.split_once('/') {
            Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
            None => own == "*" || (*own == info.resource && info.subresource.is_empty()),
        };
        let is_there = if info.namespace.is_empty() {
            self.cluster_scope
        } else {
            has(&self.namespaces, &info.namespace)
        };
        is_there
            && has(&self.verbs, &info.verb)
            && has(&self.groups, &info.group)
            && self.resources.iter().any(is_resource)
    }
}

impl OtherRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_path = |own: &String| match own.strip_suffix('*') {
            Some(prefix) => info.path.starts_with(prefix),
            None => *own == info.path,
        };
        has(&self.verbs, &info.verb) && self.urls.iter().any(is_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;
    use http::Method;

    /// The names of the schemas stand for uids.
    fn known() -> Vec<Schema> {
        let named = |mut object: Value| {
            object["metadata"]["uid"] = object["metadata"]["name"].clone();
            object
        };
        let levels = nauplius_kinds::flowcontrol::fixed::priority_levels().into_iter().map(named);
        let levels = levels.filter_map(|level| Some((name(&level), uid(&level)?))).collect();
        let all = nauplius_kinds::flowcontrol::fixed::flow_schemas().into_iter().map(named);
        let mut schemas: Vec<Schema> = all.filter_map(|schema| Schema::read(&schema, &levels)).collect();
        schemas.sort_by(|left, right| left.order.cmp(&right.order));
        schemas
    }

    #[test]
    fn requests_belong_to_the_schemas_that_every_cluster_has() {
        let schemas = known();
        let check = |user: &str, group: &str, method: Method, path: &str, schema: &str, level: &str| {
            let groups = vec![group.to_owned(), "system:authenticated".to_owned()];
            let user = UserInfo { name: user.to_owned(), groups, ..UserInfo::default() };
            let info = RequestInfo::parse(&method, path, &Query::parse("")).expect("the path is one");
            let found =
                schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(&user, &info)));
            let flow = &found.expect("there is one for everybody").flow;
            assert_eq!(
                (flow.schema.to_str().unwrap(), flow.level.to_str().unwrap()),
                (schema, level),
                "{path}"
            );
        };
        let pods = "/api/v1/namespaces/default/pods";
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
        let account = "system:serviceaccount:kube-system:endpoint-controller";
        let accounts = "system:serviceaccounts";
        let nodes = "system:nodes";
        check("admin", "system:masters", Method::GET, pods, "exempt", "exempt");
        check("jane", "dev", Method::GET, pods, "global-default", "global-default");
        check("jane", "dev", Method::GET, "/livez", "probes", "exempt");
        check("jane", "dev", Method::GET, "/version", "global-default", "global-default");
        check(
            "system:node:n",
            nodes,
            Method::PATCH,
            "/api/v1/nodes/n/status",
            "system-node-high",
            "node-high",
        );
        check("system:node:n", nodes, Method::PUT, lease, "system-node-high", "node-high");
        check("system:node:n", nodes, Method::GET, pods, "system-nodes", "system");
        let endpoints = "/api/v1/namespaces/default/endpoints/a";
        check(account, accounts, Method::PUT, endpoints, "endpoint-controller", "workload-high");
        check(account, accounts, Method::GET, pods, "kube-system-service-accounts", "workload-high");
        let other = "system:serviceaccount:default:a";
        check(other, accounts, Method::GET, pods, "service-accounts", "workload-low");
        check("nobody", "none", Method::GET, pods, "global-default", "global-default");
    }
}
