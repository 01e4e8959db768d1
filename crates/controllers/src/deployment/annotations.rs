//! The annotations by which deployments and replica sets remember revisions and sizes.

use nauplius_kinds::api::meta::ObjectMeta;
use nauplius_kinds::{Deployment, ReplicaSet};
use std::collections::BTreeMap;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// The deployment's annotations that its sets do not take over.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The revision history is cut to so many characters.
const HISTORY_MAX: usize = 2000;

type Annotations = BTreeMap<String, String>;

pub(super) fn text<'a>(meta: &'a ObjectMeta, key: &str) -> &'a str {
    meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).map_or("", String::as_str)
}

pub(super) fn number<T: std::str::FromStr>(meta: &ObjectMeta, key: &str) -> Option<T> {
    // What a person wrote there and is no number counts as absent.
    text(meta, key).parse().ok()
}

/// The revision of a set; 0 if it has none.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    number(&set.metadata, REVISION).unwrap_or(0)
}

/// Brings a set's annotations to what the deployment's newest set has; sizes only where it is about to be created.
pub(super) fn of_new_set(deployment: &Deployment, annotations: &mut Annotations, revision: i64) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let known = annotations.get(REVISION).cloned();
    let number = known.as_deref().and_then(|known| known.parse::<i64>().ok()).unwrap_or(0);
    if number >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(known) = known {
        let history = annotations.get(HISTORY).map_or("", String::as_str);
        if let Some(history) = lengthened(history, &known) {
            annotations.insert(HISTORY.to_owned(), history);
        }
    }
}

/// A set that is rolled back to remembers the revisions it had.
fn lengthened(history: &str, revision: &str) -> Option<String> {
    let known: Vec<_> = history.split(',').filter(|revision| !revision.is_empty()).collect();
    let all: Vec<_> = known.into_iter().chain([revision]).collect();
    (0..all.len()).map(|first| all[first..].join(",")).find(|history| history.len() <= HISTORY_MAX)
}

/// Notes what the deployment's size was when the set was scaled last; proportions are kept by it.
pub(super) fn sizes(annotations: &mut Annotations, desired: i32, max: i32) {
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_comes_back_keeps_its_history() {
        let mut annotations = Annotations::from([(REVISION.to_owned(), "1".to_owned())]);
        of_new_set(&Deployment::default(), &mut annotations, 3);
        assert_eq!((annotations[REVISION].as_str(), annotations[HISTORY].as_str()), ("3", "1"));
        of_new_set(&Deployment::default(), &mut annotations, 5);
        assert_eq!((annotations[REVISION].as_str(), annotations[HISTORY].as_str()), ("5", "1,3"));
        of_new_set(&Deployment::default(), &mut annotations, 5);
        assert_eq!(annotations[HISTORY], "1,3");
    }

    #[test]
    fn what_is_the_deployments_own_stays_there() {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations = Some(
            [(REVISION, "9"), ("kubernetes.io/change-cause", "x")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        );
        let mut annotations = Annotations::new();
        of_new_set(&deployment, &mut annotations, 1);
        assert_eq!(annotations.len(), 2);
        assert_eq!(
            (annotations[REVISION].as_str(), annotations["kubernetes.io/change-cause"].as_str()),
            ("1", "x")
        );
    }

    #[test]
    fn a_long_history_loses_its_oldest() {
        let history = vec!["1234567"; 250].join(",");
        assert!(lengthened(&history, "9").unwrap().len() <= HISTORY_MAX);
    }
}
