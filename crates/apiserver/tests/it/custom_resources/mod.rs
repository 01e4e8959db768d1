//! Custom resources from their definition to their end, by subject. The definition that most of them use is made here.

mod conversion;
mod lifecycle;
mod objects;
mod publishing;
mod subresources;
mod versions;
mod webhook;

use crate::support::{Fixture, model};
use nauplius_base::time::{sleep, timeout};
use serde_json::{Value, json};
use std::time::Duration;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/n/crontabs";

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cron"], "properties": {
            "cron": {"type": "string", "pattern": "^[0-9* ]+$"},
            "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
            "color": {"type": "string", "enum": ["red", "blue"]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    }})
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}],
                "selectableFields": [{"jsonPath": ".spec.color"}],
            }],
        },
    })
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

async fn until(fixture: &Fixture, name: &str, condition: &str) -> Value {
    let wait = async {
        loop {
            let definition = fixture.get(&format!("{DEFINITIONS}/{name}")).await.json();
            let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|own| {
                format!("{}={}", own["type"].as_str().unwrap(), own["status"].as_str().unwrap()) == condition
            }) {
                return definition;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("{name} did not become {condition}"))
}

pub async fn define(fixture: &Fixture, definition: &Value) -> Value {
    fixture.post(DEFINITIONS, definition).await.expect(201);
    until(fixture, definition["metadata"]["name"].as_str().unwrap(), "Established=True").await
}

async fn defined() -> Fixture {
    let fixture = model().await;
    let namespace = json!({"metadata": {"name": "n"}});
    fixture.post("/api/v1/namespaces", &namespace).await.expect(201);
    define(&fixture, &definition()).await;
    fixture
}
