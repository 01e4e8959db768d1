//! Made-up histories: good ones, and one for every way to be bad.

use super::{Violation, violations};
use crate::history::{Action, Change, Event, History, Listing, Operation, Outcome, Segment};

fn create(key: &str, value: &str, outcome: Outcome, times: (u64, u64)) -> Operation {
    operation(key, Action::Create { value: value.to_owned() }, outcome, times)
}

fn update(key: &str, value: &str, expected: Option<i64>, outcome: Outcome, times: (u64, u64)) -> Operation {
    operation(key, Action::Update { value: value.to_owned(), expected }, outcome, times)
}

fn delete(key: &str, expected: Option<i64>, outcome: Outcome, times: (u64, u64)) -> Operation {
    operation(key, Action::Delete { expected }, outcome, times)
}

fn read(key: &str, outcome: Outcome, times: (u64, u64)) -> Operation {
    operation(key, Action::Read, outcome, times)
}

fn operation(key: &str, action: Action, outcome: Outcome, (invoked, returned): (u64, u64)) -> Operation {
    Operation { key: key.to_owned(), action, outcome, invoked, returned }
}

fn found(revision: i64, value: &str) -> Outcome {
    Outcome::Found { revision, value: value.to_owned() }
}

fn event(revision: i64, change: Change, key: &str, value: &str) -> Event {
    Event { revision, key: key.to_owned(), change, value: value.to_owned() }
}

fn watch(watcher: &str, from: i64, through: i64, events: &[Event]) -> Segment {
    Segment { watcher: watcher.to_owned(), from, through, events: events.to_vec() }
}

fn list(pages: &[i64], items: &[(&str, i64, &str)], times: (u64, u64)) -> Listing {
    let items =
        items.iter().map(|(key, revision, value)| ((*key).to_owned(), *revision, (*value).to_owned()));
    Listing {
        pages: pages.to_vec(),
        items: items.collect(),
        consistent: true,
        invoked: times.0,
        returned: times.1,
    }
}

/// Two writers, a deletion, two watchers, two lists: all as it should be.
fn good() -> History {
    let (added, modified) = (event(11, Change::Added, "a", "v1"), event(12, Change::Modified, "a", "v2"));
    let (other, gone) = (event(13, Change::Added, "b", "v3"), event(14, Change::Deleted, "a", "v2"));
    History {
        operations: vec![
            create("a", "v1", Outcome::Written(11), (1, 2)),
            create("a", "v9", Outcome::Exists, (1, 3)),
            update("a", "v2", Some(11), Outcome::Written(12), (4, 7)),
            update("a", "v8", Some(11), Outcome::Conflict, (4, 8)),
            create("b", "v3", Outcome::Written(13), (8, 9)),
            read("a", found(12, "v2"), (9, 10)),
            delete("a", Some(12), Outcome::Deleted, (11, 12)),
            read("a", Outcome::Missing, (13, 14)),
            delete("a", None, Outcome::Missing, (13, 15)),
        ],
        watches: vec![
            watch("w", 10, 15, &[added, modified.clone(), other.clone(), gone.clone()]),
            watch("x", 11, 14, &[modified, other, gone]),
        ],
        lists: vec![
            list(&[13, 13], &[("a", 12, "v2"), ("b", 13, "v3")], (9, 10)),
            list(&[14], &[("b", 13, "v3")], (13, 14)),
        ],
    }
}

fn check(spoil: impl FnOnce(&mut History), expected: impl Fn(&Violation) -> bool) {
    let mut history = good();
    spoil(&mut history);
    let found = violations(&history);
    assert!(found.iter().any(expected), "{found:#?}");
}

#[test]
fn a_good_history_is_good() {
    assert_eq!(violations(&good()), []);
    assert_eq!(violations(&History::default()), []);
    let mut quiet = good();
    quiet.watches.push(watch("q", 12, 12, &[]));
    assert_eq!(violations(&quiet), []);
}

#[test]
fn what_was_not_answered_may_have_happened_or_not_even_later() {
    for (outcome, expected) in [(Outcome::Missing, 0), (found(11, "v1"), 0), (found(11, "v2"), 1)] {
        let mut history = History::default();
        history.operations.push(create("a", "v1", Outcome::Unknown, (1, u64::MAX)));
        history.operations.push(read("a", Outcome::Missing, (2, 3)));
        history.operations.push(read("a", outcome, (4, 5)));
        let judged = violations(&history);
        let wrong = judged.iter().filter(|one| matches!(one, Violation::NotLinearizable { .. }));
        assert_eq!(wrong.count(), expected, "{judged:?}");
    }
}

/// Where each of these might have happened at any later time or never, the search would not end.
#[test]
fn many_that_were_not_answered_are_judged_when_everything_was_seen() {
    let mut history = good();
    let (mut events, mut seen) = (history.watches[0].events.clone(), Vec::new());
    for number in 0..60 {
        let (lost, kept) = (format!("lost{number}"), format!("kept{number}"));
        history.operations.push(update("a", &lost, None, Outcome::Unknown, (5, u64::MAX)));
        history.operations.push(create("a", &kept, Outcome::Unknown, (16, u64::MAX)));
        history.operations.push(delete("a", None, Outcome::Unknown, (16, u64::MAX)));
        let revision = 20 + 2 * number;
        let times = (20 + 4 * u64::try_from(number).unwrap(), 21 + 4 * u64::try_from(number).unwrap());
        seen.push(read("a", found(revision, &kept), times));
        seen.push(read("a", Outcome::Missing, (times.0 + 2, times.1 + 2)));
        events.push(event(revision, Change::Added, "a", &kept));
        events.push(event(revision + 1, Change::Deleted, "a", &kept));
    }
    history.operations.extend(seen);
    history.watches = vec![watch("store", 0, 200, &events)];
    assert_eq!(violations(&history), []);
    // What was removed once is not removed twice.
    history.operations.push(delete("a", None, Outcome::Deleted, (900, 901)));
    let found = violations(&history);
    assert!(found.iter().any(|one| matches!(one, Violation::NotLinearizable { .. })), "{found:?}");
}

#[test]
fn reads_show_the_newest_write() {
    let is_stale = |one: &Violation| matches!(one, Violation::NotLinearizable { key, .. } if key == "a");
    check(|history| history.operations[5].outcome = found(11, "v1"), is_stale);
    check(|history| history.operations[5].outcome = Outcome::Missing, is_stale);
    // A removed object is not there again.
    check(|history| history.operations[7].outcome = found(12, "v2"), is_stale);
}

#[test]
fn compare_and_set_compares() {
    let is_wrong = |one: &Violation| matches!(one, Violation::NotLinearizable { .. });
    // Two writes that both replaced revision 11.
    check(|history| history.operations[3].outcome = Outcome::Written(16), is_wrong);
    // A conflict although the revision was the expected one all the time.
    check(
        |history| history.operations.push(update("b", "v7", Some(13), Outcome::Conflict, (16, 17))),
        is_wrong,
    );
    check(|history| history.operations[6].outcome = Outcome::Conflict, is_wrong);
    check(|history| history.operations[1].outcome = Outcome::Written(9), is_wrong);
}

#[test]
fn acknowledged_writes_are_kept() {
    // The second write never happened, as if a crash had taken it back.
    check(
        |history| {
            history.operations.truncate(3);
            history.operations.push(read("a", found(11, "v1"), (9, 10)));
        },
        |one| matches!(one, Violation::NotLinearizable { .. }),
    );
}

#[test]
fn revisions_follow_real_time() {
    check(
        |history| history.operations.push(create("c", "v4", Outcome::Written(5), (20, 21))),
        |one| *one == Violation::RevisionsBackwards { earlier: 13, later: 5 },
    );
}

#[test]
fn values_have_one_revision_and_a_writer() {
    check(
        |history| history.lists[1].items[0].1 = 12,
        |one| *one == Violation::ValueTwice { value: "v3".to_owned(), revisions: (12, 13) },
    );
    check(
        |history| history.operations[5].outcome = found(12, "nobody's"),
        |one| *one == Violation::Unwritten { value: "nobody's".to_owned() },
    );
}

#[test]
fn events_are_the_same_for_all() {
    check(
        |history| history.watches[1].events[1] = event(13, Change::Added, "c", "v3"),
        |one| matches!(one, Violation::RevisionTwice { revision: 13, .. }),
    );
}

#[test]
fn no_event_is_lost() {
    let lost = |watcher: &str, revision| Violation::Lost { watcher: watcher.to_owned(), revision };
    // Another watcher saw it.
    check(|history| drop(history.watches[1].events.remove(1)), |one| *one == lost("x", 13));
    // Only the writer knows of it.
    check(
        |history| {
            history.watches.iter_mut().for_each(|watch| watch.events.retain(|event| event.revision != 13))
        },
        |one| *one == lost("w", 13),
    );
    // A watch that was resumed skips what happened at once after its revision.
    check(
        |history| history.watches.push(watch("r", 12, 14, &[event(14, Change::Deleted, "a", "v2")])),
        |one| *one == lost("r", 13),
    );
}

#[test]
fn no_event_comes_twice() {
    check(
        |history| {
            let again = history.watches[0].events[1].clone();
            history.watches[0].events.insert(2, again);
        },
        |one| *one == Violation::Doubled { watcher: "w".to_owned(), revision: 12 },
    );
    // A watch that was resumed shows its own revision again.
    check(
        |history| history.watches.push(watch("r", 13, 14, &good().watches[0].events[2..])),
        |one| *one == Violation::Reordered { watcher: "r".to_owned(), revision: 13 },
    );
}

#[test]
fn events_come_in_order() {
    check(
        |history| history.watches[0].events.swap(1, 2),
        |one| *one == Violation::Reordered { watcher: "w".to_owned(), revision: 12 },
    );
}

#[test]
fn nothing_is_resurrected() {
    check(
        |history| {
            let again = event(15, Change::Modified, "a", "v5");
            history.watches[0].events.push(again);
        },
        |one| matches!(one, Violation::Impossible { event } if event.revision == 15),
    );
    check(
        |history| history.watches[0].events[1].change = Change::Added,
        |one| matches!(one, Violation::Impossible { event } if event.revision == 12),
    );
    // A list shows what was removed before its revision.
    check(
        |history| history.lists[1].items.insert(0, ("a".to_owned(), 12, "v2".to_owned())),
        |one| matches!(one, Violation::WrongState { list: 14, shown: Some(12), expected: None, .. }),
    );
}

#[test]
fn a_list_is_one_state_that_watches_lead_to() {
    check(
        |history| drop(history.lists[0].items.remove(1)),
        |one| matches!(one, Violation::WrongState { list: 13, shown: None, expected: Some(13), .. }),
    );
    check(
        |history| history.lists[0].items[0] = ("a".to_owned(), 11, "v1".to_owned()),
        |one| matches!(one, Violation::WrongState { list: 13, shown: Some(11), expected: Some(12), .. }),
    );
    check(
        |history| history.lists[0].pages = vec![12],
        |one| *one == Violation::FromTheFuture { list: 12, key: "b".to_owned() },
    );
}

#[test]
fn pages_are_one_snapshot() {
    let is_torn = |one: &Violation| matches!(one, Violation::TornPages { .. });
    check(|history| history.lists[0].pages = vec![13, 14], is_torn);
    check(|history| history.lists[0].items.swap(0, 1), is_torn);
    check(|history| history.lists[0].items.push(("b".to_owned(), 13, "v3".to_owned())), is_torn);
}

#[test]
fn a_consistent_list_is_not_stale() {
    check(
        |history| history.lists[1] = list(&[12], &[("a", 12, "v2")], (16, 17)),
        |one| *one == Violation::StaleList { list: 12, acknowledged: 13 },
    );
    let mut history = good();
    history.lists[1] = Listing { consistent: false, ..list(&[12], &[("a", 12, "v2")], (16, 17)) };
    assert_eq!(violations(&history), []);
}
