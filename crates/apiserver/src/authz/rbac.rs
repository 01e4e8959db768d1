//! Role-based access control: which rules a user has through its bindings. Bindings are indexed by subject, anew only when a role
//! or binding changed, so that a decision looks at the user's own rules alone.

use super::{Authorize, Rule, RuleList, Verdict};
use crate::cache::{Caches, Entry};
use crate::request::{Attributes, RequestInfo, UserInfo};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// A binding as decisions need it: its rules and how to name it.
struct Grant {
    role: Arc<Role>,
    description: String,
}

/// What a binding refers to.
#[derive(Default)]
struct Role {
    rules: Vec<Rule>,
    /// Set when there is no such role.
    error: Option<String>,
}

#[derive(Default)]
struct Subjects {
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

#[derive(Default)]
struct Index {
    revisions: [i64; 4],
    cluster: Subjects,
    namespaces: HashMap<String, Subjects>,
}

/// The RBAC authorizer.
pub struct Rbac {
    caches: Arc<Caches>,
    index: Mutex<Arc<Index>>,
}

impl Rbac {
    /// Decides by what `caches` hold.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches, index: Mutex::default() }
    }

    fn index(&self) -> Arc<Index> {
        let revisions = RESOURCES.map(|plural| self.revision(plural));
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.revisions != revisions {
            *index = Arc::new(Builder::new(&self.caches).build(revisions));
        }
        Arc::clone(&index)
    }

    fn revision(&self, plural: &str) -> i64 {
        self.caches.resource(GROUP, plural).map_or(0, |cache| cache.snapshot().1)
    }
}

/// Builds an index from the caches; roles that several bindings name are read once.
struct Builder<'a> {
    caches: &'a Caches,
    roles: HashMap<String, Arc<Role>>,
}

impl<'a> Builder<'a> {
    fn new(caches: &'a Caches) -> Self {
        Self { caches, roles: HashMap::new() }
    }

    fn build(mut self, revisions: [i64; 4]) -> Index {
        let mut index = Index { revisions, ..Index::default() };
        for entry in self.entries("clusterrolebindings") {
            self.bind(&entry, &mut index.cluster);
        }
        for entry in self.entries("rolebindings") {
            let subjects = index.namespaces.entry(entry.namespace().to_owned()).or_default();
            self.bind(&entry, subjects);
        }
        index
    }

    fn entries(&self, plural: &str) -> Vec<Arc<Entry>> {
        let cache = self.caches.resource(GROUP, plural);
        cache.map(|cache| cache.snapshot().0.iter().cloned().collect()).unwrap_or_default()
    }

    fn bind(&mut self, entry: &Entry, subjects: &mut Subjects) {
        let Some(binding) = read(entry) else { return };
        let role = &binding["roleRef"];
        let (kind, name) = (text(role, "kind"), text(role, "name"));
        let role = self.role(kind, entry.namespace(), name);
        let description = describe(entry, kind, name);
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let grant = Arc::new(Grant {
                role: Arc::clone(&role),
                description: format!("{description} to {}", describe_subject(subject, entry.namespace())),
            });
            let (map, key) = match text(subject, "kind") {
                "User" => (&mut subjects.users, text(subject, "name").to_owned()),
                "Group" => (&mut subjects.groups, text(subject, "name").to_owned()),
                "ServiceAccount" => {
                    let own = Some(text(subject, "namespace")).filter(|namespace| !namespace.is_empty());
                    let namespace = own.unwrap_or_else(|| entry.namespace());
                    let user = format!("system:serviceaccount:{namespace}:{}", text(subject, "name"));
                    (&mut subjects.users, user)
                }
                _ => continue,
            };
            map.entry(key).or_default().push(grant);
        }
    }

    /// A role that does not exist grants nothing, and whoever is refused is told that it was looked for.
    fn role(&mut self, kind: &str, namespace: &str, name: &str) -> Arc<Role> {
        let (plural, namespace) =
            if kind == "ClusterRole" { ("clusterroles", "") } else { ("roles", namespace) };
        let key = format!("{plural}/{namespace}/{name}");
        if let Some(role) = self.roles.get(&key) {
            return Arc::clone(role);
        }
        let role = match self.caches.get(GROUP, plural, namespace, name) {
            Some(entry) => {
                let rules = read(&entry).map(|role| rules_of(&role)).unwrap_or_default();
                Role { rules, error: None }
            }
            None => {
                let error = format!("{}.{GROUP} {name:?} not found", kind.to_ascii_lowercase());
                Role { rules: Vec::new(), error: Some(error) }
            }
        };
        let role = Arc::new(role);
        self.roles.insert(key, Arc::clone(&role));
        role
    }
}

fn read(entry: &Entry) -> Option<Value> {
    match entry.object() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = entry.path(), %error, "an unreadable role or binding grants nothing");
            None
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn describe(entry: &Entry, role_kind: &str, role: &str) -> String {
    if entry.namespace().is_empty() {
        format!("ClusterRoleBinding {:?} of {role_kind} {role:?}", entry.name())
    } else {
        let binding = format!("{}/{}", entry.name(), entry.namespace());
        format!("RoleBinding {binding:?} of {role_kind} {role:?}")
    }
}

fn describe_subject(subject: &Value, namespace: &str) -> String {
    let (kind, name) = (text(subject, "kind"), text(subject, "name"));
    let own = Some(text(subject, "namespace")).filter(|own| !own.is_empty());
    match kind {
        "ServiceAccount" => format!("{kind} \"{name}/{}\"", own.unwrap_or(namespace)),
        _ => format!("{kind} {name:?}"),
    }
}

/// The rules of a Role or ClusterRole object.
pub fn rules_of(role: &Value) -> Vec<Rule> {
    let list = |rule: &Value, key: &str| -> Vec<String> {
        let items = rule[key].as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let rules = role["rules"].as_array().into_iter().flatten();
    rules
        .map(|rule| Rule {
            verbs: list(rule, "verbs"),
            api_groups: list(rule, "apiGroups"),
            resources: list(rule, "resources"),
            resource_names: list(rule, "resourceNames"),
            non_resource_urls: list(rule, "nonResourceURLs"),
        })
        .collect()
}

impl Subjects {
    fn grants<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Arc<Grant>> {
        let own = self.users.get(&user.name).into_iter().flatten();
        let of_groups = user.groups.iter().filter_map(|group| self.groups.get(group)).flatten();
        own.chain(of_groups)
    }
}

impl Index {
    fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Grant>> {
        let local = self.namespaces.get(namespace).filter(|_| !namespace.is_empty());
        self.cluster.grants(user).chain(local.into_iter().flat_map(|subjects| subjects.grants(user)))
    }

    /// Roles that the user's bindings name and that are not there.
    fn errors(&self, user: &UserInfo, namespace: &str) -> String {
        let mut errors: Vec<&str> = Vec::new();
        for error in self.grants(user, namespace).filter_map(|grant| grant.role.error.as_deref()) {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        match errors.as_slice() {
            [one] => (*one).to_owned(),
            [] => String::new(),
            many => format!("[{}]", many.join(", ")),
        }
    }
}

/// Whether a rule allows what is asked.
pub fn allows(rule: &Rule, info: &RequestInfo) -> bool {
    if !has(&rule.verbs, &info.verb) {
        return false;
    }
    if !info.is_resource {
        return rule.non_resource_urls.iter().any(|pattern| matches_path(pattern, &info.path));
    }
    has(&rule.api_groups, &info.group)
        && matches_resource(&rule.resources, &info.resource, &info.subresource)
        && (rule.resource_names.is_empty() || rule.resource_names.contains(&info.name))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn matches_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// `*`, `pods`, `pods/log`, or `*/scale` for every resource's subresource.
fn matches_resource(list: &[String], resource: &str, subresource: &str) -> bool {
    list.iter().any(|item| {
        if item == "*" {
            return true;
        }
        match item.split_once('/') {
            None => subresource.is_empty() && item == resource,
            Some((of, sub)) => sub == subresource && !subresource.is_empty() && (of == "*" || of == resource),
        }
    })
}

impl Authorize for Rbac {
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict> {
        let index = self.index();
        let info = &attributes.info;
        let mut grants = index.grants(&attributes.user, &info.namespace);
        let found = grants.find(|grant| grant.role.rules.iter().any(|rule| allows(rule, info)));
        let verdict = match found {
            Some(grant) => Verdict::allow(format!("RBAC: allowed by {}", grant.description)),
            None => match index.errors(&attributes.user, &info.namespace) {
                errors if errors.is_empty() => Verdict::no_opinion(),
                errors => Verdict { reason: format!("RBAC: {errors}"), ..Verdict::no_opinion() },
            },
        };
        Box::pin(std::future::ready(verdict))
    }

    fn rules<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, RuleList> {
        let index = self.index();
        let rules =
            index.grants(user, namespace).flat_map(|grant| grant.role.rules.iter().cloned()).collect();
        let evaluation_error = index.errors(user, namespace);
        Box::pin(std::future::ready(RuleList { rules, evaluation_error, ..RuleList::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Rule {
            verbs: owned(verbs),
            api_groups: owned(groups),
            resources: owned(resources),
            resource_names: owned(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn info(verb: &str, group: &str, resource: &str, subresource: &str, name: &str) -> RequestInfo {
        RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn rules_allow_as_upstream_does() {
        let pods = rule(&["get", "list"], &[""], &["pods"], &[]);
        let logs = rule(&["get"], &[""], &["pods/log"], &[]);
        let scales = rule(&["*"], &["*"], &["*/scale"], &[]);
        let named = rule(&["get"], &[""], &["configmaps"], &["a"]);
        let all = rule(&["*"], &["*"], &["*"], &[]);
        let cases = [
            (&pods, info("get", "", "pods", "", "x"), true),
            (&pods, info("delete", "", "pods", "", "x"), false),
            (&pods, info("get", "apps", "pods", "", "x"), false),
            (&pods, info("get", "", "pods", "log", "x"), false),
            (&logs, info("get", "", "pods", "log", "x"), true),
            (&logs, info("get", "", "pods", "", "x"), false),
            (&scales, info("update", "apps", "deployments", "scale", "x"), true),
            (&scales, info("update", "apps", "deployments", "", "x"), false),
            (&named, info("get", "", "configmaps", "", "a"), true),
            (&named, info("get", "", "configmaps", "", "b"), false),
            (&named, info("list", "", "configmaps", "", ""), false),
            (&all, info("get", "", "pods", "log", "x"), true),
        ];
        for (rule, info, expected) in cases {
            assert_eq!(allows(rule, &info), expected, "{rule:?} {info:?}");
        }
        let paths = Rule {
            verbs: vec!["get".to_owned()],
            non_resource_urls: vec!["/healthz".to_owned(), "/api/*".to_owned()],
            ..Rule::default()
        };
        for (path, expected) in
            [("/healthz", true), ("/healthz/x", false), ("/api/v1", true), ("/apis", false)]
        {
            let asked =
                RequestInfo { verb: "get".to_owned(), path: path.to_owned(), ..RequestInfo::default() };
            assert_eq!(allows(&paths, &asked), expected, "{path}");
        }
    }
}
