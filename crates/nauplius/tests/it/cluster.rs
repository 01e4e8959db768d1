//! A cluster of a test's own, from the built binary: up when it is made, deleted when it is dropped, also when the test failed.

use nauplius_base::time::monotonic;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The binary under test.
pub const NAUPLIUS: &str = env!("CARGO_BIN_EXE_nauplius");
/// How long anything may take on a machine that builds and tests at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Warnings about the machine, which no cluster can help.
const MACHINE_LACKS: &[&str] = &[];

/// One cluster.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// A directory of the test's own: home, kubeconfig.
    pub scratch: tempfile::TempDir,
}

impl Cluster {
    /// Brings a fresh one up.
    pub fn up() -> Self {
        let cluster = Self::named_only();
        cluster.run_ok(&["up"]);
        cluster
    }

    /// Brings one of this name up.
    pub fn up_as(name: &str) -> Self {
        let cluster = Self { name: name.to_owned(), scratch: tempfile::tempdir().unwrap() };
        cluster.run_ok(&["up"]);
        cluster
    }

    /// Only a name and a directory of the test's own.
    pub fn named_only() -> Self {
        Self { name: format!("t-{}", nauplius_base::id::suffix(5)), scratch: tempfile::tempdir().unwrap() }
    }

    /// The kubeconfig that `up` has merged the context into.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch.path().join("kubeconfig")
    }

    /// A command of ours on this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(NAUPLIUS);
        command.args(arguments).args(["--name", &self.name]);
        command.env("HOME", self.scratch.path()).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs a command of ours on this cluster.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command of ours that must succeed.
    pub fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "nauplius {arguments:?} failed:\n{out}\n{error}\n{}",
            self.log_tail()
        );
        out.into_owned()
    }

    /// The end of the server's log, for failures.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.data_dir().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// A cluster that is well has nothing to warn of; what the machine lacks is told once, at the start.
    pub fn log_is_calm(&self) {
        let log = std::fs::read_to_string(self.data_dir().join("server.log")).unwrap();
        let loud = |line: &&str| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
        let known = |line: &&str| MACHINE_LACKS.iter().any(|known| line.contains(known));
        let loud: Vec<&str> = log.lines().filter(loud).filter(|line| !known(line)).collect();
        assert!(loud.is_empty(), "the log of a healthy cluster warns:\n{}", loud.join("\n"));
    }

    /// Where its state is.
    pub fn data_dir(&self) -> PathBuf {
        Path::new("/var/lib/nauplius").join(&self.name)
    }

    /// `nauplius status --json`
    pub fn status(&self) -> serde_json::Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Kills the server as hard as can be; its containers run on.
    pub fn kill_server(&self) {
        // SAFETY: a signal to a process of our own.
        assert_eq!(unsafe { libc::kill(self.server_pid(), libc::SIGKILL) }, 0);
        // It answers no more before it has let go of its lock.
        eventually("the server's end", || {
            let told = self.run(&["status"]).stderr;
            String::from_utf8_lossy(&told).contains(" is down").then_some(())
        });
    }

    /// The server's process.
    pub fn server_pid(&self) -> i32 {
        let pid = self.status()["pid"].as_i64().unwrap_or_else(|| panic!("no server:\n{}", self.log_tail()));
        i32::try_from(pid).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.run(&["delete"]);
        if !output.status.success() {
            eprintln!("could not delete {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Looks until `condition` gives something; there is no event to wait for outside the cluster.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = monotonic() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(monotonic() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
