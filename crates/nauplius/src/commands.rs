//! `status`, `down`, `delete` and `image`: what a person does to a cluster that exists.

use crate::cli::{ClusterArgs, ImageAction};
use crate::cluster::{self, Cluster};
use crate::control::{self, Answer, Ask, ImageRow, Status};
use crate::failure::{Doing, Failure};
use crate::{keepsake, machine, registry_login, server, state, up};
use nauplius_base::{id, time};
use nauplius_client::kubeconfig::{self, Current};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const STATUS_TIMEOUT: Duration = Duration::from_secs(15);
/// Beside what containers take, which have a grace period of their own.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// How often whoever waits for the end is told for what.
const TELL_INTERVAL: Duration = Duration::from_secs(3);
const IMAGE_TIMEOUT: Duration = Duration::from_secs(1800);

/// The cluster that is meant, which must exist.
///
/// # Errors
/// When we are not root, or there is no such cluster.
pub fn known(args: &ClusterArgs) -> Result<Cluster, Failure> {
    machine::check_root()?;
    cluster::look_up(&args.name)?.ok_or_else(|| Failure::new(no_cluster(args)))
}

fn no_cluster(args: &ClusterArgs) -> String {
    format!("there is no cluster {:?} here: `nauplius up --name {}` makes it", args.name, args.name)
}

/// Asks the server of a cluster that should be up.
///
/// # Errors
/// That it is down and what to do, or what the server refuses.
pub fn ask_running(cluster: &Cluster, question: &Ask, timeout: Duration) -> Result<Answer, Failure> {
    control::ask(&cluster.control_socket(), question, timeout)?.ok_or_else(|| Failure::new(is_down(cluster)))
}

/// Why nobody answers, and what to do.
fn is_down(cluster: &Cluster) -> String {
    let name = &cluster.name;
    if !matches!(server::try_lock(cluster), Ok(Some(_))) {
        return format!("cluster {name} is starting or stopping: {}", server::server_of(cluster));
    }
    match server::pods(cluster) {
        pods if pods.is_empty() => format!("cluster {name} is down: `nauplius up --name {name}` starts it"),
        pods => format!(
            "the server of cluster {name} is down, but {} still: {}; `nauplius up --name {name}` adopts them, `nauplius down --name {name}` stops them",
            if pods.len() == 1 { "1 pod runs".to_owned() } else { format!("{} pods run", pods.len()) },
            pods.join(", ")
        ),
    }
}

/// Prints health; the exit code is 0 only when everything is healthy.
///
/// # Errors
/// When there is no such cluster or it is down.
pub fn status(args: &ClusterArgs, json: bool) -> Result<ExitCode, Failure> {
    let cluster = known(args)?;
    let Answer::Status(status) = ask_running(&cluster, &Ask::Status, STATUS_TIMEOUT)? else {
        return Err(misunderstood());
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status).doing("print the status")?);
    } else {
        print_status(&cluster, &status);
    }
    let healthy = status.shortages.is_empty() && status.components.iter().all(|component| component.healthy);
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
    status.shortages.iter().for_each(|shortage| println!("{:<18} {:<12} {shortage}", "node", "NOT healthy"));
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

/// Stops the cluster and its containers. Where there is none, there is nothing to stop.
///
/// # Errors
/// When it does not stop.
pub fn down(args: &ClusterArgs) -> Result<(), Failure> {
    machine::check_root()?;
    let _operation = cluster::operate_on(&args.name)?;
    let Some(cluster) = cluster::look_up(&args.name)? else {
        println!("There is no cluster {:?} here.", args.name);
        return Ok(());
    };
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
    server::end_unreachable(cluster)?;
    if server::is_wreck(cluster) {
        eprintln!(
            "nauplius: files of cluster {} are gone from {}: what still runs is ended at once",
            cluster.name,
            cluster.data_dir.display()
        );
        server::end_wreck(cluster)?;
        return stopped(cluster).map(|()| true);
    }
    let pods = server::pods(cluster);
    if !pods.is_empty() {
        let plural = if pods.len() == 1 { "" } else { "s" };
        println!("Stopping {} pod{plural}: {}.", pods.len(), pods.join(", "));
    }
    let mut waiting = Waiting { cluster, since: time::monotonic(), told: time::monotonic() };
    let question = Ask::Stop { containers: true };
    let mut graces = None;
    // A server that has just started does not listen yet: so it is asked until it has heard.
    server::wait_until_stopped(cluster, || {
        if graces.is_none()
            && let Some(answer) = control::ask(&cluster.control_socket(), &question, STOP_TIMEOUT)?
        {
            let Answer::Stopping { within_s } = answer else { return Err(misunderstood()) };
            graces = Some(Duration::from_secs(within_s));
        }
        waiting.tell();
        Ok(STOP_TIMEOUT + graces.unwrap_or_default())
    })?;
    let answered = graces.is_some();
    if !answered {
        server::stop_leftovers(cluster)?;
    }
    stopped(cluster)?;
    Ok(answered || !pods.is_empty())
}

/// Takes away what was there for what runs no more.
fn stopped(cluster: &Cluster) -> Result<(), Failure> {
    server::clear(cluster)?;
    // A server that was killed has left it.
    cluster::remove_file(&cluster.control_socket())?;
    keepsake::forget(cluster)
}

fn misunderstood() -> Failure {
    Failure::new("the server answered something else")
}

/// Says now and then what a stop waits for.
struct Waiting<'a> {
    cluster: &'a Cluster,
    since: time::Instant,
    told: time::Instant,
}

impl Waiting<'_> {
    fn tell(&mut self) {
        if self.told.elapsed() < TELL_INTERVAL {
            return;
        }
        self.told = time::monotonic();
        let pods = server::pods(self.cluster);
        let what = if pods.is_empty() { "the server to end".to_owned() } else { pods.join(", ") };
        eprintln!("nauplius: after {} s still waiting for {what}", self.since.elapsed().as_secs());
    }
}

/// Stops the cluster and removes all that it made on this machine; and with `etcd_keys` what it keeps in etcd.
///
/// # Errors
/// What could not be removed.
pub fn delete(args: &ClusterArgs, etcd_keys: bool) -> Result<(), Failure> {
    machine::check_root()?;
    let _operation = cluster::operate_on(&args.name)?;
    let Some(cluster) = cluster::look_up(&args.name)? else {
        println!("There is no cluster {:?} here.", args.name);
        return Ok(());
    };
    let etcd = cluster.etcd.as_ref();
    if let Some(etcd) = etcd.filter(|_| etcd_keys) {
        // First of all: when it fails, the cluster is still there to try again with.
        stop(&cluster)?;
        let removed = state::block_on(etcd.remove_keys())?;
        println!("{removed} keys are removed from {etcd}.");
    }
    for (path, current) in remove(&cluster)? {
        tell_current(&path, &current);
    }
    println!("Cluster {} is gone.", cluster.name);
    if let Some(etcd) = etcd.filter(|_| !etcd_keys) {
        println!("Its keys stay in {etcd}: `{}` removes them.", etcd.removal());
    }
    Ok(())
}

/// Stops the cluster, removes it, and says what is current in each kubeconfig that it was in.
///
/// # Errors
/// What could not be removed.
pub fn remove(cluster: &Cluster) -> Result<Vec<(PathBuf, Current)>, Failure> {
    let mut kubeconfigs = up::noted_kubeconfigs(cluster)?;
    kubeconfigs.extend(keepsake::find(&cluster.name).into_iter().flat_map(|kept| kept.kubeconfigs));
    kubeconfigs.push(up::kubeconfig_path());
    let mut seen = BTreeSet::new();
    kubeconfigs.retain(|path| seen.insert(path.clone()));
    let entry = own_entry(cluster)?;
    stop(cluster)?;
    server::remove_everything(cluster)?;
    cluster::forget(&cluster.name)?;
    let here = machine::addresses()?;
    let remove = |path: PathBuf| {
        let entry = entry.clone().or_else(|| entry_in(&path, cluster, &here))?;
        let current = kubeconfig::remove(&path, &entry);
        let current = current.doing("take the cluster, which is gone, out of your kubeconfig");
        Some(current.map(|current| (path, current)))
    };
    kubeconfigs.into_iter().filter_map(remove).collect()
}

/// What a kubeconfig has of a cluster that can no longer say itself what is its own: the name must lead to its port on this machine. A file that
/// cannot be read has nothing of it.
fn entry_in(path: &Path, cluster: &Cluster, here: &[Ipv4Addr]) -> Option<kubeconfig::Entry> {
    let entry = kubeconfig::load(path, Some(&cluster.name)).ok()?;
    let address: SocketAddrV4 = entry.server.strip_prefix("https://")?.parse().ok()?;
    let is_here = address.ip().is_loopback() || here.contains(address.ip());
    (is_here && address.port() == cluster.port).then_some(entry)
}

/// What kubeconfigs have of the cluster; `None` when it never came so far.
fn own_entry(cluster: &Cluster) -> Result<Option<kubeconfig::Entry>, Failure> {
    let path = cluster.admin_kubeconfig();
    if !path.exists() {
        return Ok(None);
    }
    kubeconfig::load(&path, None).map(Some).doing("read the administrator's kubeconfig")
}

fn tell_current(path: &Path, current: &Current) {
    let path = path.display();
    match current {
        Current::Untouched => {}
        Current::Now(name) => println!("kubectl's context in {path} is {name:?} again."),
        Current::Nothing => {
            println!("No context is current in {path} now: `kubectl config use-context NAME` chooses one.");
        }
    }
}

/// Image commands, carried out by the running server.
///
/// # Errors
/// When the cluster is down or the server refuses.
pub fn image(args: &ClusterArgs, action: ImageAction) -> Result<(), Failure> {
    let cluster = known(args)?;
    let question = match action {
        ImageAction::Load { archive } => {
            let archive = Archive::of(&cluster, archive)?;
            return image_done(&cluster, &Ask::ImageLoad { archive: archive.path().to_owned() });
        }
        ImageAction::List => Ask::ImageList,
        ImageAction::Remove { image } => Ask::ImageRemove { image },
        ImageAction::Pull { image, login } => {
            let login = registry_login::find(&login, &image)?;
            Ask::ImagePull { image, login }
        }
    };
    image_done(&cluster, &question)
}

fn image_done(cluster: &Cluster, question: &Ask) -> Result<(), Failure> {
    match ask_running(cluster, question, IMAGE_TIMEOUT)? {
        Answer::Images(rows) => print_images(&rows),
        Answer::Done(names) => names.iter().for_each(|name| println!("{name}")),
        _ => return Err(misunderstood()),
    }
    Ok(())
}

/// An archive that the server can read.
enum Archive {
    Given(PathBuf),
    /// What came from standard input, for as long as this lives.
    Copied(PathBuf),
}

impl Archive {
    /// `-` is standard input.
    fn of(cluster: &Cluster, given: PathBuf) -> Result<Self, Failure> {
        if given.as_os_str() != "-" {
            let path = std::fs::canonicalize(&given);
            return path.map(Self::Given).map_err(|error| Failure::io("cannot read", &given, &error));
        }
        let path = cluster.data_dir.join(format!(".archive-{}", id::suffix(8)));
        let copied = Self::Copied(path);
        let path = copied.path();
        let mut file = File::create_new(path).map_err(|error| Failure::io("cannot make", path, &error))?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file).doing("copy standard input")?;
        Ok(copied)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::Copied(path) => path,
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Self::Copied(path) = self
            && let Err(failure) = cluster::remove_file(path)
        {
            eprintln!("nauplius: {failure}");
        }
    }
}

fn print_images(rows: &[ImageRow]) {
    let width = rows.iter().flat_map(|row| &row.tags).map(String::len).max().unwrap_or(0).max(5);
    println!("{:<width$}  {:<12}  {:>10}", "IMAGE", "ID", "SIZE");
    for (name, row) in by_name(rows) {
        let id = row.id.trim_start_matches("sha256:");
        let id = &id[..id.len().min(12)];
        let size = format!("{}.{} MB", row.size_bytes / 1_000_000, row.size_bytes % 1_000_000 / 100_000);
        println!("{name:<width$}  {id:<12}  {size:>10}");
    }
}

/// Each name with its image, in order; images without a name first.
fn by_name(rows: &[ImageRow]) -> Vec<(&str, &ImageRow)> {
    let nameless = rows.iter().filter(|row| row.tags.is_empty()).map(|row| ("<none>", row));
    let tagged = rows.iter().flat_map(|row| row.tags.iter().map(move |tag| (tag.as_str(), row)));
    let mut named: Vec<(&str, &ImageRow)> = nameless.chain(tagged).collect();
    named.sort_by(|(a, one), (b, other)| (a, &one.id).cmp(&(b, &other.id)));
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_name() {
        let row = |id: &str, tags: &[&str]| ImageRow {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            id: id.to_owned(),
            size_bytes: 1,
        };
        let rows = [row("1", &["b:2", "a:1"]), row("3", &[]), row("2", &["b:1"])];
        let listed: Vec<(&str, &str)> =
            by_name(&rows).into_iter().map(|(name, row)| (name, row.id.as_str())).collect();
        assert_eq!(listed, [("<none>", "3"), ("a:1", "1"), ("b:1", "2"), ("b:2", "1")]);
    }
}
