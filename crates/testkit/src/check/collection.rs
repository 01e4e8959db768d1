//! What the whole collection must obey: revisions in real time, each event once and in order, lists that show one state of it.

use super::Violation;
use crate::history::{Change, Event, History, Listing, Operation, Outcome, Segment};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = values(history);
    found.extend(real_time(history));
    found.extend(history.watches.iter().flat_map(order));
    let log = Log::of(history, &mut found);
    found.extend(history.watches.iter().flat_map(|watch| log.lost(watch)));
    found.extend(log.impossible());
    found.extend(history.lists.iter().flat_map(|list| listing(list, &log)));
    found.extend(history.lists.iter().filter_map(|list| stale(list, history)));
    found
}

/// Each value stands under one revision, and someone wrote it.
fn values(history: &History) -> Vec<Violation> {
    let written: HashSet<&str> =
        history.operations.iter().filter_map(|operation| operation.action.value()).collect();
    let mut known: HashMap<&str, i64> = HashMap::new();
    let mut found = Vec::new();
    for (value, revision) in seen(history) {
        if !written.contains(value) {
            found.push(Violation::Unwritten { value: value.to_owned() });
        }
        let first = *known.entry(value).or_insert(revision);
        if first != revision {
            let revisions = (first.min(revision), first.max(revision));
            found.push(Violation::ValueTwice { value: value.to_owned(), revisions });
        }
    }
    found.sort_by_key(|violation| format!("{violation:?}"));
    found.dedup();
    found
}

/// Every value that was written or seen, with its revision.
pub(super) fn seen(history: &History) -> Vec<(&str, i64)> {
    let mut all = Vec::new();
    for operation in &history.operations {
        match (&operation.action, &operation.outcome) {
            (action, Outcome::Written(revision)) => {
                all.extend(action.value().map(|value| (value, *revision)))
            }
            (_, Outcome::Found { revision, value }) => all.push((value.as_str(), *revision)),
            _ => {}
        }
    }
    let events = history.watches.iter().flat_map(|watch| &watch.events);
    let puts = events.filter(|event| event.change != Change::Deleted);
    all.extend(puts.map(|event| (event.value.as_str(), event.revision)));
    let items = history.lists.iter().flat_map(|list| &list.items);
    all.extend(items.map(|(_, revision, value)| (value.as_str(), *revision)));
    all
}

/// A write that was sent after another had been answered has the greater revision.
fn real_time(history: &History) -> Vec<Violation> {
    let written = |operation: &Operation| match operation.outcome {
        Outcome::Written(revision) => Some((operation.invoked, operation.returned, revision)),
        _ => None,
    };
    let mut by_return: Vec<_> = history.operations.iter().filter_map(written).collect();
    let mut by_invocation = by_return.clone();
    by_return.sort_by_key(|(_, returned, _)| *returned);
    by_invocation.sort_by_key(|(invoked, _, _)| *invoked);
    let (mut answered, mut newest, mut found) = (by_return.into_iter().peekable(), 0, Vec::new());
    for (invoked, _, revision) in by_invocation {
        while let Some((_, _, earlier)) = answered.next_if(|(_, returned, _)| *returned < invoked) {
            newest = newest.max(earlier);
        }
        if newest >= revision {
            found.push(Violation::RevisionsBackwards { earlier: newest, later: revision });
        }
    }
    found
}

/// The events of one piece of a watch come in order, each once.
fn order(watch: &Segment) -> Vec<Violation> {
    let (mut newest, mut seen, mut found) = (watch.from, BTreeSet::new(), Vec::new());
    for event in &watch.events {
        let (watcher, revision) = (watch.watcher.clone(), event.revision);
        if !seen.insert(revision) {
            found.push(Violation::Doubled { watcher, revision });
        } else if revision <= newest {
            found.push(Violation::Reordered { watcher, revision });
        }
        newest = newest.max(revision);
    }
    found
}

/// All that is known to have happened, by revision, and between which revisions nothing else did.
struct Log<'a> {
    events: BTreeMap<i64, Known<'a>>,
    /// Ranges `(from, through]`, apart from each other, in order.
    covered: Vec<(i64, i64)>,
}

struct Known<'a> {
    key: &'a str,
    /// Empty for a removal.
    value: Option<&'a str>,
    /// What watchers saw of it.
    event: Option<&'a Event>,
}

impl<'a> Log<'a> {
    fn of(history: &'a History, found: &mut Vec<Violation>) -> Self {
        let mut events: BTreeMap<i64, Known<'a>> = BTreeMap::new();
        for event in history.watches.iter().flat_map(|watch| &watch.events) {
            let value = (event.change != Change::Deleted).then_some(event.value.as_str());
            let known =
                events.entry(event.revision).or_insert(Known { key: &event.key, value, event: Some(event) });
            if let Some(one) = known.event.filter(|one| *one != event) {
                let (one, other) = (one.clone(), event.clone());
                found.push(Violation::RevisionTwice { revision: event.revision, one, other });
            }
        }
        for operation in &history.operations {
            if let (Outcome::Written(revision), Some(value)) = (&operation.outcome, operation.action.value())
            {
                let put = Known { key: &operation.key, value: Some(value), event: None };
                events.entry(*revision).or_insert(put);
            }
        }
        for (key, revision, value) in history.lists.iter().flat_map(|list| &list.items) {
            events.entry(*revision).or_insert(Known { key, value: Some(value), event: None });
        }
        Self { events, covered: covered(&history.watches) }
    }

    /// Whether everything that happened in `(from, through]` is known.
    fn knows(&self, from: i64, through: i64) -> bool {
        from >= through || self.covered.iter().any(|range| range.0 <= from && through <= range.1)
    }

    /// What a piece of a watch should have shown and did not.
    fn lost(&self, watch: &Segment) -> Vec<Violation> {
        let own: HashSet<i64> = watch.events.iter().map(|event| event.revision).collect();
        let should = self.events.range((Excluded(watch.from), Included(watch.through.max(watch.from + 1))));
        let should = should.filter(|(revision, _)| **revision <= watch.through);
        let lost = should.map(|(revision, _)| *revision).filter(|revision| !own.contains(revision));
        lost.map(|revision| Violation::Lost { watcher: watch.watcher.clone(), revision }).collect()
    }

    /// Events that cannot follow what happened to their object before.
    fn impossible(&self) -> Vec<Violation> {
        // What is known of an object: since when, and whether it is there.
        let mut states: HashMap<&str, (i64, bool)> = HashMap::new();
        let mut found = Vec::new();
        for (revision, known) in &self.events {
            if let (Some(event), Some((since, there))) = (known.event, states.get(known.key)) {
                let fits = (event.change == Change::Added) != *there;
                // Where not all is known, it may have come or gone meanwhile.
                if !fits && self.knows(*since, revision - 1) {
                    found.push(Violation::Impossible { event: event.clone() });
                }
            }
            states.insert(known.key, (*revision, known.value.is_some()));
        }
        found
    }

    /// The newest thing known to have happened to an object up to `revision`.
    fn newest(&self, key: &str, revision: i64) -> Option<(i64, Option<&'a str>)> {
        let mut before = self.events.range(..=revision).rev();
        before.find(|(_, known)| known.key == key).map(|(revision, known)| (*revision, known.value))
    }

    fn keys(&self) -> BTreeSet<&'a str> {
        self.events.values().map(|known| known.key).collect()
    }
}

/// The ranges that watches saw whole, joined where they meet.
pub(super) fn covered(watches: &[Segment]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<_> = watches.iter().map(|watch| (watch.from, watch.through)).collect();
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, through) in ranges {
        match joined.last_mut().filter(|last| from <= last.1) {
            Some(last) => last.1 = last.1.max(through),
            None => joined.push((from, through)),
        }
    }
    joined
}

/// A list shows one state: the one at its revision.
fn listing(list: &Listing, log: &Log<'_>) -> Vec<Violation> {
    let Some(at) = list.pages.first().copied() else { return Vec::new() };
    let in_order = list.items.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !in_order || list.pages.iter().any(|page| *page != at) {
        return vec![Violation::TornPages { pages: list.pages.clone() }];
    }
    let mut found = Vec::new();
    let shown: HashMap<&str, i64> =
        list.items.iter().map(|(key, revision, _)| (key.as_str(), *revision)).collect();
    for (key, revision) in &shown {
        if *revision > at {
            found.push(Violation::FromTheFuture { list: at, key: (*key).to_owned() });
        }
    }
    for key in log.keys() {
        let (own, newest) = (shown.get(key).copied(), log.newest(key, at));
        let expected = newest.and_then(|(revision, value)| value.map(|_| revision));
        let since = newest.map_or(0, |(revision, _)| revision);
        // Where not all is known, something newer may have happened; but nothing older can be shown.
        let wrong = own != expected && (log.knows(since, at) || own.is_some_and(|own| own < since));
        if wrong && own.is_none_or(|own| own <= at) {
            let key = key.to_owned();
            found.push(Violation::WrongState { list: at, key, shown: own, expected });
        }
    }
    found
}

/// What was acknowledged before a consistent list was asked for is at or below its revision.
fn stale(list: &Listing, history: &History) -> Option<Violation> {
    let at = list.pages.first().copied().filter(|_| list.consistent)?;
    let before = history.operations.iter().filter(|operation| operation.returned < list.invoked);
    let acknowledged = before.filter_map(|operation| match operation.outcome {
        Outcome::Written(revision) | Outcome::Found { revision, .. } => Some(revision),
        _ => None,
    });
    let newest = acknowledged.max().filter(|newest| *newest > at)?;
    Some(Violation::StaleList { list: at, acknowledged: newest })
}
