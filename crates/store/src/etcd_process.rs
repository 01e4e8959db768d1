//! An etcd of one's own, for tests: started on loopback with free ports, gone with its owner.

use crate::StoreError;
use crate::etcd::{EtcdOptions, EtcdStore};
use nauplius_base::time::{monotonic, sleep};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = "etcd";
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running etcd with a directory of its own.
pub struct EtcdProcess {
    child: Option<Child>,
    directory: PathBuf,
    arguments: Vec<String>,
    client_url: String,
}

impl EtcdProcess {
    /// Starts one, with further arguments; `None`, and a line that says so, where etcd is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub async fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        if !is_installed() {
            println!("SKIP {test}: etcd is not installed");
            return None;
        }
        let process = Self::launch("http", arguments);
        process.wait().await;
        Some(process)
    }

    /// Starts a cluster of several; `None`, and a line that says so, where etcd is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub async fn cluster(test: &str, members: usize) -> Option<Vec<Self>> {
        if !is_installed() {
            println!("SKIP {test}: etcd is not installed");
            return None;
        }
        let ports = free_ports(2 * members);
        let peer = |member: usize| format!("http://127.0.0.1:{}", ports[2 * member + 1]);
        let all: Vec<String> = (0..members).map(|member| format!("m{member}={}", peer(member))).collect();
        let all = all.join(",");
        let started: Vec<Self> = (0..members)
            .map(|member| {
                let client = format!("http://127.0.0.1:{}", ports[2 * member]);
                Self::with(client, &peer(member), &format!("m{member}"), &all, &[])
            })
            .collect();
        for member in &started {
            member.wait().await;
        }
        Some(started)
    }

    /// Starts one that clients reach by `scheme`, and does not wait for it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn launch(scheme: &str, arguments: &[&str]) -> Self {
        let ports = free_ports(2);
        let peer = format!("http://127.0.0.1:{}", ports[1]);
        let client = format!("{scheme}://127.0.0.1:{}", ports[0]);
        Self::with(client, &peer, "default", &format!("default={peer}"), arguments)
    }

    fn with(client_url: String, peer_url: &str, name: &str, cluster: &str, arguments: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("nauplius-etcd-{}", nauplius_base::id::suffix(10)));
        let own = [
            ("--name", name),
            ("--data-dir", &directory.display().to_string()),
            ("--listen-client-urls", &client_url),
            ("--advertise-client-urls", &client_url),
            ("--listen-peer-urls", peer_url),
            ("--initial-advertise-peer-urls", peer_url),
            ("--initial-cluster", cluster),
            ("--logger", "zap"),
            ("--log-level", "error"),
        ]
        .map(|(flag, value)| [flag.to_owned(), value.to_owned()]);
        let arguments = own
            .into_iter()
            .flatten()
            .chain(arguments.iter().map(|argument| (*argument).to_owned()))
            .collect();
        let mut process = Self { child: None, directory, arguments, client_url };
        process.launch_again();
        process
    }

    /// Starts it again after [`Self::kill`], with the same state at the same place.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch_again(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("etcd is installed"));
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait(&self) {
        let start = monotonic();
        while let Err(error) = self.store("", "").await {
            assert!(start.elapsed() < START_TIMEOUT, "etcd does not answer: {error}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A store in it: keys that begin with `prefix` begin with `stored_prefix` in etcd.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn store(&self, prefix: &str, stored_prefix: &str) -> Result<EtcdStore, StoreError> {
        let mut options = EtcdOptions::new(vec![self.client_url.clone()]);
        options.prefix = prefix.to_owned().into();
        options.stored_prefix = stored_prefix.to_owned().into();
        EtcdStore::connect(options).await
    }

    /// Where clients reach it.
    #[must_use]
    pub fn client_url(&self) -> &str {
        &self.client_url
    }

    /// Where its state is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process, for signals.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it; its state stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error says that it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
        // What cannot be removed stays among temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Whether there is an etcd to start.
#[must_use]
pub fn is_installed() -> bool {
    let quiet = || Stdio::null();
    Command::new(PROGRAM).arg("--version").stdout(quiet()).stderr(quiet()).status().is_ok()
}

fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
    // All are held until the last is found, so that they differ.
    let listeners: Vec<_> = (0..count).map(bind).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("a bound port").port()).collect()
}
