//! Stock kubectl, as it lies on the machine, each version with a home of its own.

use crate::cluster::Cluster;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// One version of kubectl on one cluster.
pub struct Kubectl<'a> {
    program: PathBuf,
    cluster: &'a Cluster,
    home: PathBuf,
}

/// The kubectl of this version, or else a note that the test is skipped without it.
pub fn find<'a>(test: &str, version: &str, cluster: &'a Cluster) -> Option<Kubectl<'a>> {
    let found = installed(version, cluster);
    if found.is_none() {
        println!("SKIP {test}: kubectl.{version} is not on this machine");
    }
    found
}

/// The kubectl of this version, if the machine has it.
pub fn installed<'a>(version: &str, cluster: &'a Cluster) -> Option<Kubectl<'a>> {
    let name = format!("kubectl.{version}");
    let program = locate(&name)?;
    let home = cluster.scratch.path().join(&name);
    std::fs::create_dir_all(&home).unwrap();
    Some(Kubectl { program, cluster, home })
}

/// Any kubectl.
pub fn any<'a>(test: &str, cluster: &'a Cluster) -> Option<Kubectl<'a>> {
    find(test, "1.33", cluster)
}

/// In the path, or beside the file that `kubectl` links to.
fn locate(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let linked = directories
        .iter()
        .filter_map(|directory| std::fs::canonicalize(directory.join("kubectl")).ok())
        .next();
    directories.extend(linked.and_then(|file| file.parent().map(PathBuf::from)));
    directories.into_iter().map(|directory| directory.join(name)).find(|program| program.is_file())
}

impl Kubectl<'_> {
    /// A command ready to run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        command.env("HOME", &self.home).env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    /// Runs it.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it; it must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed:\n{out}\n{error}\n{}",
            self.cluster.log_tail()
        );
        out.into_owned()
    }
}
