//! `up`: starts a server in the background, shows its stages, and returns when the cluster works.

use crate::cli::{ClusterArgs, NewClusterArgs};
use crate::cluster::{Cluster, Found, MachineList};
use crate::control::{self, Answer, Ask, ComponentStatus, Status};
use crate::failure::{Doing, Failure};
use crate::interrupts::{self, Interrupts};
use crate::progress::{Display, Report};
use crate::{cluster, keepsake, machine, server};
use nauplius_base::time;
use nauplius_client::kubeconfig;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that starts or ends may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a cluster that runs may take to work.
const MEND_TIMEOUT: Duration = Duration::from_secs(20);
const CHANGE_RETRY: Duration = Duration::from_millis(50);
const SOCKETS_TIMEOUT: Duration = Duration::from_millis(500);
const SOCKETS_RETRY: Duration = Duration::from_millis(10);
/// How long a server that has said that it failed may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// What a cluster writes at first beside the demo image, in bytes.
const FIRST_FILES: u64 = 64 << 20;
/// What it needs to go on.
const FURTHER_FILES: u64 = 16 << 20;

/// Brings the cluster up, or says that it is.
///
/// # Errors
/// What the machine lacks, or why the server did not come up.
pub fn up(args: &ClusterArgs, new: &NewClusterArgs) -> Result<(), Failure> {
    machine::check_root()?;
    let _operation = cluster::operate_on(&args.name)?;
    kubeconfig::check(&kubeconfig_path()).doing("use your kubeconfig")?;
    let interrupts = Interrupts::catch()?;
    cluster::check_listed(&args.name)?;
    let found = MachineList::open()?.get_or_make(args, new, check)?;
    let cluster = &found.cluster;
    if running(cluster, &interrupts)?.is_some() {
        mend(&found, &interrupts)?;
        drop(interrupts);
        let status = well(cluster)?;
        println!("Cluster {} is up already, at {}.", cluster.name, status.server);
        warn(&status.shortages);
        return install_kubeconfig(cluster).map(|path| print_next(cluster, &path));
    }
    let since = time::monotonic();
    let warnings = bring_up(&found, &interrupts)?;
    drop(interrupts);
    warn(&warnings);
    let kubeconfig = install_kubeconfig(cluster)?;
    println!("Cluster {} works, {:.1} s after the start.", cluster.name, since.elapsed().as_secs_f64());
    print_next(cluster, &kubeconfig);
    Ok(())
}

/// Starts the server of a cluster that is down, and returns what a person should know of it. When that fails for one that has never worked, nothing is left of it; one that was there
/// is as it was after an interruption.
///
/// # Errors
/// Why the server did not come up.
pub fn bring_up(found: &Found, interrupts: &Interrupts) -> Result<Vec<String>, Failure> {
    let cluster = &found.cluster;
    if !found.is_new {
        check(cluster)?;
    }
    let ran = server::pods(cluster);
    let failure = match start(cluster, interrupts) {
        Ok(warnings) => return Ok(warnings),
        Err(failure) => failure,
    };
    let interrupted = failure.signal().is_some();
    if found.is_new {
        abandon(cluster)?;
        return Err(if interrupted { failure.and("nothing is left of the new cluster") } else { failure });
    }
    Err(if interrupted { take_back(cluster, &ran, failure)? } else { failure })
}

/// Pods that ran without a server run on; those that the interrupted start has begun end.
fn take_back(cluster: &Cluster, ran: &[String], failure: Failure) -> Result<Failure, Failure> {
    let name = &cluster.name;
    if !ran.is_empty() {
        return Ok(failure.and(&format!("cluster {name} has no server, as before, and its pods run on")));
    }
    server::stop_leftovers(cluster)?;
    server::clear(cluster)?;
    Ok(failure.and(&format!("cluster {name} is down again")))
}

/// The status of the running server. One that just starts or ends is waited for; `None` when none runs.
fn running(cluster: &Cluster, interrupts: &Interrupts) -> Result<Option<Status>, Failure> {
    let since = time::monotonic();
    let mut told = false;
    loop {
        match control::ask(&cluster.control_socket(), &Ask::Status, ANSWER_TIMEOUT)? {
            Some(Answer::Status(status)) => return Ok(Some(*status)),
            Some(_) => return Err(Failure::new("the server answered something else")),
            None => {}
        }
        if server::try_lock(cluster)?.is_some() {
            return Ok(None);
        }
        if since.elapsed() > CHANGE_TIMEOUT {
            let (name, who) = (&cluster.name, server::server_of(cluster));
            return Err(Failure::new(format!(
                "the server of cluster {name} neither answers nor ends: {who}; stop that process and try again"
            )));
        }
        if !told && since.elapsed() > SOCKETS_TIMEOUT {
            eprintln!("nauplius: waiting for a server that starts or ends: {}", server::server_of(cluster));
            told = true;
        }
        std::thread::sleep(CHANGE_RETRY);
        interrupts.check()?;
    }
}

/// What a running cluster should have and may have lost.
fn mend(found: &Found, interrupts: &Interrupts) -> Result<(), Failure> {
    let cluster = &found.cluster;
    match control::ask(&cluster.control_socket(), &Ask::Mend, CHANGE_TIMEOUT)? {
        Some(Answer::Mended { made, lost }) => {
            made.iter().for_each(|what| println!("The {what} was missing: it is there again."));
            lost.map_or(Ok(()), |what| restart(found, interrupts, &what))
        }
        _ => Err(ended_meanwhile()),
    }
}

fn ended_meanwhile() -> Failure {
    Failure::new("the server ended meanwhile: run `up` again")
}

/// Starts the server anew; containers run on. What the new one warns of its status says as well, which is told when all is mended.
fn restart(found: &Found, interrupts: &Interrupts, lost: &str) -> Result<(), Failure> {
    println!("The {lost} was missing: the server starts again and makes it.");
    let cluster = &found.cluster;
    let question = Ask::Stop { containers: false };
    control::ask(&cluster.control_socket(), &question, ANSWER_TIMEOUT)?.ok_or_else(ended_meanwhile)?;
    server::wait_until_stopped(cluster, || Ok(CHANGE_TIMEOUT))?;
    bring_up(found, interrupts).map(drop)
}

/// The status of a cluster that works; what has just been mended may need a moment.
fn well(cluster: &Cluster) -> Result<Status, Failure> {
    let since = time::monotonic();
    loop {
        let answer = control::ask(&cluster.control_socket(), &Ask::Status, ANSWER_TIMEOUT)?;
        let Some(Answer::Status(status)) = answer else { return Err(ended_meanwhile()) };
        let ill: Vec<String> = status.components.iter().filter(|part| !part.healthy).map(told).collect();
        if ill.is_empty() {
            return Ok(*status);
        }
        if since.elapsed() > MEND_TIMEOUT {
            return Err(Failure::new(format!(
                "cluster {0} is up but does not work: {1}; its log is {2}, and `nauplius down --name {0}` and `up` start it anew",
                cluster.name,
                ill.join("; "),
                cluster.log_file().display()
            )));
        }
        std::thread::sleep(CHANGE_RETRY);
    }
}

fn told(part: &ComponentStatus) -> String {
    format!("{} is not healthy ({})", part.name, part.message)
}

/// Whether the cluster's server can be started.
///
/// # Errors
/// What the machine lacks, or who is in the way.
pub fn check(cluster: &Cluster) -> Result<(), Failure> {
    machine::check()?;
    let needed = if cluster.data_dir.join("store").exists() {
        FURTHER_FILES
    } else {
        // The demo image has our own binary in it: once packed, once unpacked.
        let own = std::fs::metadata("/proc/self/exe").doing("look at our own binary")?.len();
        FIRST_FILES + 2 * own
    };
    machine::check_space(&cluster.data_dir, needed)?;
    check_port(cluster.port, machine::cannot_listen)?;
    check_port(cluster.kubelet_port, machine::kubelet_cannot_listen)
}

/// A server that has let go of its lock a moment ago may still hold its sockets.
fn check_port(port: u16, explain: fn(u16, &std::io::Error) -> Failure) -> Result<(), Failure> {
    let since = time::monotonic();
    loop {
        match machine::try_listen(port) {
            Err(_) if since.elapsed() < SOCKETS_TIMEOUT => std::thread::sleep(SOCKETS_RETRY),
            outcome => return outcome.map_err(|error| explain(port, &error)),
        }
    }
}

/// A cluster that has never worked is not held to the ports and ranges that it was given, and leaves nothing.
///
/// # Errors
/// What could not be removed.
pub fn abandon(cluster: &Cluster) -> Result<(), Failure> {
    server::remove_everything(cluster)?;
    cluster::forget(&cluster.name)
}

/// Starts the server and follows its stages until it works, with its warnings, or fails.
///
/// # Errors
/// The server's own words, or the end of its log when it had none.
fn start(cluster: &Cluster, interrupts: &Interrupts) -> Result<Vec<String>, Failure> {
    interrupts.check()?;
    let mut server = spawn(cluster)?;
    interrupts.tell(&server);
    let Some(reports) = server.stdout.take() else { return Err(Failure::new("the server has no output")) };
    let mut display = Display::new();
    let mut warnings = Vec::new();
    let last = follow(reports, &mut display, &mut warnings);
    interrupts.tell_nobody();
    if let Err(interrupted) = interrupts.check() {
        display.fail();
        // One that worked at that very moment may not have been told.
        interrupts::end(&server);
        end(&mut server)?;
        return Err(interrupted);
    }
    match last {
        Some(Report::Ready) => {
            display.finish();
            Ok(warnings)
        }
        Some(Report::Failed { message }) => {
            display.fail();
            end(&mut server)?;
            Err(Failure::new(message))
        }
        _ => {
            display.fail();
            Err(ended_early(cluster, &mut server))
        }
    }
}

/// Waits for the end of a server that has failed, and makes it end when it does not.
fn end(server: &mut Child) -> Result<(), Failure> {
    let since = time::monotonic();
    while server.try_wait().doing("wait for the server")?.is_none() {
        if since.elapsed() > END_TIMEOUT {
            server.kill().doing("end the server")?;
        }
        std::thread::sleep(SOCKETS_RETRY);
    }
    Ok(())
}

/// A session of its own: no terminal, no signals of ours.
fn spawn(cluster: &Cluster) -> Result<Child, Failure> {
    let own = std::env::current_exe().doing("find our own binary")?;
    cluster.make_data_dir()?;
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
fn follow(reports: ChildStdout, display: &mut Display, warnings: &mut Vec<String>) -> Option<Report> {
    for line in BufReader::new(reports).lines() {
        match serde_json::from_str(&line.ok()?).ok()? {
            Report::Stage { name } => display.stage(&name),
            Report::Waiting { what } => display.waiting(&what),
            Report::Warning { message } => warnings.push(message),
            last => return Some(last),
        }
    }
    None
}

/// What a person should know of a cluster that works.
fn warn(messages: &[String]) {
    messages.iter().for_each(|message| eprintln!("nauplius: {message}"));
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

/// Merges the cluster's context into the person's kubeconfig, and notes where it is, for the day it is taken out.
fn install_kubeconfig(cluster: &Cluster) -> Result<PathBuf, Failure> {
    let entry =
        kubeconfig::load(&cluster.admin_kubeconfig(), None).doing("read the administrator's kubeconfig")?;
    let path = std::path::absolute(kubeconfig_path()).doing("find your kubeconfig")?;
    note_kubeconfig(cluster, &path)?;
    warn_of_namesakes(&path, &entry)?;
    kubeconfig::merge(&path, &entry).doing("add the cluster to your kubeconfig")?;
    Ok(path)
}

/// A cluster of the same name that a person uses elsewhere is put aside, not lost.
fn warn_of_namesakes(path: &Path, entry: &kubeconfig::Entry) -> Result<(), Failure> {
    let name = &entry.name;
    if let Some(server) = kubeconfig::namesake(path, entry).doing("use your kubeconfig")? {
        eprintln!(
            "nauplius: {} had a cluster {name:?} at {server}: it is put aside there until `nauplius delete --name {name}`",
            path.display()
        );
    }
    for other in kubeconfig::listed_paths(std::env::var("KUBECONFIG").ok().as_deref()) {
        // What cannot be read here is kubectl's to complain about: nothing is written there.
        let Ok(Some(server)) = kubeconfig::namesake(&other, entry) else { continue };
        if std::path::absolute(&other).is_ok_and(|other| other != path) {
            eprintln!(
                "nauplius: {} has a cluster {name:?} at {server}, too: kubectl takes the one of the first file in $KUBECONFIG",
                other.display()
            );
        }
    }
    Ok(())
}

/// Every kubeconfig that the cluster's context was merged into.
///
/// # Errors
/// When the note cannot be read.
pub fn noted_kubeconfigs(cluster: &Cluster) -> Result<Vec<PathBuf>, Failure> {
    let note = cluster.kubeconfigs_file();
    match std::fs::read(&note) {
        Ok(bytes) => serde_json::from_slice(&bytes).doing(&format!("read {}", note.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::io("cannot read", &note, &error)),
    }
}

fn note_kubeconfig(cluster: &Cluster, path: &Path) -> Result<(), Failure> {
    let mut known = noted_kubeconfigs(cluster)?;
    if known.iter().any(|known| known == path) {
        return Ok(());
    }
    known.push(path.to_owned());
    let note = cluster.kubeconfigs_file();
    let text = serde_json::to_vec(&known).doing("note your kubeconfig")?;
    std::fs::write(&note, text).map_err(|error| Failure::io("cannot write", &note, &error))?;
    keepsake::keep(cluster, known)
}

fn print_next(cluster: &Cluster, kubeconfig: &Path) {
    println!("kubectl uses it now: context {:?} in {}. Try:\n", cluster.name, kubeconfig.display());
    println!("  kubectl get nodes");
    println!("  kubectl create deployment hello --image={} --replicas=3", crate::demo_image::REFERENCE);
    println!("  kubectl get pods -o wide --watch");
}
