//! Which fields have owners after a write of each kind, as a table beside upstream's reset fields.

use crate::all;
use nauplius_meta::apply::Filter;
use std::collections::{BTreeMap, BTreeSet};

/// The subresources through which the object itself is written.
const WRITES: &[&str] = &["status", "finalize", "approval", "ephemeralcontainers", "resize"];

/// Group, plural and subresource of a write, and the fields: `-` leaves one out, `+` takes no other.
fn rows() -> BTreeMap<(String, String), (&'static str, &'static str)> {
    let rows = include_str!("tracked.tsv").lines().filter(|row| !row.starts_with('#'));
    rows.map(|row| match row.split('\t').collect::<Vec<_>>()[..] {
        [resource, subresource, fields, source] => {
            ((resource.to_owned(), subresource.to_owned()), (fields, source))
        }
        _ => panic!("{row}: not four columns"),
    })
    .collect()
}

fn shown(filter: Filter) -> String {
    let (sign, paths) = match filter {
        Filter::Exclude(paths) => ('-', paths),
        Filter::Include(paths) => ('+', paths),
    };
    let paths: Vec<_> = paths.iter().map(|path| format!("{sign}{}", path.join("."))).collect();
    paths.join(" ")
}

#[test]
fn what_a_write_does_not_take_is_upstreams() {
    let rows = rows();
    let mut seen = BTreeSet::new();
    for kind in all() {
        let descriptor = kind.descriptor();
        if !descriptor.verbs.stored || descriptor.stored_as.is_some() {
            continue;
        }
        let resource = descriptor.qualified();
        let subresources = descriptor.subresources.iter().map(|subresource| &*subresource.name);
        let subresources = subresources.filter(|name| WRITES.contains(name));
        for subresource in std::iter::once("").chain(subresources) {
            let own = shown(kind.tracked(subresource));
            let key = (resource.clone(), subresource.to_owned());
            let (fields, source) = rows.get(&key).copied().unwrap_or(("", "no reset fields"));
            seen.insert(key);
            assert_eq!(own, fields, "{resource} {subresource}: {source}");
        }
    }
    let unknown: Vec<_> = rows.keys().filter(|key| !seen.contains(*key)).collect();
    assert!(unknown.is_empty(), "rows of nothing: {unknown:?}");
}
