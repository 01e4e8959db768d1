//! Job: pods that run until enough of them have succeeded.

use super::job_spec::{self, NAME_LABELS, UID_LABELS, is_true};
use super::{job_policy, job_status};
use crate::check::Errors;
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Context, Descriptor, Kind};
use crate::pod_template::validate_selected;
use crate::table::{self, container_cells, container_columns, string, wide};
use crate::tree::{at, child, count, default, flag, get, number, set, text};
use crate::{duration, label_selector, name, warnings};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

pub(crate) struct Job(Descriptor);

pub(crate) fn kind() -> Job {
    let descriptor = describe("batch", "v1", "Job", "jobs").in_all();
    Job(descriptor.defaults(job_spec::set_defaults).status().done())
}

impl Kind for Job {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({}));
        set(child(object, "metadata"), "generation", 1);
        if !flag(&object["spec"], "manualSelector") {
            generate_selector(object);
        }
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        let mut all = gates::of_template();
        all.push(vec!["spec", "scheduling"]);
        all
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        generated_selector(object, &mut errors);
        validate_spec(object, &mut errors);
        job_policy::pod_names(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_spec(new, &mut errors);
        job_spec::validate_update(new, old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        job_status::validate_update(new, old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        const MANY: (i64, i64) = (100_000, 10_000);
        let spec = &new["spec"];
        let of_name = if old.is_none() { warnings::of_name(new, "Pod names and hostnames") } else { None };
        let is_large = text(spec, "completionMode") == "Indexed"
            && count(spec, "completions") > MANY.0
            && count(spec, "parallelism") > MANY.1;
        let of_size = is_large.then(|| {
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes \
             might not be able to track completedIndexes when a big number of indexes fail"
                .to_owned()
        });
        let of_template = warnings::of_template(&spec["template"], &Path::new("spec").child("template"));
        of_name.into_iter().chain(of_size).chain(of_template).collect()
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn selectable_field(&self, object: &Value, _name: &str) -> String {
        count(&object["status"], "succeeded").to_string()
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            table::name(),
            string("Status", "Whether it is over, and how."),
            string("Completions", "How many pods have succeeded, of how many."),
            string("Duration", "How long it has taken."),
            table::age(),
            containers,
            images,
            wide(string("Selector", "The labels of its pods.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let [containers, images] = container_cells(at(spec, &["template", "spec"]));
        vec![
            table::name_cell(object),
            state(object).into(),
            completions(object).into(),
            taken(&object["status"], now_s).into(),
            table::age_cell(object, now_s),
            containers,
            images,
            label_selector::cell(&spec["selector"]),
        ]
    }
}

fn validate_spec(job: &Value, errors: &mut Errors) {
    let (spec, path) = (&job["spec"], Path::new("spec"));
    job_spec::validate(spec, &path, errors);
    let selector = get(spec, "selector");
    match selector {
        None => errors.push(FieldError::required(&path.child("selector"), "")),
        Some(selector) => label_selector::validate(selector, &path.child("selector"), errors),
    }
    validate_selected(&spec["template"], selector, &path.child("template"), errors);
}

/// Labels the template so that a selector by uid finds this Job's pods and no others.
fn generate_selector(job: &mut Value) {
    let (name, uid) = (text(&job["metadata"], "name").to_owned(), text(&job["metadata"], "uid").to_owned());
    let spec = child(job, "spec");
    let labels = child(child(child(spec, "template"), "metadata"), "labels");
    for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        if get(labels, keys[0]).is_none() {
            keys.iter().for_each(|key| set(labels, key, value.clone()));
        }
    }
    default(child(child(spec, "selector"), "matchLabels"), UID_LABELS[1], uid);
}

/// What was generated is whole: the user's own labels did not stand in its way.
fn generated_selector(job: &Value, errors: &mut Errors) {
    let spec = &job["spec"];
    let Some(selector) = get(spec, "selector").filter(|_| !flag(spec, "manualSelector")) else { return };
    let (name, uid) = (text(&job["metadata"], "name"), text(&job["metadata"], "uid"));
    if uid.is_empty() {
        errors.push(FieldError::required(&Path::new("metadata").child("uid"), ""));
    }
    let path = Path::new("spec").children(&["template", "metadata", "labels"]);
    let labels = &spec["template"]["metadata"]["labels"];
    let expected =
        [(UID_LABELS[0], uid), (NAME_LABELS[0], name), (UID_LABELS[1], uid), (NAME_LABELS[1], name)];
    let mut wanted = json!({});
    for (key, value) in expected {
        set(&mut wanted, key, value);
        match get(labels, key).and_then(Value::as_str) {
            None => errors.push(FieldError::required(&path.key(key), format!("must be '{value}'"))),
            Some(other) if other != value => {
                errors.push(FieldError::invalid(
                    &path.key(key),
                    labels.clone(),
                    format!("must be '{value}'"),
                ));
            }
            Some(_) => {}
        }
    }
    if !label_selector::matches(selector, &wanted) {
        let path = Path::new("spec").child("selector");
        errors.push(FieldError::invalid(&path, selector.clone(), "`selector` not auto-generated"));
    }
}

fn state(job: &Value) -> &'static str {
    let status = &job["status"];
    let is_going = get(&job["metadata"], "deletionTimestamp").is_some();
    let states = [
        (is_true(status, "Complete"), "Complete"),
        (is_true(status, "Failed"), "Failed"),
        (is_going, "Terminating"),
        (is_true(status, "Suspended"), "Suspended"),
        (is_true(status, "FailureTarget"), "FailureTarget"),
        (is_true(status, "SuccessCriteriaMet"), "SuccessCriteriaMet"),
    ];
    states.iter().find(|(is_so, _)| *is_so).map_or("Running", |(_, state)| state)
}

fn completions(job: &Value) -> String {
    let (spec, succeeded) = (&job["spec"], count(&job["status"], "succeeded"));
    match (number(spec, "completions"), count(spec, "parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    }
}

fn taken(status: &Value, now_s: i64) -> String {
    let moment = |key: &str| duration::seconds(text(status, key));
    match (moment("startTime"), moment("completionTime")) {
        (None, _) => String::new(),
        (Some(start_s), end_s) => duration::human(end_s.unwrap_or(now_s) - start_s),
    }
}
