//! What the files in `cases` say of each kind: a sound object, creates and updates that are refused and in which words, a field
//! that is filled, one that stays, and the row of its table. A kind that is stored and has no such entry fails the test.

use crate::all;
use nauplius_kinds::{Context, Kind, drop_gated};
use nauplius_meta::field::FieldError;
use nauplius_meta::{patch, yaml};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

const NOW_S: i64 = 1_000_075;
const CREATED: &str = "1970-01-12T13:46:40Z";

/// The files, one a group of the API.
const FILES: &[&str] = &[
    include_str!("cases/admissionregistration.yaml"),
    include_str!("cases/core.yaml"),
    include_str!("cases/apps.yaml"),
    include_str!("cases/autoscaling.yaml"),
    include_str!("cases/batch.yaml"),
    include_str!("cases/certificates.yaml"),
    include_str!("cases/networking.yaml"),
    include_str!("cases/registrations.yaml"),
    include_str!("cases/resource.yaml"),
    include_str!("cases/storage.yaml"),
    include_str!("cases/small_groups.yaml"),
];

/// What one kind is asked.
struct Case {
    kind: Arc<dyn Kind>,
    /// The version that the objects of the case are in.
    version: String,
    asked: Value,
    /// What was found to be otherwise.
    problems: RefCell<Vec<String>>,
}

fn cases() -> Vec<Case> {
    let read = |text: &str| yaml::decode(text).expect("cases are YAML");
    let lists = FILES.iter().flat_map(|text| read(text).as_array().cloned().expect("cases are a list"));
    lists.map(case).collect()
}

fn case(asked: Value) -> Case {
    let api_version = asked["of"].as_str().expect("a case says of which version it is");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = all().into_iter().find(|kind| {
        let descriptor = kind.descriptor();
        descriptor.group == group
            && asked["kind"] == *descriptor.kind
            && descriptor.version(version).is_some()
    });
    let kind = kind.unwrap_or_else(|| panic!("no kind {} in {api_version}", asked["kind"]));
    Case { kind, version: version.to_owned(), asked, problems: RefCell::default() }
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// Whether the errors are those that an entry names; a star at the end stands for the rest of a long message.
fn fits(errors: &[String], expected: &[String]) -> bool {
    let fits = |error: &String, expected: &String| match expected.strip_suffix('*') {
        Some(start) => error.starts_with(start),
        None => error == expected,
    };
    errors.len() == expected.len()
        && errors.iter().zip(expected).all(|(error, expected)| fits(error, expected))
}

fn merged(base: &Value, change: &Value) -> Value {
    let mut object = base.clone();
    if change.is_null() {
        return object;
    }
    patch::merge::apply(&mut object, change.clone());
    object
}

fn context(subresource: Option<&str>) -> Context<'_> {
    Context { subresource, user: "admin", now_s: NOW_S, ..Context::default() }
}

impl Case {
    fn name(&self) -> String {
        format!("{} {}", self.asked["of"], self.asked["kind"])
    }

    /// The sound object, with a change.
    fn object(&self, change: &Value) -> Value {
        let mut metadata = json!({"name": "x", "uid": "u", "creationTimestamp": CREATED});
        if self.kind.descriptor().namespaced {
            metadata["namespace"] = "default".into();
        }
        merged(&merged(&json!({ "metadata": metadata }), &self.asked["valid"]), change)
    }

    /// Defaulted, and in the form that strategies see.
    fn hub(&self, change: &Value) -> Value {
        let mut object = self.object(change);
        let version = self.kind.descriptor().version(&self.version).expect("looked up by it");
        (version.default)(&mut object);
        if let Some(to_hub) = version.to_hub {
            to_hub(&mut object);
        }
        object
    }

    fn created(&self, change: &Value) -> Value {
        let mut object = self.hub(change);
        self.kind.prepare_create(&context(None), &mut object);
        drop_gated(&*self.kind, &mut object, None);
        object
    }

    fn entries(&self, key: &str) -> Vec<Value> {
        match &self.asked[key] {
            Value::Array(entries) => entries.clone(),
            Value::Null => Vec::new(),
            entry => vec![entry.clone()],
        }
    }

    /// The entries of a question that has to be answered, if only with the reason why there is no answer.
    fn required(&self, key: &str) -> Vec<Value> {
        let entries = self.entries(key);
        if entries.is_empty() {
            self.problem(format!("there is no {key}"));
        }
        entries.into_iter().filter(|entry| !is_reason(entry)).collect()
    }

    fn expect<T: PartialEq + std::fmt::Debug>(&self, what: &str, found: &T, expected: &T) {
        if found != expected {
            self.problem(format!("{what}\n  is   {found:?}\n  not  {expected:?}"));
        }
    }

    fn problem(&self, text: String) {
        self.problems.borrow_mut().push(format!("{}: {text}", self.name()));
    }

    fn expect_errors(&self, verb: &str, entry: &Value, errors: &[FieldError]) {
        let (errors, expected) = (texts(errors), says(entry));
        if !fits(&errors, &expected) {
            let with = &entry["with"];
            self.problem(format!("{verb} with {with} is told\n  {errors:#?}\n  not\n  {expected:#?}"));
        }
    }

    fn expect_fields(&self, object: &Value, entry: &Value, key: &str) {
        for (pointer, expected) in entry[key].as_object().into_iter().flatten() {
            self.expect(pointer, object.pointer(pointer).unwrap_or(&Value::Null), expected);
        }
    }

    fn create(&self, entry: &Value) {
        self.expect_errors("a create", entry, &self.kind.validate(&self.created(&entry["with"])));
    }

    fn update(&self, entry: &Value) {
        let old = self.created(&entry["of"]);
        let mut new = merged(&old, &entry["with"]);
        let hub = self.kind.descriptor().version(&self.kind.descriptor().hub).expect("the hub is served");
        (hub.default)(&mut new);
        self.kind.prepare_update(&context(None), &mut new, &old);
        drop_gated(&*self.kind, &mut new, Some(&old));
        self.expect_errors("an update", entry, &self.kind.validate_update(&new, &old));
        self.expect_fields(&new, entry, "stays");
    }

    fn subresource(&self, entry: &Value) {
        let name = entry["subresource"].as_str().unwrap_or("status");
        let old = merged(&self.created(&Value::Null), &entry["of"]);
        let mut new = merged(&old, &entry["with"]);
        self.kind.prepare_subresource_update(&context(Some(name)), &mut new, &old);
        self.expect_errors(name, entry, &self.kind.validate_subresource_update(name, &new, &old));
        self.expect_fields(&new, entry, "stays");
    }

    fn default(&self, entry: &Value) {
        self.expect_fields(&self.created(&entry["with"]), entry, "is");
    }

    fn warns(&self, entry: &Value) {
        let warnings = self.kind.warnings(&self.created(&entry["with"]), None);
        self.expect("the warnings", &warnings, &says(entry));
    }

    fn row(&self, entry: &Value) {
        let object = merged(&self.created(&Value::Null), &entry["with"]);
        let cells = self.kind.cells(&object, NOW_S);
        self.expect("the number of cells", &cells.len(), &self.kind.columns().len());
        self.expect("the row", &Value::from(cells), &entry["cells"]);
    }

    fn check(&self) {
        let sound = self.created(&Value::Null);
        self.expect("a sound create", &texts(&self.kind.validate(&sound)), &Vec::new());
        let mut again = sound.clone();
        self.kind.prepare_update(&context(None), &mut again, &sound);
        self.expect("an update to itself", &texts(&self.kind.validate_update(&again, &sound)), &Vec::new());
        self.required("refused").iter().for_each(|entry| self.create(entry));
        self.required("updates").iter().for_each(|entry| self.update(entry));
        self.required("immutable").iter().for_each(|entry| self.update(entry));
        self.required("default").iter().for_each(|entry| self.default(entry));
        self.entries("gated").iter().for_each(|entry| self.default(entry));
        self.required("row").iter().for_each(|entry| self.row(entry));
        self.entries("allowed").iter().for_each(|entry| self.create(entry));
        if self.kind.descriptor().has_subresource("status") {
            self.required("writes").iter().for_each(|entry| self.subresource(entry));
        }
        self.entries("warns").iter().for_each(|entry| self.warns(entry));
    }
}

/// A sentence in place of an answer says why there is none.
fn is_reason(entry: &Value) -> bool {
    entry.as_str().is_some_and(|reason| reason.starts_with("none: "))
}

fn says(entry: &Value) -> Vec<String> {
    match &entry["says"] {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_kind_keeps_to_its_case() {
    let cases = cases();
    cases.iter().for_each(Case::check);
    let problems: Vec<_> = cases.into_iter().flat_map(|case| case.problems.into_inner()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_stored_kind_has_a_case() {
    let with_case: BTreeSet<String> = cases().iter().map(|case| case.kind.descriptor().qualified()).collect();
    let stored = all().into_iter().filter(|kind| kind.descriptor().verbs.stored);
    let missing: Vec<_> =
        stored.map(|kind| kind.descriptor().qualified()).filter(|name| !with_case.contains(name)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

/// The one sound object in every version that is served: it comes to the same as in the version of its case, and is sound.
#[test]
fn every_version_takes_the_sound_object() {
    for case in cases() {
        let descriptor = case.kind.descriptor();
        let hub = case.hub(&Value::Null);
        let found = texts(&case.kind.validate(&case.created(&Value::Null)));
        for version in &descriptor.versions {
            let mut object = hub.clone();
            if let Some(from_hub) = version.from_hub {
                from_hub(&mut object);
            }
            (version.default)(&mut object);
            if let Some(to_hub) = version.to_hub {
                to_hub(&mut object);
            }
            let which = format!("{} {}", version.name, case.name());
            assert_eq!(crate::meaning(&object), crate::meaning(&hub), "{which}");
            case.kind.prepare_create(&context(None), &mut object);
            assert_eq!(texts(&case.kind.validate(&object)), found, "{which}");
        }
    }
}

/// A table of its own for each kind: no case goes without a row.
#[test]
fn every_case_shows_a_row() {
    for case in cases() {
        let rows = case.required("row");
        assert!(rows.iter().any(|row| row["cells"].is_array()), "{} has no row", case.name());
    }
}

/// The head of every table, as it was compared with upstream's `printers.go`. `NAUPLIUS_UPDATE_GOLDEN=1` writes it anew.
#[test]
fn every_table_has_its_columns() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cases/columns.txt");
    let mut lines: Vec<String> = all().iter().map(|kind| head(&**kind)).collect();
    lines.sort();
    let found = lines.join("\n") + "\n";
    if std::env::var_os("NAUPLIUS_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, found).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(path).expect("the golden file is there");
    let known: BTreeSet<&str> = golden.lines().collect();
    let found: BTreeSet<&str> = found.lines().collect();
    let problems: Vec<_> = found.symmetric_difference(&known).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// `deployments.apps: Name(name) Ready ... Containers*`, where a star marks what only `-o wide` shows, and a type stands behind a
/// column that is no text.
fn head(kind: &dyn Kind) -> String {
    let column = |column: &nauplius_kinds::Column| {
        let format = if column.format.is_empty() { String::new() } else { format!("({})", column.format) };
        let type_ = if column.type_ == "string" { String::new() } else { format!(":{}", column.type_) };
        let wide = if column.priority == 0 { "" } else { "*" };
        format!("{}{format}{type_}{wide}", column.name)
    };
    let columns: Vec<String> = kind.columns().iter().map(column).collect();
    format!("{}: {}", kind.descriptor().qualified(), columns.join(", "))
}

#[test]
fn refusals_are_refusals() {
    for case in cases() {
        for entry in ["refused", "updates"].iter().flat_map(|key| case.required(key)) {
            let none = says(&entry).is_empty() && entry["stays"].is_null();
            assert!(!none, "{}: {entry} refuses nothing and keeps nothing", case.name());
        }
    }
}
