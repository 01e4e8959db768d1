//! What a cluster on this machine is: its name, directories, ranges and ports. The machine's list of clusters keeps their
//! ranges apart; a cluster keeps what it was given for life.

use crate::cli::{ClusterArgs, NewClusterArgs};
use crate::failure::Failure;
use crate::machine;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where clusters live unless they are told otherwise, and where the machine's list of them is.
const ROOT: &str = "/var/lib/nauplius";
const LIST: &str = "clusters.json";
const LOCK: &str = ".lock";
const FIRST_PORT: u16 = 6443;
const FIRST_KUBELET_PORT: u16 = 10250;
/// Links carry the name and a suffix within the kernel's 15 characters.
const NAME_MAX: usize = 10;

/// One cluster's fixed facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Where its state is.
    pub data_dir: PathBuf,
    /// Port of the API server.
    pub port: u16,
    /// Port of the kubelet.
    pub kubelet_port: u16,
    /// Range of service addresses.
    pub service_cidr: Ipv4Net,
    /// Range of pod addresses, of which each node gets a part.
    pub pod_cidr: Ipv4Net,
    /// The node's name.
    pub node_name: String,
    /// The node's address, where one was given; else it is looked up at each start.
    pub node_ip: Option<Ipv4Addr>,
}

impl Cluster {
    /// The first address of the service range: the `kubernetes` service.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        nth(&self.service_cidr, 1)
    }

    /// The tenth: cluster DNS.
    pub fn dns_service_ip(&self) -> Ipv4Addr {
        nth(&self.service_cidr, 10)
    }

    /// Where sockets and locks are: gone with a reboot, as they should be.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/nauplius").join(&self.name)
    }

    /// The socket that `status`, `down` and `image` speak to.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// The log of a server that `up` started.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    /// The kubeconfig of the cluster's administrator.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }
}

/// The `n`th address of a range.
pub fn nth(range: &Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()).wrapping_add(n))
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Machine {
    clusters: BTreeMap<String, Cluster>,
}

/// The machine's list of clusters, locked while it is held.
pub struct MachineList {
    root: PathBuf,
    machine: Machine,
    /// Whether no program of this machine listens on a port.
    is_free: fn(u16) -> bool,
    _lock: std::fs::File,
}

impl MachineList {
    /// Locks and reads the list.
    ///
    /// # Errors
    /// When the directory cannot be made or the list is damaged.
    pub fn open() -> Result<Self, Failure> {
        Self::open_at(Path::new(ROOT), |port| machine::check_port(port).is_ok())
    }

    fn open_at(root: &Path, is_free: fn(u16) -> bool) -> Result<Self, Failure> {
        let lock = lock(root)?;
        let path = root.join(LIST);
        let machine = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::new(format!("{} is damaged: {error}", path.display())))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Machine::default(),
            Err(error) => return Err(Failure::io("cannot read", &path, &error)),
        };
        Ok(Self { root: root.to_owned(), machine, is_free, _lock: lock })
    }

    /// The cluster of that name, if it exists.
    pub fn get(&self, name: &str) -> Option<&Cluster> {
        self.machine.clusters.get(name)
    }

    /// The cluster that `args` names, made if it does not exist yet.
    ///
    /// # Errors
    /// When the name or a range cannot be used, or `new` contradicts what the cluster has.
    pub fn get_or_make(&mut self, args: &ClusterArgs, new: &NewClusterArgs) -> Result<Cluster, Failure> {
        check_name(&args.name)?;
        if let Some(known) = self.machine.clusters.get(&args.name) {
            check_unchanged(known, args, new)?;
            return Ok(known.clone());
        }
        let cluster = self.make(args, new)?;
        self.machine.clusters.insert(args.name.clone(), cluster.clone());
        self.save()?;
        Ok(cluster)
    }

    fn make(&self, args: &ClusterArgs, new: &NewClusterArgs) -> Result<Cluster, Failure> {
        let others: Vec<&Cluster> = self.machine.clusters.values().collect();
        let services: Vec<Ipv4Net> = others.iter().map(|other| other.service_cidr).collect();
        let pods: Vec<Ipv4Net> = others.iter().map(|other| other.pod_cidr).collect();
        let taken: Vec<Ipv4Net> = services.iter().chain(&pods).copied().collect();
        let service_cidr =
            pick_range(new.service_cidr, Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12), &taken)?;
        let pod_cidr =
            pick_range(new.pod_cidr, Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16), &taken)?;
        if service_cidr.prefix_len() > 27 || pod_cidr.prefix_len() > 24 {
            return Err(Failure::new("a service range must be /27 or larger, and a pod range /24 or larger"));
        }
        let next_port = (FIRST_PORT..).find(|port| others.iter().all(|other| other.port != *port));
        Ok(Cluster {
            name: args.name.clone(),
            data_dir: args.data_dir.clone().unwrap_or_else(|| self.root.join(&args.name)),
            port: new.port.or(next_port).unwrap_or(FIRST_PORT),
            kubelet_port: (FIRST_KUBELET_PORT..)
                .find(|port| others.iter().all(|other| other.kubelet_port != *port) && (self.is_free)(*port))
                .unwrap_or(FIRST_KUBELET_PORT),
            service_cidr,
            pod_cidr,
            node_name: new.node_name.clone().map_or_else(host_name, Ok)?,
            node_ip: new.node_ip,
        })
    }

    /// Takes a cluster off the list; an empty list leaves no file behind.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.machine.clusters.remove(name);
        if !self.machine.clusters.is_empty() {
            return self.save();
        }
        for file in [LIST, LOCK] {
            remove_file(&self.root.join(file))?;
        }
        // Others may keep files of their own there: then the directory stays.
        let _ = std::fs::remove_dir(&self.root);
        Ok(())
    }

    fn save(&self) -> Result<(), Failure> {
        let path = self.root.join(LIST);
        let text = serde_json::to_vec_pretty(&self.machine)
            .map_err(|error| Failure::new(format!("cannot encode the list of clusters: {error}")))?;
        let temporary = self.root.join(".clusters.json.new");
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|error| Failure::io("cannot write", &path, &error))
    }
}

/// The lock on the list. Whoever removes the last cluster removes the lock's file, too: one that was waited for meanwhile guards
/// nothing any more.
fn lock(root: &Path) -> Result<std::fs::File, Failure> {
    let path = root.join(LOCK);
    loop {
        std::fs::create_dir_all(root).map_err(|error| Failure::io("cannot make", root, &error))?;
        let lock = match std::fs::File::create(&path) {
            // The directory was removed between the two calls.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|error| Failure::io("cannot open", &path, &error))?,
        };
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| Failure::io("cannot lock", &path, &error.into()))?;
        if is_at(&lock, &path)? {
            return Ok(lock);
        }
    }
}

/// Whether the open file is still the one at `path`.
fn is_at(file: &std::fs::File, path: &Path) -> Result<bool, Failure> {
    let failed = |error| Failure::io("cannot look at", path, &error);
    let open = file.metadata().map_err(failed)?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Removes a file that may be gone already.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("cannot remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with('-');
    if name.len() <= NAME_MAX && edges && name.bytes().all(good) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name:?} cannot name a cluster: use at most {NAME_MAX} lower-case letters, digits and '-', a letter first"
    )))
}

fn check_unchanged(known: &Cluster, args: &ClusterArgs, new: &NewClusterArgs) -> Result<(), Failure> {
    let contradiction = |what: &str, has: &dyn std::fmt::Display| {
        Err(Failure::new(format!(
            "cluster {} exists with {what} {has}; `nauplius delete --name {}` first to change it",
            known.name, known.name
        )))
    };
    if args.data_dir.as_ref().is_some_and(|wanted| *wanted != known.data_dir) {
        return contradiction("data directory", &known.data_dir.display());
    }
    if new.port.is_some_and(|wanted| wanted != known.port) {
        return contradiction("port", &known.port);
    }
    if new.service_cidr.is_some_and(|wanted| wanted != known.service_cidr) {
        return contradiction("service range", &known.service_cidr);
    }
    if new.pod_cidr.is_some_and(|wanted| wanted != known.pod_cidr) {
        return contradiction("pod range", &known.pod_cidr);
    }
    if new.node_name.as_ref().is_some_and(|wanted| *wanted != known.node_name) {
        return contradiction("node name", &known.node_name);
    }
    Ok(())
}

/// What was asked for if it is free, else the first free one of that size from `first` on.
fn pick_range(wanted: Option<Ipv4Net>, first: Ipv4Net, taken: &[Ipv4Net]) -> Result<Ipv4Net, Failure> {
    let overlaps = |range: &Ipv4Net| taken.iter().find(|other| overlap(range, other)).copied();
    if let Some(wanted) = wanted {
        let wanted = wanted.trunc();
        return match overlaps(&wanted) {
            Some(other) => {
                Err(Failure::new(format!("range {wanted} overlaps {other} of another cluster here")))
            }
            None => Ok(wanted),
        };
    }
    let size = 1_u64 << (32 - first.prefix_len());
    let candidates = (0..u64::from(u32::MAX) / size).map_while(|step| {
        let network = u64::from(u32::from(first.network())) + step * size;
        let network = u32::try_from(network).ok().filter(|network| network >> 24 == 10)?;
        Ipv4Net::new(Ipv4Addr::from(network), first.prefix_len()).ok()
    });
    let mut free = candidates.filter(|range| overlaps(range).is_none());
    free.next()
        .ok_or_else(|| Failure::new(format!("no free range of the size of {first} is left in 10.0.0.0/8")))
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn host_name() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let good =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if good {
        Ok(name)
    } else {
        Err(Failure::new(format!("the host's name {name:?} cannot name a node: give --node-name")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str) -> ClusterArgs {
        ClusterArgs { name: name.to_owned(), data_dir: None }
    }

    #[test]
    fn clusters_get_ranges_and_ports_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        let mut list = MachineList::open_at(root.path(), |_| true).unwrap();
        let new = NewClusterArgs { node_name: Some("n".to_owned()), ..NewClusterArgs::default() };
        let one = list.get_or_make(&args("one"), &new).unwrap();
        let two = list.get_or_make(&args("two"), &new).unwrap();
        assert_eq!((one.port, one.kubelet_port), (6443, 10250));
        assert_eq!(one.service_cidr.to_string(), "10.96.0.0/12");
        assert_eq!(one.dns_service_ip().to_string(), "10.96.0.10");
        assert_eq!(two.service_cidr.to_string(), "10.112.0.0/12");
        assert_eq!(two.pod_cidr.to_string(), "10.245.0.0/16");
        assert_eq!((two.port, two.kubelet_port), (6444, 10251));
        list.is_free = |port| port != 10252;
        assert_eq!(list.get_or_make(&args("three"), &new).unwrap().kubelet_port, 10253);
        list.remove("three").unwrap();
        assert_eq!(list.get_or_make(&args("one"), &NewClusterArgs::default()).unwrap(), one);
        list.remove("one").unwrap();
        list.remove("two").unwrap();
        assert!(!root.path().join(LIST).exists());
    }

    #[test]
    fn the_list_stays_whole_when_clusters_come_and_go_at_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("list");
        let come_and_go = |name: &str| {
            let new = NewClusterArgs { node_name: Some("n".to_owned()), ..NewClusterArgs::default() };
            for _ in 0..200 {
                MachineList::open_at(&path, |_| true).unwrap().get_or_make(&args(name), &new).unwrap();
                assert!(MachineList::open_at(&path, |_| true).unwrap().get(name).is_some(), "{name} is lost");
                MachineList::open_at(&path, |_| true).unwrap().remove(name).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for name in ["one", "two", "three"] {
                scope.spawn(move || come_and_go(name));
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn refuses_what_cannot_be() {
        let root = tempfile::tempdir().unwrap();
        let mut list = MachineList::open_at(root.path(), |_| true).unwrap();
        for name in ["", "Upper", "a-name-too-long", "-x", "x-"] {
            assert!(list.get_or_make(&args(name), &NewClusterArgs::default()).is_err(), "{name}");
        }
        let new = NewClusterArgs { node_name: Some("n".to_owned()), ..NewClusterArgs::default() };
        list.get_or_make(&args("one"), &new).unwrap();
        let other_port = NewClusterArgs { port: Some(7443), ..NewClusterArgs::default() };
        let refusal = list.get_or_make(&args("one"), &other_port).unwrap_err().to_string();
        assert!(refusal.contains("exists with port 6443"), "{refusal}");
        let overlapping = NewClusterArgs { service_cidr: "10.100.0.0/16".parse().ok(), ..new };
        let refusal = list.get_or_make(&args("two"), &overlapping).unwrap_err().to_string();
        assert!(refusal.contains("overlaps 10.96.0.0/12"), "{refusal}");
    }
}
