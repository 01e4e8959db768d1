//! `up`: starts a server in the background, shows its stages, and returns when the cluster works.

use crate::cli::{ClusterArgs, NewClusterArgs};
use crate::cluster::{Cluster, MachineList};
use crate::control::{self, Answer, Ask};
use crate::failure::{Doing, Failure};
use crate::progress::{Display, Report};
use crate::{machine, server};
use nauplius_base::time;
use nauplius_client::kubeconfig;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ENDING_TIMEOUT: Duration = Duration::from_secs(20);
const SOCKETS_TIMEOUT: Duration = Duration::from_millis(500);
const SOCKETS_RETRY: Duration = Duration::from_millis(10);

/// Brings the cluster up, or says that it is.
///
/// # Errors
/// What the machine lacks, or why the server did not come up.
pub fn up(args: &ClusterArgs, new: &NewClusterArgs) -> Result<(), Failure> {
    machine::check_root()?;
    let cluster = MachineList::open()?.get_or_make(args, new)?;
    if let Some(Answer::Status(status)) =
        control::ask(&cluster.control_socket(), &Ask::Status, ANSWER_TIMEOUT)?
    {
        println!("Cluster {} is up already, at {}.", cluster.name, status.server);
        return install_kubeconfig(&cluster).map(|path| print_next(&cluster, &path));
    }
    if let Err(failure) = check(&cluster) {
        forget_unborn(&cluster)?;
        return Err(failure);
    }
    let since = time::monotonic();
    start(&cluster)?;
    let kubeconfig = install_kubeconfig(&cluster)?;
    println!("Cluster {} works, {:.1} s after the start.", cluster.name, since.elapsed().as_secs_f64());
    print_next(&cluster, &kubeconfig);
    Ok(())
}

fn check(cluster: &Cluster) -> Result<(), Failure> {
    machine::check()?;
    // One that was killed a moment ago may still be ending.
    server::wait_until_stopped(cluster, ENDING_TIMEOUT)?;
    check_port(cluster.port)
}

/// A server that has let go of its lock a moment ago may still hold its sockets.
fn check_port(port: u16) -> Result<(), Failure> {
    let since = time::monotonic();
    loop {
        match machine::check_port(port) {
            Err(_) if since.elapsed() < SOCKETS_TIMEOUT => std::thread::sleep(SOCKETS_RETRY),
            outcome => return outcome,
        }
    }
}

/// A cluster that never started is not held to the ports and ranges that it was given.
fn forget_unborn(cluster: &Cluster) -> Result<(), Failure> {
    if cluster.data_dir.exists() {
        return Ok(());
    }
    server::remove_everything(cluster)?;
    MachineList::open()?.remove(&cluster.name)
}

/// Starts the server and follows its stages until it works or fails.
///
/// # Errors
/// The server's own words, or the end of its log when it had none.
pub fn start(cluster: &Cluster) -> Result<(), Failure> {
    let mut server = spawn(cluster)?;
    let Some(reports) = server.stdout.take() else { return Err(Failure::new("the server has no output")) };
    let mut display = Display::new();
    match follow(reports, &mut display) {
        Some(Report::Ready) => {
            display.finish();
            Ok(())
        }
        Some(Report::Failed { message }) => {
            display.fail();
            Err(Failure::new(message))
        }
        _ => {
            display.fail();
            Err(ended_early(cluster, &mut server))
        }
    }
}

/// A session of its own: no terminal, no signals of ours.
fn spawn(cluster: &Cluster) -> Result<Child, Failure> {
    let own = std::env::current_exe().doing("find our own binary")?;
    std::fs::create_dir_all(&cluster.data_dir)
        .map_err(|error| Failure::io("cannot make", &cluster.data_dir, &error))?;
    let log_path = cluster.log_file();
    let log = OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.map_err(|error| Failure::io("cannot open", &log_path, &error))?;
    let mut command = Command::new(own);
    command.args(["server", "--progress", "--name", &cluster.name]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/");
    // SAFETY: setsid is async-signal-safe and touches nothing of ours.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
    command.spawn().doing("start the server")
}

/// Shows stages until the last report; `None` when the server ended without one.
fn follow(reports: ChildStdout, display: &mut Display) -> Option<Report> {
    for line in BufReader::new(reports).lines() {
        match serde_json::from_str(&line.ok()?).ok()? {
            Report::Stage { name } => display.stage(&name),
            last => return Some(last),
        }
    }
    None
}

fn ended_early(cluster: &Cluster, server: &mut Child) -> Failure {
    let code = server.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let log = std::fs::read_to_string(cluster.log_file()).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Failure::new(format!(
        "the server ended ({code}); its log, {}, ends with:\n  {}",
        cluster.log_file().display(),
        last.join("\n  ")
    ))
}

/// The file that a person's kubectl reads.
pub fn kubeconfig_path() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    kubeconfig::default_path(std::env::var("KUBECONFIG").ok().as_deref(), home.as_deref())
}

/// Merges the cluster's context into the person's kubeconfig.
fn install_kubeconfig(cluster: &Cluster) -> Result<PathBuf, Failure> {
    let entry =
        kubeconfig::load(&cluster.admin_kubeconfig(), None).doing("read the administrator's kubeconfig")?;
    let path = kubeconfig_path();
    kubeconfig::merge(&path, &entry).doing("add the cluster to your kubeconfig")?;
    Ok(path)
}

fn print_next(cluster: &Cluster, kubeconfig: &Path) {
    println!("kubectl uses it now: context {:?} in {}. Try:\n", cluster.name, kubeconfig.display());
    println!("  kubectl get nodes");
    println!("  kubectl create deployment hello --image={} --replicas=3", crate::demo_image::REFERENCE);
    println!("  kubectl get pods -o wide --watch");
}
