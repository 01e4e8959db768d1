//! One run: a namespace of its own, the chosen workloads one after another, and its removal whatever happened.

use crate::error::BenchError;
use crate::objects;
use crate::options::{ApiArgs, Resource, Workload};
use crate::process::{self, Meter};
use crate::report::{Report, Row};
use crate::wire::{Ask, Target, Wire};
use crate::workload;
use http::Method;
use nauplius_base::id;
use serde_json::{Value, json};
use std::path::Path;

/// Objects that one request of the clean-up removes.
const CLEAN_PAGE: usize = 500;

/// What a workload works with.
pub struct Bench<'a> {
    /// The settings.
    pub args: &'a ApiArgs,
    /// The server.
    pub target: Target,
    /// A connection for what is not measured.
    pub wire: Wire,
    /// The run's own namespace.
    pub namespace: String,
    /// The server's processes.
    pub pids: Vec<u32>,
    rows: Vec<Row>,
}

/// Measures the server of `kubeconfig`. Rows are shown as they come: on standard output, or on standard error when JSON is wanted.
///
/// # Errors
/// When the server cannot be reached, refuses what it must allow, or breaks off.
pub async fn run(kubeconfig: &Path, args: &ApiArgs) -> Result<Report, BenchError> {
    let mut bench = Bench::start(kubeconfig, args).await?;
    let (version, rest_mib) = (bench.version().await?, process::resident_mib(&bench.pids));
    bench.show(&Row::headings());
    bench.prepare().await?;
    let measured = tokio::select! {
        measured = bench.measure() => measured,
        // Without a way to be interrupted the run goes on to its end.
        Ok(()) = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
    };
    let cleaned = bench.clean_up().await;
    measured.and(cleaned)?;
    Ok(Report {
        server: bench.target.address.to_string(),
        version,
        server_pids: bench.pids,
        rest_mib: rest_mib.round(),
        rows: bench.rows,
    })
}

impl<'a> Bench<'a> {
    async fn start(kubeconfig: &Path, args: &'a ApiArgs) -> Result<Self, BenchError> {
        let target = Target::load(kubeconfig, args.context.as_deref()).await?;
        let wire = target.connect(1).await?;
        let pids = pids(args, &target);
        let namespace = format!("nauplius-bench-{}", id::suffix(5));
        Ok(Self { args, target, wire, namespace, pids, rows: Vec::new() })
    }

    /// Shows a row and keeps it.
    pub fn row(&mut self, row: Row) {
        self.show(&row.line());
        self.rows.push(row);
    }

    fn show(&self, line: &str) {
        if self.args.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// Begins to measure the server's processes.
    pub fn meter(&self) -> Meter {
        Meter::start(&self.pids)
    }

    /// After a restart: the connection and the processes are others.
    pub async fn reconnect(&mut self) -> Result<(), BenchError> {
        self.wire = self.target.connect(1).await?;
        self.pids = pids(self.args, &self.target);
        Ok(())
    }

    async fn version(&self) -> Result<String, BenchError> {
        let text = self.wire.text(0, &Ask::get("/version")).await?;
        // A server without a version is measured all the same.
        let version: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(version["gitVersion"].as_str().unwrap_or("unknown").to_owned())
    }

    /// The namespace, and the account that pods run as: nobody else may be there to make it.
    async fn prepare(&self) -> Result<(), BenchError> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        self.wire.ok(0, &Ask::new(Method::POST, "/api/v1/namespaces", namespace.to_string())).await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace);
        match self.wire.ok(0, &Ask::new(Method::POST, path, account.to_string())).await {
            Ok(_) | Err(BenchError::Refused { code: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn measure(&mut self) -> Result<(), BenchError> {
        for one in self.args.workloads.clone() {
            match one {
                Workload::Writes => workload::writes::run(self).await?,
                Workload::Gets => workload::gets::run(self).await?,
                Workload::Lists => workload::lists::run(self).await?,
                Workload::Watches => workload::watches::run(self).await?,
                Workload::Startup => workload::startup::run(self).await?,
                Workload::Pressure => workload::pressure::run(self).await?,
            }
        }
        Ok(())
    }

    /// The path of a collection in the run's namespace.
    pub fn collection(&self, resource: Resource) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.namespace)
    }

    /// Removes what the run made. The namespace alone would be enough where someone removes what is in it.
    async fn clean_up(&self) -> Result<(), BenchError> {
        // The connection may be what broke.
        let wire = self.target.connect(1).await?;
        for resource in [Resource::Configmaps, Resource::Pods] {
            remove_all(&wire, &self.collection(resource)).await?;
        }
        wire.ok(0, &Ask::new(Method::DELETE, format!("/api/v1/namespaces/{}", self.namespace), "")).await?;
        Ok(())
    }

    /// Removes every object of a resource.
    pub async fn remove(&self, resource: Resource) -> Result<(), BenchError> {
        // Servers end connections that were idle through a long measurement.
        let wire = self.target.connect(1).await?;
        remove_all(&wire, &self.collection(resource)).await
    }

    /// Makes the objects `from..to` of a collection.
    pub async fn fill(
        &self,
        resource: Resource,
        prefix: &str,
        from: usize,
        to: usize,
    ) -> Result<(), BenchError> {
        const FILLERS: usize = 64;
        let (wire, path) = (self.target.connect(FILLERS).await?, self.collection(resource));
        let budget = crate::load::Budget { time: workload::PATIENCE, requests: to - from };
        let (wire, path) = (&wire, &path);
        let load = crate::load::closed_loop(FILLERS, budget, |client, number| async move {
            let index = from + number;
            let body = objects::body(resource, &objects::name(prefix, index), index);
            wire.ok(client, &Ask::new(Method::POST, path.as_str(), body)).await
        });
        let made = load.await?.latencies_ms.len();
        if made == to - from {
            return Ok(());
        }
        let reason = format!("only {made} of {} objects were made in time", to - from);
        Err(BenchError::Broken { request: format!("POST {path}"), reason })
    }
}

fn pids(args: &ApiArgs, target: &Target) -> Vec<u32> {
    if args.server_pid.is_empty() { process::listening_at(target.address) } else { args.server_pid.clone() }
}

/// Pages of a collection are deleted until it is empty.
async fn remove_all(wire: &Wire, collection: &str) -> Result<(), BenchError> {
    loop {
        let path = format!("{collection}?limit={CLEAN_PAGE}&gracePeriodSeconds=0");
        wire.ok(0, &Ask::new(Method::DELETE, path, "")).await?;
        let left = wire.text(0, &Ask::get(format!("{collection}?limit=1"))).await?;
        let left: Value = serde_json::from_str(&left).unwrap_or_default(); // Then nothing is known to be left.
        if left["items"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
    }
}
