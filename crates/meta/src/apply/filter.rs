//! Fields that a write of a kind or subresource does not take from the request, so that nobody is said to have set them. It must not
//! know kinds.
use super::element::PathElement;
use super::set::Set;

/// Any element, in a path of an include filter.
const ANY: &str = "*";

/// Which fields a write tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// All but these and what is below them.
    Exclude(&'static [&'static [&'static str]]),
    /// Only these and what is below them; `*` stands for any one element.
    Include(&'static [&'static [&'static str]]),
}

impl Filter {
    /// Tracks everything.
    pub const ALL: Self = Self::Exclude(&[]);

    /// What is left of a set.
    pub fn apply(self, set: Set) -> Set {
        match self {
            Self::Exclude([]) => set,
            Self::Exclude(paths) => set.recursive_difference(&Set::of_fields(paths)),
            Self::Include(paths) => include(&set, paths),
        }
    }
}

fn include(set: &Set, paths: &[&'static [&'static str]]) -> Set {
    let rests = |element: &PathElement| -> Vec<&'static [&'static str]> {
        let heads = paths.iter().filter_map(|path| path.split_first());
        heads.filter(|(head, _)| **head == ANY || element.is_field(head)).map(|(_, rest)| rest).collect()
    };
    let mut out = Set::default();
    for member in &set.members {
        if !rests(member).is_empty() {
            out.insert_member(member.clone());
        }
    }
    for (element, child) in &set.children {
        let rests = rests(element);
        if rests.iter().any(|rest| rest.is_empty()) {
            out.insert_child(element.clone(), child.clone());
        } else if !rests.is_empty() {
            out.insert_child(element.clone(), include(child, &rests));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{from_json, to_json};

    #[test]
    fn filters_keep_what_a_write_takes() {
        let set = r#"{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:resources":{"f:limits":{}}}},"f:x":{}},"f:status":{"f:phase":{}}}"#;
        for (filter, expected) in [
            (Filter::ALL, set),
            (Filter::Exclude(&[&["spec"], &["metadata", "labels"]]), r#"{"f:status":{"f:phase":{}}}"#),
            (
                Filter::Include(&[&["spec", "containers", "*", "resources"]]),
                r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:resources":{"f:limits":{}}}}}}"#,
            ),
            (Filter::Include(&[&["status"]]), r#"{"f:status":{"f:phase":{}}}"#),
        ] {
            assert_eq!(to_json(&filter.apply(from_json(set).unwrap())), expected);
        }
    }
}
