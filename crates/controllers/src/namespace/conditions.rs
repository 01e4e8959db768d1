//! What a terminating namespace's status says about what holds it up.

use super::View;
use crate::conditions::seconds;
use crate::graph::Graph;
use nauplius_base::time::Timestamp;
use nauplius_kinds::Namespace;
use nauplius_kinds::api::core::NamespaceCondition;
use nauplius_reconcile::Action;
use std::collections::BTreeMap;

/// Type, reason and message of each condition when all is well.
const FINE: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The write that brings the status up to date, if it is not.
pub(super) fn update(graph: &Graph, view: &View, failure: Option<&str>, now: Timestamp) -> Option<Action> {
    let mut namespace = Namespace::clone(&view.namespace);
    let status = namespace.status.get_or_insert_default();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for (type_, reason, message) in FINE {
        let trouble = match type_ {
            "NamespaceDeletionContentFailure" => {
                failure.map(|message| ("ContentDeletionFailed", message.to_owned()))
            }
            "NamespaceContentRemaining" => {
                remaining(graph, view).map(|message| ("SomeResourcesRemain", message))
            }
            "NamespaceFinalizersRemaining" => {
                finalizers(view).map(|message| ("SomeFinalizersRemain", message))
            }
            _ => None,
        };
        let (status, reason, message) = match trouble {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        put(conditions, type_, status, reason, message, now);
    }
    (namespace != *view.namespace).then(|| Action::update_status(&namespace))
}

fn put(
    conditions: &mut Vec<NamespaceCondition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let known = conditions.iter_mut().find(|condition| condition.type_ == type_);
    let changed = NamespaceCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(seconds(now)),
    };
    match known {
        None => conditions.push(changed),
        Some(known) => {
            let since = known.last_transition_time.clone().filter(|_| known.status == changed.status);
            *known = NamespaceCondition {
                last_transition_time: since.or(changed.last_transition_time.clone()),
                ..changed
            };
        }
    }
}

fn remaining(graph: &Graph, view: &View) -> Option<String> {
    let one = |(index, left): (&usize, &super::Left)| {
        let resource = graph.resources.get(*index);
        format!("{}.{} has {} resource instances", resource.plural, resource.group, left.count)
    };
    let mut all: Vec<_> = view.left.iter().map(one).collect();
    all.sort();
    (!all.is_empty()).then(|| format!("Some resources are remaining: {}", all.join(", ")))
}

fn finalizers(view: &View) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in view.left.values().flat_map(|left| &left.finalizers) {
        *counts.entry(finalizer).or_insert(0) += count;
    }
    let all: Vec<_> = counts
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    (!all.is_empty())
        .then(|| format!("Some content in the namespace has finalizers remaining: {}", all.join(", ")))
}
