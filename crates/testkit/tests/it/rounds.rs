//! Concurrent clients of a server that is killed at any point, or whose store fails now and then: what they did and saw is a good
//! history. `NAUPLIUS_HISTORY_ROUNDS` makes it a long run, and `NAUPLIUS_HISTORY_SEED` replays the choices of one round.

use nauplius_apiserver::{ApiServer, UserInfo};
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_base::time::{self, sleep, timeout};
use nauplius_client::transport::Transport;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_store::etcd::{EtcdOptions, EtcdStore};
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::faults::{Disk, Plan};
use nauplius_store::{Store, WatchMessage, WatchRequest};
use nauplius_testkit::chance::Chance;
use nauplius_testkit::check::violations;
use nauplius_testkit::clients::{Connect, Door, Manner, Ticks, watch, work};
use nauplius_testkit::faults::{Faults, Faulty};
use nauplius_testkit::history::{Change, Event, History, Outcome, Segment};
use nauplius_testkit::solo::{Solo, connect, kubeconfig_in};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;

const DIRECTORY: &str = "NAUPLIUS_HISTORY_CHILD";
const ROUNDS: &str = "NAUPLIUS_HISTORY_ROUNDS";
const SEED: &str = "NAUPLIUS_HISTORY_SEED";
/// Rounds of each test in CI; each has several kills or many faults.
const CI_ROUNDS: u64 = 5;
const KILLS: u64 = 4;
/// How often the power of a disk goes in a round.
const LIVES: u64 = 3;
/// How often an etcd is killed in a round.
const ETCD_KILLS: u64 = 2;
const WRITERS: usize = 5;
/// Watchers beside those few in every other round: so many are woken at a pace and sent the same bytes.
const CROWD: usize = 16;
const PREFIX: &str = "/registry/configmaps/default/k";
/// How long anything may take that does not hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// Not a test of its own: the server that [`a_server_that_is_killed_loses_nothing`] kills.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = Path::new(&directory);
        let store = EmbeddedStore::open(&directory.join("store"), Options::default()).await.unwrap();
        let _solo = Solo::start(directory, Arc::new(store), 0).await.unwrap();
        println!("\nREADY");
        std::future::pending::<()>().await;
    });
}

struct Server(Child);

impl Server {
    /// Starts a server and waits until it answers.
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "rounds::child", "--nocapture"]).env(DIRECTORY, directory);
        let mut child = Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let output = BufReader::new(child.0.stdout.take().unwrap());
        let ready = output.lines().map_while(Result::ok).any(|line| line == "READY");
        assert!(ready, "the server did not start");
        child
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The clients of one round.
struct Clients {
    servers: latest::Sender<Option<Connect>>,
    stop: CancellationToken,
    end: latest::Sender<Option<i64>>,
    writers: Vec<JoinHandle<History>>,
    watchers: Vec<JoinHandle<History>>,
}

impl Clients {
    fn start(connect: Connect, chance: &mut Chance) -> Self {
        let (servers, door) = latest::channel(Some(connect));
        let (end, ended) = latest::channel(None);
        let (stop, ticks) = (CancellationToken::new(), Ticks::default());
        let writers = (0..WRITERS).map(|writer| {
            let door = Door::new(door.clone());
            let working = work(format!("w{writer}"), door, ticks.clone(), chance.fork(), stop.clone());
            spawn("history writer", working)
        });
        let writers = writers.collect();
        let manners = [Manner::Steady, Manner::Slow, Manner::Vanishing, Manner::Vanishing];
        let crowd = if chance.permille(500) { CROWD } else { 0 };
        let manners = manners.into_iter().chain(std::iter::repeat_n(Manner::Steady, crowd));
        let watchers = manners.enumerate().map(|(number, manner)| {
            let door = Door::new(door.clone());
            let name = format!("{manner:?}-{number}");
            let watching = watch(name, manner, door, ticks.clone(), chance.fork(), ended.clone());
            spawn("history watcher", watching)
        });
        Self { servers, stop, end, writers, watchers: watchers.collect() }
    }

    /// Lets everyone finish, and returns what they recorded. The watchers must see the last write that was acknowledged.
    async fn finish(self) -> History {
        self.stop.cancel();
        let mut history = History::default();
        for writer in self.writers {
            history.merge(timeout(PATIENCE, writer).await.expect("a writer hangs").unwrap());
        }
        let written = history.operations.iter().filter_map(|operation| match operation.outcome {
            Outcome::Written(revision) => Some(revision),
            _ => None,
        });
        self.end.send_replace(Some(written.max().unwrap_or(0)));
        for watcher in self.watchers {
            history.merge(
                timeout(PATIENCE, watcher).await.expect("a watcher never saw the last write").unwrap(),
            );
        }
        history
    }
}

/// Everything that the store says happened: judged like a watch that saw it all.
async fn log(store: &dyn Store) -> Segment {
    let newest = store.revision().await.unwrap().0;
    let from = Some(nauplius_store::Revision(1));
    let mut stream = store.watch(WatchRequest::prefix(PREFIX.as_bytes(), from)).await.unwrap();
    stream.progress().request();
    let mut segment = Segment { watcher: "store".to_owned(), from: 0, through: newest, events: Vec::new() };
    loop {
        match timeout(PATIENCE, stream.next()).await.expect("the store's log ends").unwrap() {
            WatchMessage::Events { events, .. } => segment.events.extend(events.iter().map(event)),
            WatchMessage::Progress { revision } if revision.0 >= newest => return segment,
            WatchMessage::Progress { .. } => {}
        }
    }
}

fn event(event: &nauplius_store::Event) -> Event {
    let key = String::from_utf8_lossy(event.key()).rsplit_once('/').unwrap().1.to_owned();
    let (stored, change) = match event {
        nauplius_store::Event::Put { kv, previous: None } => (kv, Change::Added),
        nauplius_store::Event::Put { kv, previous: Some(_) } => (kv, Change::Modified),
        nauplius_store::Event::Delete { previous, .. } => (previous.as_ref().unwrap(), Change::Deleted),
    };
    let object: Value = serde_json::from_slice(&stored.value).unwrap();
    let value = object["data"]["value"].as_str().unwrap().to_owned();
    Event { revision: event.revision().0, key, change, value }
}

/// Runs as many rounds as are wanted, each from a seed of its own.
async fn rounds<F: Future<Output = History>>(round: impl Fn(Chance) -> F) {
    let wanted = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = wanted(SEED).unwrap_or_else(nauplius_base::id::random_u64);
    let count = wanted(ROUNDS).unwrap_or(if wanted(SEED).is_some() { 1 } else { CI_ROUNDS });
    let (mut operations, mut events) = (0, 0);
    for seed in (0..count).map(|number| first.wrapping_add(number)) {
        println!("seed {seed}");
        let history = round(Chance::new(seed)).await;
        let wrong = violations(&history);
        assert!(wrong.is_empty(), "replay with {SEED}={seed}:\n{wrong:#?}");
        operations += history.operations.len();
        events += history.watches.iter().map(|watch| watch.events.len()).sum::<usize>();
    }
    assert!(operations > 0 && events > 0, "nothing was recorded");
    println!("{operations} operations and {events} events in {count} rounds");
}

fn over_tls(directory: &Path) -> Connect {
    let kubeconfig = kubeconfig_in(directory);
    Arc::new(move || Arc::new(connect(&kubeconfig).unwrap()) as Arc<dyn Transport>)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing() {
    rounds(|mut chance| async move {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().to_owned();
        let start = || {
            let directory = directory.clone();
            async move { tokio::task::spawn_blocking(move || Server::start(&directory)).await.unwrap() }
        };
        let mut server = start().await;
        let clients = Clients::start(over_tls(&directory), &mut chance);
        for _ in 0..KILLS {
            sleep(Duration::from_millis(20 + chance.below(400))).await;
            clients.servers.send_replace(None);
            server.kill();
            server = start().await;
            clients.servers.send_replace(Some(over_tls(&directory)));
        }
        sleep(Duration::from_millis(200)).await;
        let mut history = clients.finish().await;
        server.kill();
        let store = EmbeddedStore::open(&directory.join("store"), Options::default()).await.unwrap();
        history.watches.push(log(&store).await);
        let report = store.check().await.unwrap();
        assert!(report.is_ok(), "{report:?}");
        store.close().await.unwrap();
        history
    })
    .await;
}

/// Connections in process, to one server after the other.
fn in_turn(servers: Vec<Arc<ApiServer>>) -> Connect {
    let turn = AtomicUsize::new(0);
    Arc::new(move || {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        servers[turn % servers.len()].transport(UserInfo::authenticated("admin", &["system:masters"]))
    })
}

/// Makes the clock jump, and sets it right again, also when the test failed.
struct Jumps;

impl Jumps {
    /// By up to a day forth or back.
    fn jump(&self, chance: &mut Chance) {
        let hours = i64::try_from(chance.below(48)).unwrap() - 24;
        time::set_wall_offset_ms(hours * 3_600_000);
    }
}

impl Drop for Jumps {
    fn drop(&mut self) {
        time::set_wall_offset_ms(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_and_a_clock_that_jumps_lose_nothing() {
    let jumps = Jumps;
    let jumps = &jumps;
    rounds(|mut chance| async move {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("store");
        let store = EmbeddedStore::open(&path, Options::default()).await.unwrap();
        // The first start must be possible; what comes then fails.
        drop(Solo::start(scratch.path(), Arc::new(store.clone()), 0).await.unwrap());
        let faults = Faults { before: 0, after: 0, watch: 20 };
        let quiet = Faulty::new(store.clone(), faults, chance.fork());
        let solo = Solo::start(scratch.path(), Arc::new(quiet), 0).await.unwrap();
        let faults = Faults { before: 30, after: 30, watch: 20 };
        let failing = Faulty::new(store.clone(), faults, chance.fork());
        let other = Solo::configured(scratch.path(), Arc::new(failing), 0, |config| config.bootstrap = None);
        let other = other.await.unwrap();
        // Two servers over one store: one whose watch breaks, one whose writes fail, too.
        let servers = [Arc::clone(&solo.server), Arc::clone(&other.server)];
        let clients = Clients::start(in_turn(servers.to_vec()), &mut chance);
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            jumps.jump(&mut chance);
        }
        let mut history = clients.finish().await;
        history.watches.push(log(&store).await);
        history
    })
    .await;
}

/// One thing that goes wrong with a disk, soon.
fn trouble(chance: &mut Chance, disk: &Disk) -> Plan {
    let at = 1 + chance.below(150);
    match chance.below(4) {
        0 => Plan { fail_write: Some(at), ..Plan::default() },
        1 => Plan { fail_sync: Some(1 + at / 4), ..Plan::default() },
        2 => Plan { power_cut: Some(at), ..Plan::default() },
        _ => Plan { capacity: Some(disk.bytes() + 500 * usize::try_from(at).unwrap()), ..Plan::default() },
    }
}

async fn open(disk: &Disk, path: &Path) -> EmbeddedStore {
    // Checkpoints are made often, so that trouble meets them, too.
    let options = Options { vfs: Some(disk.vfs()), checkpoint_pages: 30, ..Options::default() };
    EmbeddedStore::open(path, options).await.unwrap()
}

/// A server lives on a disk until something has gone wrong there, and then the power goes: what was not synced is kept, lost or torn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_and_tears_and_fills_up_loses_nothing() {
    let jumps = Jumps;
    let jumps = &jumps;
    rounds(|mut chance| async move {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("store");
        let disk = Disk::new(chance.below(u64::MAX));
        let mut store = open(&disk, &path).await;
        let mut solo = Solo::start(scratch.path(), Arc::new(store.clone()), 0).await.unwrap();
        let clients = Clients::start(in_turn(vec![Arc::clone(&solo.server)]), &mut chance);
        for _ in 0..LIVES {
            sleep(Duration::from_millis(50 + chance.below(150))).await;
            disk.plan(trouble(&mut chance, &disk));
            sleep(Duration::from_millis(100 + chance.below(200))).await;
            if !disk.is_off() {
                // A full disk has room again, and what failed once works again.
                disk.plan(Plan::default());
                sleep(Duration::from_millis(chance.below(150))).await;
                disk.plan(Plan { power_cut: Some(1 + chance.below(20)), ..Plan::default() });
                sleep(Duration::from_millis(50)).await;
            }
            jumps.jump(&mut chance);
            clients.servers.send_replace(None);
            drop(solo);
            disk.plan(Plan { power_cut: Some(1), ..Plan::default() });
            // It has nothing to write to any more.
            let _ = store.close().await;
            disk.power_cycle();
            store = open(&disk, &path).await;
            let report = store.check().await.unwrap();
            assert!(report.is_ok(), "{report:?}");
            solo = Solo::start(scratch.path(), Arc::new(store.clone()), 0).await.unwrap();
            clients.servers.send_replace(Some(in_turn(vec![Arc::clone(&solo.server)])));
        }
        sleep(Duration::from_millis(200)).await;
        let mut history = clients.finish().await;
        history.watches.push(log(&store).await);
        history
    })
    .await;
}

/// Two servers on one etcd, whose watches break now and then, and which is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_killed_loses_nothing() {
    let Some(etcd) = EtcdProcess::start("an_etcd_that_is_killed", &[]).await else { return };
    let (url, etcd) = (etcd.client_url().to_owned(), Arc::new(Mutex::new(etcd)));
    let jumps = Jumps;
    let jumps = &jumps;
    rounds(|mut chance| {
        let (etcd, mut options) = (Arc::clone(&etcd), EtcdOptions::new(vec![url.clone()]));
        async move {
            let scratch = tempfile::tempdir().unwrap();
            options.prefix = "/registry/".into();
            options.stored_prefix = format!("/round-{}/", nauplius_base::id::suffix(10)).into();
            let connect = || EtcdStore::connect(options.clone());
            let faults = Faults { before: 0, after: 0, watch: 20 };
            let one = Faulty::new(connect().await.unwrap(), faults, chance.fork());
            let one = Solo::start(scratch.path(), Arc::new(one), 0).await.unwrap();
            let faults = Faults { before: 30, after: 30, watch: 20 };
            let other = Faulty::new(connect().await.unwrap(), faults, chance.fork());
            let other =
                Solo::configured(scratch.path(), Arc::new(other), 0, |config| config.bootstrap = None);
            let other = other.await.unwrap();
            let servers = vec![Arc::clone(&one.server), Arc::clone(&other.server)];
            let clients = Clients::start(in_turn(servers), &mut chance);
            for _ in 0..ETCD_KILLS {
                sleep(Duration::from_millis(200 + chance.below(500))).await;
                etcd.lock().unwrap().kill();
                jumps.jump(&mut chance);
                sleep(Duration::from_millis(chance.below(300))).await;
                etcd.lock().unwrap().launch_again();
                timeout(PATIENCE, async { while connect().await.is_err() {} }).await.expect("etcd answers");
            }
            sleep(Duration::from_millis(300)).await;
            let mut history = clients.finish().await;
            history.watches.push(log(&connect().await.unwrap()).await);
            history
        }
    })
    .await;
}
