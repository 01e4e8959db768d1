//! `status`, `down`, `delete` and `image`: what a person does to a cluster that exists.

use crate::cli::{ClusterArgs, ImageAction};
use crate::cluster::{Cluster, MachineList, remove_file};
use crate::control::{self, Answer, Ask, ImageRow, Status};
use crate::failure::{Doing, Failure};
use crate::{machine, server, up};
use nauplius_client::kubeconfig;
use std::process::ExitCode;
use std::time::Duration;

const STATUS_TIMEOUT: Duration = Duration::from_secs(15);
/// Containers have a grace period of their own, by default 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
const IMAGE_TIMEOUT: Duration = Duration::from_secs(1800);

fn known(args: &ClusterArgs) -> Result<Cluster, Failure> {
    machine::check_root()?;
    find(args)?.ok_or_else(|| Failure::new(no_cluster(args)))
}

fn find(args: &ClusterArgs) -> Result<Option<Cluster>, Failure> {
    Ok(MachineList::open()?.get(&args.name).cloned())
}

fn no_cluster(args: &ClusterArgs) -> String {
    format!("there is no cluster {:?} here: `nauplius up --name {}` makes it", args.name, args.name)
}

fn ask_running(cluster: &Cluster, question: &Ask, timeout: Duration) -> Result<Answer, Failure> {
    control::ask(&cluster.control_socket(), question, timeout)?.ok_or_else(|| {
        Failure::new(format!(
            "cluster {} is down: `nauplius up --name {}` starts it",
            cluster.name, cluster.name
        ))
    })
}

/// Prints health; the exit code is 0 only when everything is healthy.
///
/// # Errors
/// When there is no such cluster or it is down.
pub fn status(args: &ClusterArgs, json: bool) -> Result<ExitCode, Failure> {
    let cluster = known(args)?;
    let Answer::Status(status) = ask_running(&cluster, &Ask::Status, STATUS_TIMEOUT)? else {
        return Err(Failure::new("the server answered something else"));
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status).doing("print the status")?);
    } else {
        print_status(&cluster, &status);
    }
    let healthy = status.components.iter().all(|component| component.healthy);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_status(cluster: &Cluster, status: &Status) {
    println!("cluster     {} at {}", cluster.name, status.server);
    println!("version     nauplius {}, Kubernetes {}", status.version, status.kubernetes_version);
    println!("server      process {}, log {}", status.pid, cluster.log_file().display());
    for component in &status.components {
        let health = if component.healthy { "healthy" } else { "NOT healthy" };
        println!("{:<18} {health:<12} {}", component.name, component.message);
    }
    let memory = status.memory_kib;
    let mib = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
    println!(
        "memory      server {}, shims {}, containers {} ({} pods)",
        mib(memory.server),
        mib(memory.shims),
        mib(memory.containers),
        status.pods
    );
}

/// Stops the cluster and its containers.
///
/// # Errors
/// When there is no such cluster, or it does not stop.
pub fn down(args: &ClusterArgs) -> Result<(), Failure> {
    let cluster = known(args)?;
    match stop(&cluster)? {
        true => {
            println!("Cluster {} is down; its state stays in {}.", cluster.name, cluster.data_dir.display())
        }
        false => println!("Cluster {} was down already.", cluster.name),
    }
    Ok(())
}

/// Whether there was something to stop.
fn stop(cluster: &Cluster) -> Result<bool, Failure> {
    let answer = control::ask(&cluster.control_socket(), &Ask::Stop { containers: true }, STOP_TIMEOUT)?;
    // The answer comes when the containers are stopped; the lock is free when the process has ended.
    server::wait_until_stopped(cluster, STOP_TIMEOUT)?;
    let was_running = answer.is_some();
    if !was_running {
        server::stop_leftovers(cluster)?;
    }
    Ok(was_running)
}

/// Stops the cluster and removes all that it made.
///
/// # Errors
/// What could not be removed.
pub fn delete(args: &ClusterArgs) -> Result<(), Failure> {
    machine::check_root()?;
    let Some(cluster) = find(args)? else {
        println!("There is no cluster {:?} here.", args.name);
        return MachineList::open()?.remove(&args.name);
    };
    stop(&cluster)?;
    server::remove_everything(&cluster)?;
    let path = up::kubeconfig_path();
    kubeconfig::remove(&path, &cluster.name).doing("take the cluster out of your kubeconfig")?;
    remove_file(&cluster.control_socket())?;
    MachineList::open()?.remove(&cluster.name)?;
    println!("Cluster {} is gone.", cluster.name);
    Ok(())
}

/// Image commands, carried out by the running server.
///
/// # Errors
/// When the cluster is down or the server refuses.
pub fn image(args: &ClusterArgs, action: ImageAction) -> Result<(), Failure> {
    let cluster = known(args)?;
    let question = match action {
        ImageAction::Load { archive } => {
            let archive = std::fs::canonicalize(&archive)
                .map_err(|error| Failure::io("cannot read", &archive, &error))?;
            Ask::ImageLoad { archive }
        }
        ImageAction::List => Ask::ImageList,
        ImageAction::Remove { image } => Ask::ImageRemove { image },
        ImageAction::Pull { image } => Ask::ImagePull { image },
    };
    match ask_running(&cluster, &question, IMAGE_TIMEOUT)? {
        Answer::Images(rows) => print_images(&rows),
        Answer::Done(names) => names.iter().for_each(|name| println!("{name}")),
        _ => return Err(Failure::new("the server answered something else")),
    }
    Ok(())
}

fn print_images(rows: &[ImageRow]) {
    let width = rows.iter().flat_map(|row| &row.tags).map(String::len).max().unwrap_or(0).max(5);
    println!("{:<width$}  {:<12}  {:>10}", "IMAGE", "ID", "SIZE");
    for row in rows {
        let id = row.id.trim_start_matches("sha256:");
        let id = &id[..id.len().min(12)];
        let size = format!("{}.{} MB", row.size_bytes / 1_000_000, row.size_bytes % 1_000_000 / 100_000);
        let none = vec!["<none>".to_owned()];
        for tag in if row.tags.is_empty() { &none } else { &row.tags } {
            println!("{tag:<width$}  {id:<12}  {size:>10}");
        }
    }
}
