//! `/statusz` and `/flagz`: what the server is and what it was told, in text for people, and as an object for programs that ask for
//! one of its versions.

use crate::error::ApiResult;
use crate::metrics;
use crate::negotiate::{JSON, Output, parse_accept};
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::version::GIT_VERSION;
use http::StatusCode;
use http::header::ACCEPT;
use nauplius_base::time::{Timestamp, now, rfc3339_seconds};
use nauplius_meta::error::ApiError;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const COMPONENT: &str = "kube-apiserver";
const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
const TEXT: &str = "text/plain";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for \
                       debugging purposes only.";

/// `/statusz`.
pub(crate) fn status(call: &Call, paths: &[String]) -> Reply {
    let started = metrics::process_started();
    let up_s = now().as_second().saturating_sub(started.as_second());
    answer(call, "Statusz", |version| match version {
        Some(_) => Form::Object(json!({
            "startTime": rfc3339_seconds(started),
            "uptimeSeconds": up_s,
            "goVersion": "",
            "binaryVersion": GIT_VERSION,
            "emulationVersion": "1.37",
            "paths": paths,
        })),
        None => Form::Text(status_text(started, up_s, paths)),
    })
}

fn status_text(started: Timestamp, up_s: i64, paths: &[String]) -> String {
    let up = format!("{} hr {:02} min {:02} sec", up_s / 3600, up_s / 60 % 60, up_s % 60);
    format!(
        "\n{COMPONENT} statusz\n{WARNING}\n\nStarted: {}\nUp: {up}\nGo version: \nBinary version: {GIT_VERSION}\nEmulation version: \
         1.37\nPaths: {}\n",
        started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        paths.join(" ")
    )
}

/// `/flagz`.
pub(crate) fn flags(call: &Call, server: &ApiServer) -> Reply {
    let flags = told(server);
    answer(call, "Flagz", |version| match version {
        Some(_) => Form::Object(json!({ "flags": flags })),
        None => {
            let mut text = format!("\n{COMPONENT} flagz\n{WARNING}\n\n");
            for (name, value) in &flags {
                writeln!(text, "{name}={value}").expect("a string takes every write");
            }
            Form::Text(text)
        }
    })
}

/// What the server was told, under the names of upstream's flags.
fn told(server: &ApiServer) -> BTreeMap<&'static str, String> {
    let config = &server.config;
    let networks = config.service_networks.iter();
    let networks: Vec<String> =
        networks.map(|network| format!("{}/{}", network.address, network.prefix)).collect();
    BTreeMap::from([
        ("anonymous-auth", config.anonymous.to_string()),
        ("etcd-compaction-interval", format!("{}s", config.compaction_interval.as_secs())),
        ("max-mutating-requests-inflight", config.limits.writes.to_string()),
        ("max-requests-inflight", config.limits.reads.to_string()),
        ("service-cluster-ip-range", networks.join(",")),
        ("service-node-port-range", format!("{}-{}", config.node_ports.start(), config.node_ports.end())),
    ])
}

enum Form {
    Text(String),
    Object(Value),
}

fn answer(call: &Call, kind: &str, make: impl FnOnce(Option<&str>) -> Form) -> Reply {
    let version = match wanted(call, kind) {
        Ok(version) => version,
        Err(refusal) => return respond::error(&refusal, &Output::json()),
    };
    match make(version) {
        Form::Text(text) => respond::text(StatusCode::OK, text),
        Form::Object(fields) => {
            let mut object = Map::new();
            object.insert("kind".to_owned(), kind.into());
            object.insert("apiVersion".to_owned(), format!("{GROUP}/{}", version.unwrap_or_default()).into());
            object.insert("metadata".to_owned(), json!({"name": COMPONENT}));
            object.extend(fields.as_object().cloned().unwrap_or_default());
            respond::json(StatusCode::OK, &object.into(), false)
        }
    }
}

/// The version of the object that is asked for; none when text is.
fn wanted(call: &Call, kind: &str) -> ApiResult<Option<&'static str>> {
    let accept = call.header(ACCEPT).unwrap_or_default();
    if accept.trim().is_empty() {
        return Ok(None);
    }
    for range in parse_accept(accept) {
        if range.accepts(TEXT) {
            return Ok(None);
        }
        let is_object =
            range.media_type == JSON && range.param("g") == Some(GROUP) && range.param("as") == Some(kind);
        let version = VERSIONS.into_iter().find(|version| range.param("v") == Some(version));
        if let Some(version) = version.filter(|_| is_object) {
            return Ok(Some(version));
        }
    }
    Err(ApiError::NotAcceptable(vec![JSON.to_owned(), TEXT.to_owned()]))
}
