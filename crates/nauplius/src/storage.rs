//! Which store a cluster has, and how it is opened: files in its data directory, or an etcd cluster.

use crate::cli::EtcdArgs;
use crate::cluster::Cluster;
use crate::failure::{Doing, Failure};
use nauplius_base::{errno, time};
use nauplius_store::backup::{self, Backup, Summary};
use nauplius_store::embedded::{CheckReport, EmbeddedStore, Options};
use nauplius_store::etcd::{EtcdOptions, EtcdStore};
use nauplius_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the API server's keys begin with.
const ROOT: &str = "/registry/";
/// How long etcd is waited for at first.
const ETCD_PATIENCE: Duration = Duration::from_secs(20);
/// How long one try to reach a member lasts before what keeps it is told.
const ETCD_TRY: Duration = Duration::from_millis(500);
/// How long a member that was reached may take to answer the first try; with each, it may take longer.
const ETCD_ANSWER: Duration = Duration::from_secs(3);

/// An etcd cluster that keeps a cluster's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    servers: Vec<String>,
    ca_file: Option<PathBuf>,
    certificate_and_key: Option<(PathBuf, PathBuf)>,
    prefix: String,
}

impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {} below {}", self.servers.join(","), self.prefix)
    }
}

impl Etcd {
    /// What the flags say; `None` when they name no servers.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn of(args: &EtcdArgs) -> Result<Option<Self>, Failure> {
        let EtcdArgs { etcd_servers, etcd_cafile, etcd_certfile, etcd_keyfile, etcd_prefix } = args;
        let others = [etcd_cafile, etcd_certfile, etcd_keyfile].iter().any(|file| file.is_some());
        if etcd_servers.is_empty() {
            return if others || etcd_prefix.is_some() {
                Err(Failure::new("the --etcd flags say how to reach etcd, so --etcd-servers must say where"))
            } else {
                Ok(None)
            };
        }
        let is_url = |server: &&String| server.starts_with("http://") || server.starts_with("https://");
        if let Some(bad) = etcd_servers.iter().find(|server| !is_url(server)) {
            return Err(Failure::new(format!(
                "--etcd-servers {bad:?} is no address: it begins with http:// or https://"
            )));
        }
        let certificate_and_key = match (etcd_certfile, etcd_keyfile) {
            (Some(certificate), Some(key)) => Some((absolute(certificate)?, absolute(key)?)),
            (None, None) => None,
            _ => return Err(Failure::new("--etcd-certfile and --etcd-keyfile belong together")),
        };
        let prefix = etcd_prefix.as_deref().unwrap_or(ROOT).trim_matches('/');
        Ok(Some(Self {
            servers: etcd_servers.clone(),
            ca_file: etcd_cafile.as_deref().map(absolute).transpose()?,
            certificate_and_key,
            prefix: format!("/{prefix}"),
        }))
    }

    /// Removes all that the cluster keeps there, and tells how many keys there were.
    ///
    /// # Errors
    /// When etcd does not answer or refuses.
    pub async fn remove_keys(&self) -> Result<u64, Failure> {
        let failed = |error: &dyn fmt::Display| {
            Failure::new(format!(
                "cannot remove the cluster's keys from {self}: {error}; without --etcd-keys they stay"
            ))
        };
        self.wait(tell).await.map_err(|error| failed(&error))?;
        let options = EtcdOptions { timeout: ETCD_PATIENCE, ..self.options() };
        let removed = async { EtcdStore::connect(options).await?.remove_all().await };
        removed.await.map_err(|error| failed(&reason(&error)))
    }

    /// Waits until a member answers, and says meanwhile why none does.
    async fn wait(&self, tell: impl Fn(&str)) -> Result<(), String> {
        self.options().check().map_err(|error| reason(&error))?;
        let (since, mut told) = (time::monotonic(), String::new());
        loop {
            let timeout = since.elapsed().max(ETCD_ANSWER);
            let options = EtcdOptions { patience: ETCD_TRY, timeout, ..self.options() };
            let Err(error) = EtcdStore::connect(options).await else { return Ok(()) };
            let reason = reason(&error);
            if !matches!(error, StoreError::Unavailable { .. } | StoreError::TimedOut { .. }) {
                return Err(reason);
            }
            if since.elapsed() >= ETCD_PATIENCE {
                return Err(format!("{reason} (tried for {} s)", since.elapsed().as_secs()));
            }
            if told != reason {
                tell(&format!("etcd at {}: {reason}", self.servers.join(",")));
                told = reason;
            }
        }
    }

    async fn connect(&self, tell: impl Fn(&str)) -> Result<EtcdStore, Failure> {
        let unusable = |reason: String| Failure::new(format!("cannot use {self}: {reason}"));
        self.wait(tell).await.map_err(unusable)?;
        EtcdStore::connect(self.options()).await.map_err(|error| unusable(reason(&error)))
    }

    /// How a person removes the keys that stay.
    pub fn removal(&self) -> String {
        let mut flags = format!("--endpoints={}", self.servers.join(","));
        let mut add = |flag: &str, file: &Path| flags.push_str(&format!(" --{flag}={}", file.display()));
        if let Some(file) = &self.ca_file {
            add("cacert", file);
        }
        if let Some((certificate, key)) = &self.certificate_and_key {
            add("cert", certificate);
            add("key", key);
        }
        format!("etcdctl {flags} del --prefix {}/", self.prefix.trim_end_matches('/'))
    }

    fn options(&self) -> EtcdOptions {
        let mut options = EtcdOptions::new(self.servers.clone());
        options.ca_file.clone_from(&self.ca_file);
        options.identity.clone_from(&self.certificate_and_key);
        options.prefix = ROOT.into();
        options.stored_prefix = format!("{}/", self.prefix.trim_end_matches('/')).into();
        options
    }
}

/// Why etcd cannot be used, without what is said around it anyway.
fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable { reason } => errno::plain(reason),
        StoreError::TimedOut { .. } => "no answer".to_owned(),
        other => other.to_string(),
    }
}

/// What a command waits for.
pub fn tell(what: &str) {
    eprintln!("nauplius: waiting for {what}");
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::io("cannot use", path, &error))
}

/// An open store. The embedded one is to be closed last.
#[derive(Clone)]
pub enum Opened {
    /// In the data directory.
    Embedded(EmbeddedStore),
    /// In etcd.
    Etcd(EtcdStore),
}

impl Opened {
    /// Opens the cluster's store. An etcd that does not answer at once is waited for, which `tell` is told.
    ///
    /// # Errors
    /// When another process has it open, its files are damaged, or etcd does not answer.
    pub async fn open(cluster: &Cluster, tell: impl Fn(&str)) -> Result<Self, Failure> {
        match &cluster.etcd {
            Some(etcd) => etcd.connect(tell).await.map(Self::Etcd),
            None => Self::open_files(cluster).await,
        }
    }

    async fn open_files(cluster: &Cluster) -> Result<Self, Failure> {
        let path = directory(cluster);
        match EmbeddedStore::open(&path, Options::default()).await {
            Ok(store) => Ok(Self::Embedded(store)),
            Err(error @ StoreError::Corrupt { .. }) => Err(damaged(cluster, &error)),
            Err(error) => Err(Failure::new(format!("cannot open the store in {}: {error}", path.display()))),
        }
    }

    /// The store, for the API server.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => Arc::new(store.clone()),
            Self::Etcd(store) => Arc::new(store.clone()),
        }
    }

    /// Waits until everything acknowledged is on disk and lets the files go.
    ///
    /// # Errors
    /// When the last write fails.
    pub async fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Embedded(store) => store.clone().close().await.doing("close the store"),
            Self::Etcd(_) => Ok(()),
        }
    }

    /// Writes a backup and says what it holds.
    ///
    /// # Errors
    /// When the store cannot be read or the file not be written.
    pub async fn backup(&self, file: &Path) -> Result<Vec<String>, Failure> {
        let written = backup::write(&*self.store(), file).await;
        let Summary { revision, keys } = written.doing(&format!("back up to {}", file.display()))?;
        Ok(vec![format!("{keys} keys at revision {revision} are in {}.", file.display())])
    }

    /// Verifies the store. The first line sums up; others say what is wrong.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn check(&self) -> Result<Vec<String>, Failure> {
        let report: CheckReport = match self {
            Self::Embedded(store) => store.check().await,
            Self::Etcd(store) => store.check().await,
        }
        .doing("check the store")?;
        let verdict = match report.problems.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        let head = format!("{} keys, {} changes: {verdict}.", report.keys, report.changes.max(report.keys));
        Ok(std::iter::once(head).chain(report.problems).collect())
    }
}

/// Replaces what the cluster's store holds, which nobody may have open.
///
/// # Errors
/// When the store cannot be written.
pub async fn restore(cluster: &Cluster, backup: Backup) -> Result<Summary, Failure> {
    let restored = match &cluster.etcd {
        None => EmbeddedStore::restore(&directory(cluster), Options::default(), backup).await,
        Some(etcd) => etcd.connect(tell).await?.restore(&backup).await,
    };
    restored.doing("restore the store")
}

/// What to do about a store whose data cannot be read.
pub fn damaged(cluster: &Cluster, error: &StoreError) -> Failure {
    let place = match &cluster.etcd {
        Some(etcd) => etcd.to_string(),
        None => directory(cluster).display().to_string(),
    };
    Failure::new(format!(
        "cannot use the state in {place}: {error}; `nauplius restore FILE --name {0}` puts a backup there, or begin anew after `nauplius delete --name {0}`",
        cluster.name
    ))
}

fn directory(cluster: &Cluster) -> PathBuf {
    cluster.data_dir.join("store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: EtcdArgs, expected: Result<Option<&str>, &str>) {
        let found = Etcd::of(&args).map(|etcd| etcd.map(|etcd| etcd.to_string()));
        let found = found.map_err(|failure| failure.to_string());
        match (&found, expected) {
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => assert_eq!(found, expected.map(|text| text.map(str::to_owned)).map_err(str::to_owned)),
        }
    }

    #[test]
    fn flags_become_settings() {
        let servers = |servers: &[&str]| EtcdArgs {
            etcd_servers: servers.iter().map(|server| (*server).to_owned()).collect(),
            ..EtcdArgs::default()
        };
        check(EtcdArgs::default(), Ok(None));
        check(
            servers(&["http://a:2379", "https://b"]),
            Ok(Some("etcd at http://a:2379,https://b below /registry")),
        );
        let prefix = Some("east/one/".to_owned());
        check(
            EtcdArgs { etcd_prefix: prefix, ..servers(&["http://a"]) },
            Ok(Some("etcd at http://a below /east/one")),
        );
        check(servers(&["a:2379"]), Err("begins with http"));
        check(EtcdArgs { etcd_keyfile: Some("k".into()), ..servers(&["https://a"]) }, Err("belong together"));
        check(
            EtcdArgs { etcd_cafile: Some("ca".into()), ..EtcdArgs::default() },
            Err("--etcd-servers must say where"),
        );
    }
}
