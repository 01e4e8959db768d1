//! `backup`, `restore` and `store check`: what a person does to the state of a cluster. A running server does it itself, for it has the store
//! open; of a cluster that is down the store is opened here.

use crate::backup_ranges::BackupRanges;
use crate::cli::{ClusterArgs, NewClusterArgs};
use crate::cluster::{self, Cluster, Found, MachineList};
use crate::commands::known;
use crate::control::{self, Answer, Ask};
use crate::failure::{Doing, Failure};
use crate::storage::{self, Opened};
use crate::{machine, server, up};
use nauplius_apiserver::bootstrap::masters;
use nauplius_store::backup::Backup;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(1800);

/// Writes a backup.
///
/// # Errors
/// When there is no such cluster, or the file cannot be written.
pub fn backup(args: &ClusterArgs, file: &Path) -> Result<(), Failure> {
    let cluster = known(args)?;
    let file = std::path::absolute(file).map_err(|error| Failure::io("cannot use", file, &error))?;
    let told = by_whoever_has_it(&cluster, &Ask::Backup { file: file.clone() }, async |store| {
        store.backup(&file).await
    })?;
    told.iter().for_each(|line| println!("{line}"));
    println!(
        "Certificates and the key that signs tokens are not in it: keep {} beside it.",
        cluster.data_dir.join("pki").display()
    );
    Ok(())
}

/// Verifies the store; the exit code is 0 only when nothing is wrong.
///
/// # Errors
/// When there is no such cluster, or its store cannot be read.
pub fn check(args: &ClusterArgs) -> Result<ExitCode, Failure> {
    let cluster = known(args)?;
    let told = by_whoever_has_it(&cluster, &Ask::StoreCheck, async |store| store.check().await)?;
    told.iter().for_each(|line| println!("{line}"));
    Ok(if told.len() == 1 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the running server, or opens the store of a cluster that is down.
fn by_whoever_has_it(
    cluster: &Cluster,
    question: &Ask,
    act: impl AsyncFnOnce(&Opened) -> Result<Vec<String>, Failure>,
) -> Result<Vec<String>, Failure> {
    match control::ask(&cluster.control_socket(), question, TIMEOUT)? {
        Some(Answer::Done(lines)) => return Ok(lines),
        Some(_) => return Err(Failure::new("the server answered something else")),
        None => {}
    }
    let _held = server::try_lock(cluster)?.ok_or_else(|| in_between(cluster))?;
    block_on(async {
        let store = Opened::open(cluster, storage::tell).await?;
        let done = act(&store).await;
        store.close().await?;
        done
    })
}

/// Replaces what a cluster's store holds by a backup.
///
/// # Errors
/// When the backup is damaged, the cluster is up, or the store cannot be written.
pub fn restore(args: &ClusterArgs, new: &NewClusterArgs, file: &Path) -> Result<(), Failure> {
    machine::check_root()?;
    let _operation = cluster::operate_on(&args.name)?;
    // All of it is read before anything is touched.
    // The addresses of API servers that ran are not those of one that will.
    let backup = Backup::open_leaving_out(file, Some(masters::KEYS.into()))
        .doing(&format!("use {}", file.display()))?;
    let ranges = BackupRanges::of(&backup).doing(&format!("use {}", file.display()))?;
    ranges.check(&args.name, new.service_cidr, new.pod_cidr)?;
    let found = find_or_make(args, new, &ranges)?;
    let (services, pods) = (Some(found.cluster.service_cidr), Some(found.cluster.pod_cidr));
    let restored = ranges.check(&args.name, services, pods).and_then(|()| put_back(&found.cluster, backup));
    if restored.is_err() && found.is_new {
        up::abandon(&found.cluster)?;
    }
    restored
}

/// The cluster of this name, or a new one with the backup's ranges.
fn find_or_make(args: &ClusterArgs, new: &NewClusterArgs, ranges: &BackupRanges) -> Result<Found, Failure> {
    let known = cluster::look_up(&args.name)?;
    let mut list = MachineList::open()?;
    if known.is_some() {
        return list.get_or_make(args, new, up::check);
    }
    ranges.check_free(new, |range| list.obstacle(range))?;
    list.get_or_make(args, &ranges.fill(new), up::check)
}

fn put_back(cluster: &Cluster, backup: Backup) -> Result<(), Failure> {
    let name = &cluster.name;
    let up = || {
        Failure::new(format!("cluster {name} is up: `nauplius down --name {name}` stops it, then restore"))
    };
    if control::ask(&cluster.control_socket(), &Ask::Status, TIMEOUT)?.is_some() {
        return Err(up());
    }
    let _held = server::try_lock(cluster)?.ok_or_else(|| in_between(cluster))?;
    cluster.make_data_dir()?;
    let summary = block_on(storage::restore(cluster, backup))?;
    println!(
        "{} keys are restored; cluster {name} goes on at revision {}. `nauplius up --name {name}` starts it.",
        summary.keys, summary.revision
    );
    Ok(())
}

fn in_between(cluster: &Cluster) -> Failure {
    Failure::new(format!("cluster {} is starting or stopping: {}", cluster.name, server::server_of(cluster)))
}

/// Runs what a command has to wait for.
///
/// # Errors
/// When there are no threads, and its own.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    threads.doing("start threads")?.block_on(work)
}
