//! CronJob: a Job at certain times.

use super::{job_spec, schedule};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Descriptor, Kind};
use crate::pod_template::default_spec;
use crate::table::{self, NONE, container_cells, container_columns, integer, string, wide};
use crate::tree::{at, child, default, flag, get, is_unset, list, text, with};
use crate::{label_selector, name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

/// What the controller appends to make a Job's name leaves so much of a label.
const MAX_NAME_BYTES: usize = 52;

pub(crate) struct CronJob(Descriptor);

pub(crate) fn kind() -> CronJob {
    let descriptor = describe("batch", "v1", "CronJob", "cronjobs").short(&["cj"]).in_all();
    CronJob(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    with(spec, "jobTemplate", |template| {
        with(template, "spec", |spec| {
            job_spec::default_policy(spec);
            with(spec, "template", |template| default_spec(child(template, "spec")));
        });
    });
}

impl Kind for CronJob {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        let mut all = gates::of_pod_spec(&["spec", "jobTemplate", "spec", "template", "spec"]);
        all.push(vec!["spec", "jobTemplate", "spec", "scheduling"]);
        all
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_spec(&object["spec"], None, &mut errors);
        let name = text(&object["metadata"], "name");
        if name.len() > MAX_NAME_BYTES {
            let detail = names::max_length_error(MAX_NAME_BYTES);
            errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_spec(&new["spec"], Some(&old["spec"]), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let of_name = if old.is_none() { warnings::of_name(new, "Pod names and hostnames") } else { None };
        let path = Path::new("spec").children(&["jobTemplate", "spec", "template"]);
        let template = at(new, &["spec", "jobTemplate", "spec", "template"]);
        let of_zone = text(&new["spec"], "schedule").contains("TZ").then(|| {
            "spec.schedule: cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned()
        });
        of_name.into_iter().chain(of_zone).chain(warnings::of_template(template, &path)).collect()
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [containers, images] = container_columns();
        vec![
            table::name(),
            string("Schedule", "When it runs."),
            string("Timezone", "Whose time its schedule means."),
            table::boolean("Suspend", "Whether it rests."),
            integer("Active", "How many of its Jobs run."),
            string("Last Schedule", "The time since it last ran."),
            table::age(),
            containers,
            images,
            wide(string("Selector", "The labels of its pods.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let job = &spec["jobTemplate"]["spec"];
        let [containers, images] = container_cells(at(job, &["template", "spec"]));
        let last = get(status, "lastScheduleTime").map_or(NONE.into(), |time| table::since_cell(time, now_s));
        vec![
            table::name_cell(object),
            text(spec, "schedule").into(),
            table::or_none(text(spec, "timeZone")),
            table::flag_text(spec, "suspend").into(),
            list(status, "active").len().into(),
            last,
            table::age_cell(object, now_s),
            containers,
            images,
            label_selector::cell(&job["selector"]),
        ]
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let zone = get(spec, "timeZone").and_then(Value::as_str);
    if is_unset(spec, "schedule") {
        errors.push(FieldError::required(&path.child("schedule"), ""));
    } else {
        let before = old.map(|old| text(old, "schedule"));
        schedule::validate(text(spec, "schedule"), before, zone.is_some(), &path.child("schedule"), errors);
    }
    check::nonnegative(spec, "startingDeadlineSeconds", &path, errors);
    if let Some(zone) = zone
        && old.is_none_or(|old| old.get("timeZone") != spec.get("timeZone"))
    {
        schedule::zone(zone, &path.child("timeZone"), errors);
    }
    check::one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path, errors);
    template(&spec["jobTemplate"]["spec"], &path.child("jobTemplate").child("spec"), errors);
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        check::nonnegative(spec, key, &path, errors);
    }
}

/// A Job of a CronJob always gets a selector of its own.
fn template(spec: &Value, path: &Path, errors: &mut Errors) {
    job_spec::validate(spec, path, errors);
    if let Some(selector) = get(spec, "selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&path.child("selector"), selector.clone(), detail));
    }
    if flag(spec, "manualSelector") {
        errors.push(FieldError::not_supported(&path.child("manualSelector"), true, &["nil", "false"]));
    }
}
