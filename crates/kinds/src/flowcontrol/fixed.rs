//! The flow schemas and priority levels that upstream's API server makes: two of each are mandatory and stay as they are, the
//! others are suggestions.

use serde_json::{Value, json};

/// Marks objects whose spec the server may bring up to date.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const VERBS: &[&str] = &["get", "create", "update"];

/// The spec of a mandatory priority level.
pub(crate) fn mandatory_level(name: &str) -> Option<Value> {
    match name {
        "exempt" => {
            Some(json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}))
        }
        "catch-all" => Some(json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
        }})),
        _ => None,
    }
}

/// The spec of a mandatory flow schema.
pub(crate) fn mandatory_schema(name: &str) -> Option<Value> {
    match name {
        "exempt" => Some(spec("exempt", 1, "", vec![everything(groups(&["system:masters"]))])),
        "catch-all" => Some(spec("catch-all", 10_000, "ByUser", vec![everything(everyone())])),
        _ => None,
    }
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

/// All priority levels, the mandatory ones first.
pub fn priority_levels() -> Vec<Value> {
    let level = |name: &str, spec| object("PriorityLevelConfiguration", name, spec);
    let queued = |name: &str, shares: i64, lendable: i64, queues: i64, hand: i64| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let limited = json!({
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing},
        });
        level(name, json!({"type": "Limited", "limited": limited}))
    };
    let mandatory = ["exempt", "catch-all"].into_iter();
    let mandatory = mandatory.filter_map(|name| Some(level(name, mandatory_level(name)?)));
    let suggested = [
        queued("system", 30, 33, 64, 6),
        queued("node-high", 40, 25, 64, 6),
        queued("leader-election", 10, 0, 16, 4),
        queued("workload-high", 40, 50, 128, 6),
        queued("workload-low", 100, 90, 128, 6),
        queued("global-default", 20, 50, 128, 6),
    ];
    mandatory.chain(suggested).collect()
}

/// All flow schemas, the mandatory ones first.
pub fn flow_schemas() -> Vec<Value> {
    let schema = |name: &str, spec| object("FlowSchema", name, spec);
    let mandatory = ["exempt", "catch-all"].into_iter();
    let mandatory = mandatory.filter_map(|name| Some(schema(name, mandatory_schema(name)?)));
    mandatory.chain(suggested().into_iter().map(|(name, spec)| schema(name, spec))).collect()
}

fn suggested() -> Vec<(&'static str, Value)> {
    const MANAGER: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    let with = |mut subjects: Vec<Value>, more: Vec<Value>| {
        subjects.extend(more);
        subjects
    };
    let leases = || resources(VERBS, "coordination.k8s.io", &["leases"], false);
    let probes = json!({
        "subjects": everyone(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    });
    let nodes = || groups(&["system:nodes"]);
    let node_high = rule(
        nodes(),
        vec![
            resources(&["*"], "", &["nodes", "nodes/status"], true),
            resources(&["*"], "coordination.k8s.io", &["leases"], false),
        ],
    );
    let leaders = rule(with(users(&[MANAGER, SCHEDULER]), accounts(&["*"])), vec![leases()]);
    let endpoints = rule(
        with(users(&[MANAGER]), accounts(&["endpoint-controller", "endpointslicemirroring-controller"])),
        vec![resources(VERBS, "", &["endpoints"], false)],
    );
    let workloads =
        rule(accounts(&["*"]), vec![resources(VERBS, "", &["endpoints", "configmaps"], false), leases()]);
    let all_accounts = everything(groups(&["system:serviceaccounts"]));
    vec![
        ("system-nodes", spec("system", 500, "ByUser", vec![everything(nodes())])),
        ("system-node-high", spec("node-high", 400, "ByUser", vec![node_high])),
        ("probes", spec("exempt", 2, "", vec![probes])),
        ("system-leader-election", spec("leader-election", 100, "ByUser", vec![leaders])),
        ("endpoint-controller", spec("workload-high", 150, "ByUser", vec![endpoints])),
        ("workload-leader-election", spec("leader-election", 200, "ByUser", vec![workloads])),
        (
            "kube-controller-manager",
            spec("workload-high", 800, "ByNamespace", vec![everything(users(&[MANAGER]))]),
        ),
        ("kube-scheduler", spec("workload-high", 800, "ByNamespace", vec![everything(users(&[SCHEDULER]))])),
        (
            "kube-system-service-accounts",
            spec("workload-high", 900, "ByNamespace", vec![everything(accounts(&["*"]))]),
        ),
        ("service-accounts", spec("workload-low", 9000, "ByUser", vec![all_accounts])),
        ("global-default", spec("global-default", 9900, "ByUser", vec![everything(everyone())])),
    ]
}

fn spec(level: &str, precedence: i64, distinguisher: &str, rules: Vec<Value>) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": rules,
    });
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    spec
}

fn rule(subjects: Vec<Value>, resources: Vec<Value>) -> Value {
    json!({"subjects": subjects, "resourceRules": resources})
}

/// Every request of these subjects.
fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn everyone() -> Vec<Value> {
    groups(&["system:unauthenticated", "system:authenticated"])
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn accounts(names: &[&str]) -> Vec<Value> {
    let account = |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}});
    names.iter().map(account).collect()
}
