//! What a cluster on this machine is: its name, directories, ranges and ports. The machine's list of clusters keeps their
//! ranges apart; a cluster keeps what it was given for life.

use crate::cli::{ClusterArgs, NewClusterArgs};
use crate::eviction::Eviction;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::node_ports::NodePorts;
use crate::storage::Etcd;
use crate::{keepsake, machine};
use ipnet::Ipv4Net;
use nauplius_meta::names;
use nauplius_pki::LeafRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where clusters live unless they are told otherwise, and where the machine's list of them is.
const ROOT: &str = "/var/lib/nauplius";
const LIST: &str = "clusters.json";
const LOCK: &str = ".lock";
/// Where sockets and locks are: gone with a reboot, as they should be.
const RUN: &str = "/run/nauplius";
/// The cgroup that those of clusters are in.
pub const CGROUP: &str = "nauplius";
/// Who signs service account tokens unless told otherwise: the name of the API server inside the cluster.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
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
    /// Directories that are made for it, `data_dir` and those above that were not there, the innermost first. They go with it.
    #[serde(default)]
    pub made_dirs: Vec<PathBuf>,
    /// Port of the API server.
    pub port: u16,
    /// Port of the kubelet.
    pub kubelet_port: u16,
    /// Range of service addresses.
    pub service_cidr: Ipv4Net,
    /// Range of pod addresses, of which each node gets a part.
    pub pod_cidr: Ipv4Net,
    /// Ports for services of type NodePort.
    #[serde(default)]
    pub node_ports: NodePorts,
    /// The node's name.
    pub node_name: String,
    /// The node's address, where one was given; else it is looked up at each start.
    pub node_ip: Option<Ipv4Addr>,
    /// Who signs service account tokens: the first; the others' are accepted, too. Empty: [`ISSUER`].
    #[serde(default)]
    pub service_account_issuers: Vec<String>,
    /// Where outsiders find the keys of these tokens; else at the API server's own address.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// Which versions of the API are served besides the stable ones, as `--runtime-config` says it.
    #[serde(default)]
    pub runtime_config: String,
    /// How long certificates live, where it is not a year.
    #[serde(default)]
    pub certificate_lifetime_s: Option<u64>,
    /// The etcd that keeps its state, if that is not in `data_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    /// From when on its node is short of something, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction: Option<Eviction>,
}

impl Cluster {
    /// Who signs service account tokens, first, and whose are accepted, too.
    pub fn issuers(&self) -> Vec<String> {
        match self.service_account_issuers.as_slice() {
            [] => vec![ISSUER.to_owned()],
            given => given.to_vec(),
        }
    }

    /// The request with this cluster's lifetime.
    pub fn with_lifetime(&self, request: LeafRequest) -> LeafRequest {
        match self.certificate_lifetime_s {
            Some(seconds) => LeafRequest { lifetime: Duration::from_secs(seconds), ..request },
            None => request,
        }
    }

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
        run_dir(&self.name)
    }

    /// The socket that `status`, `down` and `image` speak to.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Makes the directory of its state, which only its owner may enter: secrets, keys and tokens are in it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn make_data_dir(&self) -> Result<(), Failure> {
        let path = &self.data_dir;
        std::fs::create_dir_all(path).map_err(|error| Failure::io("cannot make", path, &error))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| Failure::io("cannot keep to its owner", path, &error))
    }

    /// The log of a server that `up` started.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    /// The kubeconfig of the cluster's administrator.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }

    /// The list of kubeconfigs that people use it from.
    pub fn kubeconfigs_file(&self) -> PathBuf {
        self.data_dir.join("kubeconfigs.json")
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

impl Machine {
    fn read(root: &Path) -> Result<Self, Failure> {
        let path = root.join(LIST);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::new(format!("{} is damaged: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::io("cannot read", &path, &error)),
        }
    }
}

/// Who has addresses of a range already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Another cluster.
    Cluster {
        /// Its name.
        name: String,
        /// What it has them for.
        range: Ipv4Net,
    },
    /// The machine itself.
    Machine {
        /// One of its addresses.
        address: Ipv4Addr,
    },
    /// The new cluster's other range.
    Services {
        /// That range.
        range: Ipv4Net,
    },
}

impl Obstacle {
    fn refuse(&self, wanted: Ipv4Net) -> Failure {
        Failure::new(match self {
            Self::Cluster { name, range } => {
                format!("range {wanted} overlaps {range} of cluster {name}: choose another")
            }
            Self::Machine { address } => {
                format!("range {wanted} has the address {address} of this machine in it: choose another")
            }
            Self::Services { range } => {
                format!("range {wanted} overlaps {range}, which is for services: choose another")
            }
        })
    }
}

/// What there is on the machine beside clusters, which a new one must fit.
struct Surroundings {
    /// Whether no program of this machine listens on a port.
    is_free: fn(u16) -> bool,
    /// Where others reach this machine.
    addresses: Vec<Ipv4Addr>,
}

/// A cluster, and whether the list has it only now.
#[derive(Debug)]
pub struct Found {
    /// Its facts.
    pub cluster: Cluster,
    /// It was made by this call.
    pub is_new: bool,
}

/// Where the sockets and locks of the cluster of this name are.
pub fn run_dir(name: &str) -> PathBuf {
    Path::new(RUN).join(name)
}

/// Looks a cluster up, also one that is no longer in the list but has run since the machine started. Nobody is waited for: the list is only
/// ever replaced as a whole.
///
/// # Errors
/// When the list is damaged.
pub fn look_up(name: &str) -> Result<Option<Cluster>, Failure> {
    let listed = Machine::read(Path::new(ROOT))?.clusters.remove(name);
    Ok(listed.or_else(|| keepsake::find(name).map(|found| found.cluster)))
}

/// A cluster that runs without being in the list could be met by a new one of its name.
///
/// # Errors
/// That it does, and what to do.
pub fn check_listed(name: &str) -> Result<(), Failure> {
    if Machine::read(Path::new(ROOT))?.clusters.contains_key(name) || keepsake::find(name).is_none() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "somebody has removed cluster {name} from the list of clusters while it ran: `nauplius delete --name {name}` cleans up after it"
    )))
}

/// Takes a cluster that is removed off the machine's list. With the last one goes what clusters share.
///
/// # Errors
/// When the list cannot be written, or something cannot be removed.
pub fn forget(name: &str) -> Result<(), Failure> {
    let mut list = MachineList::open()?;
    list.remove(name)?;
    // Nobody makes a cluster meanwhile: the list is locked.
    if list.machine.clusters.is_empty() { machine::remove_cgroups(CGROUP) } else { Ok(()) }
}

/// Takes the lock of whoever starts, stops or deletes a cluster: these wait for each other.
///
/// # Errors
/// When the name is none, or the lock cannot be made.
pub fn operate_on(name: &str) -> Result<Lock, Failure> {
    check_name(name)?;
    Lock::take(&Path::new(RUN).join(format!("{name}.lock")))
}

/// The machine's list of clusters, locked while it is held.
pub struct MachineList {
    root: PathBuf,
    machine: Machine,
    surroundings: Surroundings,
    _lock: Lock,
}

impl MachineList {
    /// Locks and reads the list, to change it.
    ///
    /// # Errors
    /// When the directory cannot be made or the list is damaged.
    pub fn open() -> Result<Self, Failure> {
        let surroundings = Surroundings { is_free: machine::is_free, addresses: machine::addresses()? };
        Self::open_at(Path::new(ROOT), surroundings)
    }

    fn open_at(root: &Path, surroundings: Surroundings) -> Result<Self, Failure> {
        let lock = Lock::take(&root.join(LOCK))?;
        Ok(Self { root: root.to_owned(), machine: Machine::read(root)?, surroundings, _lock: lock })
    }

    /// The cluster that `args` names. One that does not exist yet is made, if `check` finds nothing against it: only then it is
    /// in the list.
    ///
    /// # Errors
    /// When the name, a range or anything else cannot be used, or `new` contradicts what the cluster has.
    pub fn get_or_make(
        &mut self,
        args: &ClusterArgs,
        new: &NewClusterArgs,
        check: impl FnOnce(&Cluster) -> Result<(), Failure>,
    ) -> Result<Found, Failure> {
        check_name(&args.name)?;
        if let Some(known) = self.machine.clusters.get(&args.name) {
            check_unchanged(known, args, new)?;
            return Ok(Found { cluster: known.clone(), is_new: false });
        }
        let cluster = self.make(args, new)?;
        check(&cluster)?;
        self.machine.clusters.insert(args.name.clone(), cluster.clone());
        self.save()?;
        Ok(Found { cluster, is_new: true })
    }

    fn make(&self, args: &ClusterArgs, new: &NewClusterArgs) -> Result<Cluster, Failure> {
        let others: Vec<&Cluster> = self.machine.clusters.values().collect();
        let (service_cidr, pod_cidr) = self.ranges(new)?;
        let port = choose_port(new.port, &others)?;
        let node_ports = choose_node_ports(new.service_node_port_range, port, &others)?;
        let is_free = self.surroundings.is_free;
        let of_nobody = |candidate: &u16| {
            *candidate != port
                && !node_ports.contains(*candidate)
                && others.iter().all(|other| other.kubelet_port != *candidate && other.port != *candidate)
        };
        let data_dir = self.data_dir(args)?;
        Ok(Cluster {
            name: args.name.clone(),
            made_dirs: self.made_dirs(args, &data_dir),
            data_dir,
            port,
            kubelet_port: (FIRST_KUBELET_PORT..)
                .find(|candidate| of_nobody(candidate) && is_free(*candidate))
                .unwrap_or(FIRST_KUBELET_PORT),
            service_cidr,
            pod_cidr,
            node_ports,
            node_name: node_name(new)?,
            node_ip: new.node_ip.map(|given| self.check_node_ip(given)).transpose()?,
            service_account_issuers: checked_issuers(new)?,
            jwks_uri: new.service_account_jwks_uri.clone().map(checked_jwks_uri).transpose()?,
            runtime_config: checked_runtime_config(new)?,
            certificate_lifetime_s: new.certificate_lifetime_s,
            etcd: Etcd::of(&new.etcd)?,
            eviction: Eviction::of(&new.eviction)?,
        })
    }

    fn ranges(&self, new: &NewClusterArgs) -> Result<(Ipv4Net, Ipv4Net), Failure> {
        let first = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);
        let service_cidr = pick_range(new.service_cidr, first, |range| self.obstacle(range))?;
        let services = |range: &Ipv4Net| {
            overlap(range, &service_cidr).then_some(Obstacle::Services { range: service_cidr })
        };
        let first = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);
        let pod_cidr =
            pick_range(new.pod_cidr, first, |range| self.obstacle(range).or_else(|| services(range)))?;
        check_size("a service range (--service-cidr)", service_cidr, 12, 27)?;
        check_size("a pod range (--pod-cidr)", pod_cidr, 8, 24)?;
        Ok((service_cidr, pod_cidr))
    }

    /// Who has addresses of a range that a new cluster would have.
    pub fn obstacle(&self, range: &Ipv4Net) -> Option<Obstacle> {
        let theirs = self.machine.clusters.values().find_map(|other| {
            let its = [other.service_cidr, other.pod_cidr].into_iter().find(|its| overlap(range, its));
            its.map(|range| Obstacle::Cluster { name: other.name.clone(), range })
        });
        // A bridge of another cluster is within that cluster's range, which is the better explanation.
        theirs.or_else(|| {
            let mut own = self.surroundings.addresses.iter().copied();
            own.find(|address| range.contains(address)).map(|address| Obstacle::Machine { address })
        })
    }

    /// Those on the way to the cluster's directory that are not there yet. What was made for another cluster goes with the last that is in it.
    fn made_dirs(&self, args: &ClusterArgs, data_dir: &Path) -> Vec<PathBuf> {
        let for_another = |path: &Path| {
            self.machine.clusters.values().any(|other| other.made_dirs.iter().any(|dir| dir == path))
        };
        // What is in our own directory is ours.
        let is_ours = |path: &Path| args.data_dir.is_none() && path == data_dir;
        let made = |path: &&Path| is_missing(path) || for_another(path) || is_ours(path);
        data_dir.ancestors().filter(made).map(Path::to_owned).collect()
    }

    /// A directory that is nobody else's: `delete` removes all that is in it.
    fn data_dir(&self, args: &ClusterArgs) -> Result<PathBuf, Failure> {
        let directory = absolute_data_dir(args)?.unwrap_or_else(|| self.root.join(&args.name));
        let shown = directory.display();
        for other in self.machine.clusters.values() {
            if directory.starts_with(&other.data_dir) || other.data_dir.starts_with(&directory) {
                return Err(Failure::new(format!(
                    "the data directory {shown} overlaps {} of cluster {}: choose another with --data-dir",
                    other.data_dir.display(),
                    other.name
                )));
            }
        }
        let is_empty = match std::fs::read_dir(&directory) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(Failure::io("cannot use the data directory", &directory, &error)),
        };
        if is_empty {
            return Ok(directory);
        }
        Err(Failure::new(format!(
            "the data directory {shown} is not empty, and `delete` would remove what is in it: empty it, or choose another with --data-dir"
        )))
    }

    fn check_node_ip(&self, given: Ipv4Addr) -> Result<Ipv4Addr, Failure> {
        let addresses = &self.surroundings.addresses;
        if addresses.contains(&given) && unfit_node_ip(given).is_none() {
            return Ok(given);
        }
        if let Some(reason) = unfit_node_ip(given) {
            return Err(Failure::new(format!("--node-ip {given} cannot be used: {reason}")));
        }
        let known: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Err(Failure::new(format!(
            "--node-ip {given} cannot be used: node IP: \"{given}\" not found in the host's network interfaces, which have {}",
            if known.is_empty() { "none but loopback".to_owned() } else { known.join(", ") }
        )))
    }

    /// Takes a cluster off the list; an empty list leaves no file behind.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.machine.clusters.remove(name);
        if self.machine.clusters.is_empty() { remove_file(&self.root.join(LIST)) } else { self.save() }
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

/// Why no node can have this address, in the kubelet's words.
fn unfit_node_ip(given: Ipv4Addr) -> Option<&'static str> {
    match given {
        ip if ip.is_loopback() => Some("nodeIP can't be loopback address"),
        ip if ip.is_multicast() => Some("nodeIP can't be a multicast address"),
        ip if ip.is_link_local() => Some("nodeIP can't be a link-local unicast address"),
        ip if ip.is_unspecified() => Some("nodeIP can't be an all zeros address"),
        _ => None,
    }
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn absolute_data_dir(args: &ClusterArgs) -> Result<Option<PathBuf>, Failure> {
    let absolute = |given: &PathBuf| {
        std::path::absolute(given)
            .map_err(|error| Failure::io("cannot use the data directory", given, &error))
    };
    args.data_dir.as_ref().map(absolute).transpose()
}

fn choose_port(wanted: Option<u16>, others: &[&Cluster]) -> Result<u16, Failure> {
    let owner = |port: u16| others.iter().find(|other| other.port == port || other.kubelet_port == port);
    match wanted {
        Some(0) => {
            Err(Failure::new("--port 0 is no port that a kubeconfig could name: choose one from 1 to 65535"))
        }
        Some(wanted) => match owner(wanted) {
            Some(other) => Err(Failure::new(format!(
                "port {wanted} belongs to cluster {}: choose another with --port",
                other.name
            ))),
            None => Ok(wanted),
        },
        None => Ok((FIRST_PORT..).find(|port| owner(*port).is_none()).unwrap_or(FIRST_PORT)),
    }
}

/// Every cluster answers at node ports on all addresses of the machine: no two may have one in common.
fn choose_node_ports(
    wanted: Option<NodePorts>,
    port: u16,
    others: &[&Cluster],
) -> Result<NodePorts, Failure> {
    let obstacle = |range: NodePorts| {
        let in_range = |other: &&&Cluster| {
            range.overlaps(other.node_ports)
                || range.contains(other.port)
                || range.contains(other.kubelet_port)
        };
        match others.iter().find(in_range) {
            Some(other) => Some(format!("shares ports with cluster {}", other.name)),
            None => range.contains(port).then(|| format!("has port {port} of the API server in it")),
        }
    };
    match wanted {
        Some(wanted) => match obstacle(wanted) {
            Some(why) => Err(Failure::new(format!(
                "the range of node ports {wanted} {why}: choose another with --service-node-port-range"
            ))),
            None => Ok(wanted),
        },
        None => NodePorts::candidates().find(|range| obstacle(*range).is_none()).ok_or_else(|| {
            Failure::new("no range of node ports is free: choose one with --service-node-port-range")
        }),
    }
}

fn check_size(what: &str, range: Ipv4Net, largest: u8, smallest: u8) -> Result<(), Failure> {
    if (largest..=smallest).contains(&range.prefix_len()) {
        return Ok(());
    }
    Err(Failure::new(format!("{what} is between /{largest} and /{smallest}, and {range} is not")))
}

/// Upstream's rules: the documents are found below the issuer, so it must be an address.
fn checked_issuers(new: &NewClusterArgs) -> Result<Vec<String>, Failure> {
    let issuers = &new.service_account_issuer;
    match issuers.iter().find(|issuer| !is_https(issuer) || issuer.contains(['?', '#'])) {
        Some(bad) => Err(Failure::new(format!(
            "--service-account-issuer {bad:?} must be an address like https://tokens.example.com, without ? and #"
        ))),
        None => Ok(issuers.clone()),
    }
}

fn checked_runtime_config(new: &NewClusterArgs) -> Result<String, Failure> {
    let settings = new.runtime_config.join(",");
    match nauplius_kinds::RuntimeConfig::parse(&settings) {
        Ok(_) => Ok(settings),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

fn checked_jwks_uri(uri: String) -> Result<String, Failure> {
    if is_https(&uri) {
        return Ok(uri);
    }
    Err(Failure::new(format!("--service-account-jwks-uri {uri:?} requires https scheme")))
}

fn is_https(text: &str) -> bool {
    let parsed: Result<http::Uri, _> = text.parse();
    parsed
        .is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()))
}

fn node_name(new: &NewClusterArgs) -> Result<String, Failure> {
    let Some(given) = &new.node_name else { return host_name() };
    match names::dns1123_subdomain(given).first() {
        None => Ok(given.clone()),
        Some(problem) => Err(Failure::new(format!("--node-name {given:?} cannot name a node: {problem}"))),
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
    if absolute_data_dir(args)?.is_some_and(|wanted| wanted != known.data_dir) {
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
    if new.service_node_port_range.is_some_and(|wanted| wanted != known.node_ports) {
        return contradiction("node ports", &known.node_ports);
    }
    if new.node_name.as_ref().is_some_and(|wanted| *wanted != known.node_name) {
        return contradiction("node name", &known.node_name);
    }
    if !new.service_account_issuer.is_empty() && new.service_account_issuer != known.service_account_issuers {
        return contradiction("service account issuer", &known.issuers().join(", "));
    }
    if new.service_account_jwks_uri.is_some() && new.service_account_jwks_uri != known.jwks_uri {
        return contradiction("JWKS address", &known.jwks_uri.as_deref().unwrap_or("of the API server"));
    }
    if let Some(wanted) = Etcd::of(&new.etcd)?
        && known.etcd.as_ref() != Some(&wanted)
    {
        let own = known.data_dir.display().to_string();
        return contradiction("its state in", &known.etcd.as_ref().map_or(own, ToString::to_string));
    }
    if let Some(wanted) = Eviction::of(&new.eviction)?
        && known.eviction.as_ref() != Some(&wanted)
    {
        let has = known.eviction.as_ref().map_or("(none)".to_owned(), ToString::to_string);
        return contradiction("eviction flags", &has);
    }
    if new.certificate_lifetime_s.is_some() && new.certificate_lifetime_s != known.certificate_lifetime_s {
        let has = known.certificate_lifetime_s.map_or("of a year".to_owned(), |has| format!("of {has} s"));
        return contradiction("certificate lifetime", &has);
    }
    if !new.runtime_config.is_empty() && new.runtime_config.join(",") != known.runtime_config {
        return contradiction("runtime configuration", &format!("{:?}", known.runtime_config));
    }
    match (new.node_ip, known.node_ip) {
        (Some(wanted), Some(has)) if wanted != has => contradiction("node address", &has),
        (Some(_), None) => contradiction("node address", &"of the default route"),
        _ => Ok(()),
    }
}

/// What was asked for if nobody has it, else the first free one of that size from `first` on.
fn pick_range(
    wanted: Option<Ipv4Net>,
    first: Ipv4Net,
    obstacle: impl Fn(&Ipv4Net) -> Option<Obstacle>,
) -> Result<Ipv4Net, Failure> {
    if let Some(wanted) = wanted {
        let wanted = wanted.trunc();
        return obstacle(&wanted).map_or(Ok(wanted), |obstacle| Err(obstacle.refuse(wanted)));
    }
    let size = 1_u64 << (32 - first.prefix_len());
    let candidates = (0..u64::from(u32::MAX) / size).map_while(|step| {
        let network = u64::from(u32::from(first.network())) + step * size;
        let network = u32::try_from(network).ok().filter(|network| network >> 24 == 10)?;
        Ipv4Net::new(Ipv4Addr::from(network), first.prefix_len()).ok()
    });
    let mut free = candidates.filter(|range| obstacle(range).is_none());
    free.next()
        .ok_or_else(|| Failure::new(format!("no free range of the size of {first} is left in 10.0.0.0/8")))
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn host_name() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    if names::dns1123_subdomain(&name).is_empty() {
        return Ok(name);
    }
    Err(Failure::new(format!("the host's name {name:?} cannot name a node: give --node-name")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::EvictionArgs;

    fn args(name: &str) -> ClusterArgs {
        ClusterArgs { name: name.to_owned(), data_dir: None }
    }

    fn open(root: &Path) -> MachineList {
        let addresses = vec![Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(10, 113, 0, 1)];
        MachineList::open_at(root, Surroundings { is_free: |_| true, addresses }).unwrap()
    }

    fn new() -> NewClusterArgs {
        NewClusterArgs { node_name: Some("n".to_owned()), ..NewClusterArgs::default() }
    }

    fn make(list: &mut MachineList, name: &str) -> Cluster {
        list.get_or_make(&args(name), &new(), |_| Ok(())).unwrap().cluster
    }

    #[test]
    fn clusters_get_ranges_and_ports_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(root.path());
        let (one, two) = (make(&mut list, "one"), make(&mut list, "two"));
        assert_eq!((one.port, one.kubelet_port), (6443, 10250));
        assert_eq!(one.service_cidr.to_string(), "10.96.0.0/12");
        assert_eq!(one.dns_service_ip().to_string(), "10.96.0.10");
        // The machine has an address in the range between.
        assert_eq!(two.service_cidr.to_string(), "10.128.0.0/12");
        assert_eq!(two.pod_cidr.to_string(), "10.245.0.0/16");
        assert_eq!((two.port, two.kubelet_port), (6444, 10251));
        assert_eq!(one.node_ports.to_string(), "30000-32767");
        assert_eq!(two.node_ports.to_string(), "27232-29999");
        list.surroundings.is_free = |port| port != 10252;
        assert_eq!(make(&mut list, "three").kubelet_port, 10253);
        list.remove("three").unwrap();
        let again =
            list.get_or_make(&args("one"), &NewClusterArgs::default(), |_| panic!("it exists")).unwrap();
        assert_eq!((again.cluster, again.is_new), (one, false));
        list.remove("one").unwrap();
        list.remove("two").unwrap();
        let own = root.path().to_owned();
        drop((list, root.keep()));
        assert!(!own.exists());
    }

    #[test]
    fn the_list_stays_whole_when_clusters_come_and_go_at_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("list");
        let come_and_go = |name: &str| {
            for _ in 0..50 {
                make(&mut open(&path), name);
                assert!(Machine::read(&path).unwrap().clusters.contains_key(name), "{name} is lost");
                open(&path).remove(name).unwrap();
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
    fn whoever_only_looks_waits_for_nobody() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(root.path());
        make(&mut list, "one");
        assert!(Machine::read(root.path()).unwrap().clusters.contains_key("one"));
    }

    #[test]
    fn what_is_refused_is_not_in_the_list() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(root.path());
        let refused = list.get_or_make(&args("one"), &new(), |_| Err(Failure::new("no"))).unwrap_err();
        assert_eq!(refused.to_string(), "no");
        assert!(!root.path().join(LIST).exists());
    }

    #[test]
    fn refuses_names_that_cannot_be() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(root.path());
        for name in ["", "Upper", "a-name-too-long", "-x", "x-"] {
            assert!(list.get_or_make(&args(name), &new(), |_| Ok(())).is_err(), "{name}");
        }
    }

    #[test]
    fn refuses_flags_that_cannot_be() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(root.path());
        let one = make(&mut list, "one");
        std::fs::create_dir_all(root.path().join("full/of")).unwrap();
        let net = |text: &str| text.parse().ok();
        let check = |list: &mut MachineList, flags: NewClusterArgs, expected: &str| {
            let refusal = list.get_or_make(&args("two"), &flags, |_| Ok(())).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{expected:?} is not in {refusal:?}");
        };
        let cases = [
            (NewClusterArgs { port: Some(0), ..new() }, "--port 0 is no port"),
            (NewClusterArgs { port: Some(6443), ..new() }, "port 6443 belongs to cluster one"),
            (NewClusterArgs { port: Some(10250), ..new() }, "port 10250 belongs to cluster one"),
            (
                NewClusterArgs { service_node_port_range: "32000-33000".parse().ok(), ..new() },
                "the range of node ports 32000-33000 shares ports with cluster one",
            ),
            (
                NewClusterArgs { service_node_port_range: "10000+300".parse().ok(), ..new() },
                "shares ports with cluster one",
            ),
            (
                NewClusterArgs { service_cidr: net("10.100.0.0/16"), ..new() },
                "overlaps 10.96.0.0/12 of cluster one: choose another",
            ),
            (NewClusterArgs { service_cidr: net("172.16.0.0/28"), ..new() }, "is between /12 and /27"),
            (NewClusterArgs { service_cidr: net("128.0.0.0/8"), ..new() }, "is between /12 and /27"),
            (NewClusterArgs { pod_cidr: net("172.16.0.0/25"), ..new() }, "is between /8 and /24"),
            (
                NewClusterArgs { pod_cidr: net("192.0.2.0/24"), ..new() },
                "has the address 192.0.2.2 of this machine",
            ),
            (
                NewClusterArgs { pod_cidr: net("10.128.0.0/16"), ..new() },
                "overlaps 10.128.0.0/12, which is for services",
            ),
            (
                NewClusterArgs { service_account_issuer: vec!["tokens".to_owned()], ..new() },
                "--service-account-issuer \"tokens\" must be an address like https://",
            ),
            (
                NewClusterArgs { service_account_jwks_uri: Some("http://a/b".to_owned()), ..new() },
                "--service-account-jwks-uri \"http://a/b\" requires https scheme",
            ),
            (
                NewClusterArgs { runtime_config: vec!["api/alpha=true".to_owned()], ..new() },
                "--runtime-config api/alpha=true: alpha versions are not built",
            ),
            (
                NewClusterArgs { node_name: Some("Upper_Case".to_owned()), ..new() },
                "--node-name \"Upper_Case\" cannot name a node: a lowercase RFC 1123 subdomain must consist of",
            ),
            (
                NewClusterArgs { node_ip: Some(Ipv4Addr::new(192, 0, 2, 9)), ..new() },
                "--node-ip 192.0.2.9 cannot be used: node IP: \"192.0.2.9\" not found in the host's network interfaces, which have 192.0.2.2, 10.113.0.1",
            ),
            (
                NewClusterArgs { node_ip: Some(Ipv4Addr::LOCALHOST), ..new() },
                "--node-ip 127.0.0.1 cannot be used: nodeIP can't be loopback address",
            ),
        ];
        for (flags, expected) in cases {
            check(&mut list, flags, expected);
        }
        let there =
            |directory: &Path| ClusterArgs { name: "two".to_owned(), data_dir: Some(directory.to_owned()) };
        for (directory, expected) in [
            (one.data_dir.join("below"), "overlaps"),
            (root.path().to_owned(), "overlaps"),
            (root.path().join("full"), "is not empty"),
        ] {
            let refusal = list.get_or_make(&there(&directory), &new(), |_| Ok(())).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
        assert_eq!(list.machine.clusters.len(), 1);
    }

    #[test]
    fn what_is_made_for_a_cluster_is_known() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(&root.path().join("list"));
        let made = |list: &mut MachineList, name: &str, below: Option<&str>| {
            let data_dir = below.map(|below| root.path().join(below));
            let args = ClusterArgs { name: name.to_owned(), data_dir };
            let found = list.get_or_make(&args, &new(), |_| Ok(())).unwrap();
            found.cluster.make_data_dir().unwrap();
            let shown = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
            found.cluster.made_dirs.iter().map(shown).collect::<Vec<_>>()
        };
        std::fs::create_dir_all(root.path().join("there/empty")).unwrap();
        std::fs::create_dir_all(root.path().join("list/own")).unwrap();
        assert_eq!(made(&mut list, "one", Some("a/b/c")), ["a/b/c", "a/b", "a"]);
        assert_eq!(made(&mut list, "two", Some("a/b/d")), ["a/b/d", "a/b", "a"], "the last one removes them");
        assert_eq!(made(&mut list, "three", Some("there/empty")), [""; 0]);
        assert_eq!(made(&mut list, "own", None), ["list/own"]);
    }

    #[test]
    fn a_cluster_keeps_what_it_has() {
        let root = tempfile::tempdir().unwrap();
        let mut list = open(root.path());
        make(&mut list, "one");
        for (flags, expected) in [
            (NewClusterArgs { port: Some(7443), ..NewClusterArgs::default() }, "exists with port 6443"),
            (
                NewClusterArgs { certificate_lifetime_s: Some(60), ..NewClusterArgs::default() },
                "exists with certificate lifetime of a year",
            ),
            (
                NewClusterArgs {
                    eviction: EvictionArgs {
                        eviction_hard: Some("nodefs.available<5%".to_owned()),
                        ..EvictionArgs::default()
                    },
                    ..NewClusterArgs::default()
                },
                "exists with eviction flags (none)",
            ),
            (
                NewClusterArgs { node_ip: Some(Ipv4Addr::new(192, 0, 2, 2)), ..NewClusterArgs::default() },
                "exists with node address of the default route",
            ),
        ] {
            let refusal = list.get_or_make(&args("one"), &flags, |_| Ok(())).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
