//! Nobody grants what he does not have: compares rules with rules and says what is missing, in upstream's words. Which roles and
//! bindings are being written is not known here.

use super::Rule;
use crate::request::UserInfo;
use nauplius_meta::field::quote;
use std::collections::BTreeSet;

/// Why `user`, who has the rights `own`, may not hand out `wanted`; `None` when he may.
pub fn refusal(user: &UserInfo, own: &[Rule], wanted: &[Rule], evaluation_error: &str) -> Option<String> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(break_down)
        .filter(|atom| !own.iter().any(|rule| covers(rule, atom)))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    let mut message = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.name),
        quote_all(&user.groups),
        lines.join("\n")
    );
    if !evaluation_error.is_empty() {
        message = format!("{message}; resolution errors: [{evaluation_error}]");
    }
    Some(message)
}

/// Everything, which one must have to let a role gather rules by labels.
pub fn full_authority() -> [Rule; 2] {
    let any = || vec!["*".to_owned()];
    [
        Rule { verbs: any(), api_groups: any(), resources: any(), ..Rule::default() },
        Rule { verbs: any(), non_resource_urls: any(), ..Rule::default() },
    ]
}

/// One rule for each single right.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let names: Vec<Vec<String>> = match rule.resource_names.as_slice() {
        [] => vec![Vec::new()],
        names => names.iter().map(one).collect(),
    };
    let mut atoms = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                atoms.extend(names.iter().map(|names| Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    resource_names: names.clone(),
                    non_resource_urls: Vec::new(),
                }));
            }
        }
    }
    for url in &rule.non_resource_urls {
        let rules = rule.verbs.iter();
        atoms.extend(rules.map(|verb| Rule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..Rule::default()
        }));
    }
    atoms
}

/// Whether `own` allows all of `wanted`.
fn covers(own: &Rule, wanted: &Rule) -> bool {
    let names = own.resource_names.is_empty()
        || (!wanted.resource_names.is_empty()
            && wanted.resource_names.iter().all(|name| own.resource_names.contains(name)));
    names
        && has_all(&own.verbs, &wanted.verbs)
        && has_all(&own.api_groups, &wanted.api_groups)
        && wanted.resources.iter().all(|resource| covers_resource(&own.resources, resource))
        && wanted.non_resource_urls.iter().all(|url| covers_url(&own.non_resource_urls, url))
}

fn has_all(own: &[String], wanted: &[String]) -> bool {
    own.iter().any(|item| item == "*") || wanted.iter().all(|item| own.contains(item))
}

fn covers_resource(own: &[String], wanted: &str) -> bool {
    let of_any = wanted.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    own.iter().any(|item| item == "*" || item == wanted || of_any.as_ref() == Some(item))
}

fn covers_url(own: &[String], wanted: &str) -> bool {
    own.iter()
        .any(|item| item == wanted || item.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix)))
}

/// Puts the verbs of the same resource together.
fn compact(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut compacted: Vec<Rule> = Vec::new();
    for atom in atoms {
        let same = |rule: &&mut Rule| {
            rule.non_resource_urls.is_empty()
                && rule.api_groups == atom.api_groups
                && rule.resources == atom.resources
                && rule.resource_names == atom.resource_names
        };
        let known = if atom.non_resource_urls.is_empty() { compacted.iter_mut().find(same) } else { None };
        match known {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => compacted.push(atom),
        }
    }
    compacted
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quote_all(list)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

fn quote_all(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str, urls: &str) -> Rule {
        let list = |text: &str| -> Vec<String> {
            text.split_whitespace().map(|item| if item == "core" { "" } else { item }.to_owned()).collect()
        };
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: list(urls),
        }
    }

    fn check(own: &[Rule], wanted: &Rule, expected: &str) {
        let joe = UserInfo::authenticated("joe", &["devs"]);
        let message = refusal(&joe, own, std::slice::from_ref(wanted), "").unwrap_or_default();
        let said = message.split_once('\n').map_or("", |(_, lines)| lines);
        assert_eq!(said, expected, "{own:?} grants {wanted:?}");
        assert!(
            message.is_empty()
                || message.starts_with("user \"joe\" (groups=[\"devs\" \"system:authenticated\"])")
        );
    }

    #[test]
    fn grants_stay_within_what_is_held() {
        let pods = rule("get list", "core", "pods", "", "");
        check(std::slice::from_ref(&pods), &pods, "");
        check(&[], &pods, r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#);
        check(
            std::slice::from_ref(&pods),
            &rule("get delete", "core apps", "pods", "", ""),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"delete\"]}",
        );
        check(&[rule("*", "*", "*", "", "")], &rule("x", "y", "z/status", "n", ""), "");
        check(&[rule("*", "*", "*/scale", "", "")], &rule("get", "apps", "deployments/scale", "", ""), "");
        check(
            &[rule("get", "core", "pods", "a", "")],
            &rule("get", "core", "pods", "a b", ""),
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#,
        );
        check(
            &[rule("get", "core", "pods", "a", "")],
            &rule("get", "core", "pods", "", ""),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#,
        );
        check(&[rule("get", "", "", "", "/api/*")], &rule("get", "", "", "", "/api/v1"), "");
        check(
            &[rule("get", "", "", "", "/api/*")],
            &rule("get post", "", "", "", "/apis"),
            "{NonResourceURLs:[\"/apis\"], Verbs:[\"get\"]}\n{NonResourceURLs:[\"/apis\"], Verbs:[\"post\"]}",
        );
        check(
            &[rule("*", "*", "*", "", "")],
            &full_authority()[1],
            r#"{NonResourceURLs:["*"], Verbs:["*"]}"#,
        );
    }
}
