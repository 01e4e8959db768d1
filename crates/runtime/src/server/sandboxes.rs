//! Sandboxes: run, stop, remove. A sandbox is a directory, pinned namespaces, a network attachment and a shim. It must not know
//! what runs in the containers.

use super::network::{PortMapping, Protocol, SandboxInfo};
use super::registry::{self, Phase, Sandbox, SandboxRecord, find};
use super::shim_client::{self, ShimClient, ShimError};
use super::{Inner, blocking, failed, namespaces, plan};
use crate::wire::Request;
use nauplius_base::{id, time};
use nauplius_cri::v1::{self, ContainerEventType, NamespaceMode};
use nauplius_cri::{Code, CriError};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

impl Inner {
    /// `RunPodSandbox`.
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        request: v1::RunPodSandboxRequest,
    ) -> Result<String, CriError> {
        if !request.runtime_handler.is_empty() {
            let message = format!("no runtime for {:?} is configured", request.runtime_handler);
            return Err(CriError::unknown(format!("failed to get sandbox runtime: {message}")));
        }
        let config = request.config.ok_or_else(|| CriError::invalid("sandbox config is missing"))?;
        let sandbox = self.new_sandbox(config)?;
        let id = sandbox.record.id.clone();
        match self.make_sandbox(sandbox).await {
            Ok(()) => Ok(id),
            Err(error) => {
                self.discard_sandbox(&id).await;
                Err(error)
            }
        }
    }

    fn new_sandbox(&self, config: v1::PodSandboxConfig) -> Result<Sandbox, CriError> {
        if config.metadata.is_none() {
            return Err(CriError::invalid("sandbox config must include metadata"));
        }
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        plan::refuse_user_namespace(security.namespace_options.as_ref())?;
        let options = security.namespace_options.unwrap_or_default();
        let record = SandboxRecord {
            id: id::hex(32),
            created_at: time::unix_nanos(),
            phase: Phase::Creating,
            host_network: options.network() == NamespaceMode::Node,
            host_ipc: options.ipc() == NamespaceMode::Node,
            addresses: Vec::new(),
            cgroup_parent: if linux.cgroup_parent.is_empty() {
                self.options.cgroup_root.clone()
            } else {
                linux.cgroup_parent
            },
            attached: false,
        };
        check_sysctls(&linux.sysctls, &record)?;
        Ok(Sandbox { record, config, shim_pid: 0, token: self.token.child_token(), ending: false })
    }

    /// The shim starts while namespaces and network are made.
    async fn make_sandbox(self: &Arc<Self>, mut sandbox: Sandbox) -> Result<(), CriError> {
        let id = sandbox.record.id.clone();
        sandbox.record.attached = !sandbox.record.host_network;
        let (inner, new) = (Arc::clone(self), sandbox.clone());
        let listener = blocking(move || inner.lay_out(&new)).await?;
        let (inner, directory) = (Arc::clone(self), self.sandbox_dir(&id));
        let shim = blocking(move || {
            start_shim(&inner.program, &directory, listener).map_err(failed("start the shim"))
        });
        let (inner, new) = (Arc::clone(self), sandbox.clone());
        let network = blocking(move || inner.make_namespaces(&new));
        let (shim, addresses) = futures_util::join!(shim, network);
        shim?;
        sandbox.record.addresses = addresses?;
        sandbox.record.phase = Phase::Ready;
        registry::save(&self.sandbox_dir(&id), &sandbox.record, None).map_err(failed("store the sandbox"))?;
        self.write(|registry| registry.sandboxes.insert(id.clone(), sandbox));
        self.follow(&id)
            .await
            .map_err(|error| CriError::unknown(format!("failed to reach the shim: {error}")))?;
        self.emit(ContainerEventType::ContainerCreatedEvent, &id, &id);
        self.emit(ContainerEventType::ContainerStartedEvent, &id, &id);
        Ok(())
    }

    /// The directory and the record, so that a crash from now on leaves something to clean up by.
    fn lay_out(&self, sandbox: &Sandbox) -> Result<std::os::unix::net::UnixListener, CriError> {
        let directory = self.sandbox_dir(&sandbox.record.id);
        let write = || -> io::Result<_> {
            std::fs::create_dir_all(&directory)?;
            registry::save(&directory, &sandbox.record, Some(&registry::encode(&sandbox.config)))?;
            let hostname = &sandbox.config.hostname;
            std::fs::write(directory.join("hostname"), format!("{hostname}\n"))?;
            std::fs::write(directory.join("resolv.conf"), resolv_conf(sandbox.config.dns_config.as_ref())?)?;
            std::fs::write(directory.join("hosts"), read_optional("/etc/hosts")?)?;
            shim_client::bind(&directory)
        };
        write().map_err(failed("create the sandbox directory"))
    }

    fn make_namespaces(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>, CriError> {
        let record = &sandbox.record;
        let directory = self.sandbox_dir(&record.id);
        let wanted = namespaces::Wanted {
            network: !record.host_network,
            ipc: !record.host_ipc,
            hostname: (!record.host_network).then(|| sandbox.config.hostname.clone()),
            sysctls: sysctls(&sandbox.config, record),
        };
        namespaces::create(&directory.join("ns"), &wanted)
            .map_err(failed("create the sandbox namespaces"))?;
        if !record.host_ipc {
            namespaces::mount_shm(&directory.join("shm"))
                .map_err(failed("mount the sandbox shared memory"))?;
        }
        if record.host_network {
            return Ok(Vec::new());
        }
        let info = self.network_info(&record.id, &sandbox.config)?;
        Ok(self.network.attach(&info).map_err(|error| CriError::unknown(error.to_string()))?.0)
    }

    fn network_info(&self, id: &str, config: &v1::PodSandboxConfig) -> Result<SandboxInfo, CriError> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let mapped = config.port_mappings.iter().filter(|mapping| mapping.host_port != 0);
        Ok(SandboxInfo {
            id: id.to_owned(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            netns: self.sandbox_dir(id).join("ns/net"),
            port_mappings: mapped.map(port_mapping).collect::<Result<_, _>>()?,
        })
    }

    /// `StopPodSandbox`.
    pub(crate) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<(), CriError> {
        let Some(sandbox) = self.read(|registry| find(&registry.sandboxes, id).cloned()) else {
            return Ok(());
        };
        let id = sandbox.record.id.clone();
        let was_ready = sandbox.record.phase == Phase::Ready;
        if was_ready {
            self.end_shim(&id).await?;
        }
        let (inner, old) = (Arc::clone(self), sandbox);
        let record = blocking(move || inner.release_sandbox(old)).await?;
        self.write(|registry| {
            if let Some(sandbox) = registry.sandboxes.get_mut(&id) {
                sandbox.record = record;
            }
        });
        if was_ready {
            self.emit(ContainerEventType::ContainerStoppedEvent, &id, &id);
        }
        Ok(())
    }

    fn set_ending(&self, id: &str, ending: bool) {
        self.write(|registry| {
            if let Some(sandbox) = registry.sandboxes.get_mut(id) {
                sandbox.ending = ending;
            }
        });
    }

    /// Kills every container of the sandbox and the shim, and learns how they ended.
    async fn end_shim(self: &Arc<Self>, id: &str) -> Result<(), CriError> {
        self.set_ending(id, true);
        match ShimClient::new(&self.sandbox_dir(id)).request(&Request::Shutdown, &[]).await {
            Ok(_) | Err(ShimError::Gone) => {}
            Err(error) => {
                self.set_ending(id, false);
                return Err(CriError::unknown(format!("failed to stop the shim: {error}")));
            }
        }
        let token = self.write(|registry| {
            let sandbox = registry.sandboxes.get_mut(id)?;
            sandbox.record.phase = Phase::Stopped;
            Some(sandbox.token.clone())
        });
        if let Some(token) = token {
            token.cancel();
        }
        let inner = Arc::clone(self);
        let id = id.to_owned();
        blocking(move || inner.bury_containers(&id, super::follow::Death::Killed)).await
    }

    /// Takes network, namespaces and mounts away and stores the sandbox as stopped.
    fn release_sandbox(&self, mut sandbox: Sandbox) -> Result<SandboxRecord, CriError> {
        let id = sandbox.record.id.clone();
        let directory = self.sandbox_dir(&id);
        if sandbox.record.attached {
            let info = self.network_info(&id, &sandbox.config)?;
            self.network.detach(&info).map_err(|error| CriError::unknown(error.to_string()))?;
            sandbox.record.attached = false;
        }
        namespaces::release(&directory.join("ns")).map_err(failed("release the sandbox namespaces"))?;
        namespaces::unmount(&directory.join("shm")).map_err(failed("unmount the sandbox shared memory"))?;
        let group = sandbox.record.cgroup();
        // A process that outlives its shim for a moment would keep it.
        self.layout.kill(&group);
        self.layout.remove(&group).map_err(|error| CriError::unknown(error.to_string()))?;
        sandbox.record.phase = Phase::Stopped;
        registry::save(&directory, &sandbox.record, None).map_err(failed("store the sandbox"))?;
        Ok(sandbox.record)
    }

    /// `RemovePodSandbox`.
    pub(crate) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<(), CriError> {
        let Some(sandbox) = self.read(|registry| find(&registry.sandboxes, id).cloned()) else {
            return Ok(());
        };
        let id = sandbox.record.id;
        self.stop_sandbox(&id).await?;
        let containers: Vec<String> = self.read(|registry| {
            registry.containers_of(&id).map(|container| container.record.id.clone()).collect()
        });
        for container in containers {
            self.remove_container(&container).await?;
        }
        let directory = self.sandbox_dir(&id);
        blocking(move || remove_directory(&directory)).await?;
        self.write(|registry| registry.sandboxes.remove(&id));
        self.emit(ContainerEventType::ContainerDeletedEvent, &id, &id);
        Ok(())
    }

    /// Removes what a failed or interrupted `RunPodSandbox` has left. What cannot be removed now is tried again at the next start.
    pub(crate) async fn discard_sandbox(self: &Arc<Self>, id: &str) {
        let known = self.write(|registry| registry.sandboxes.remove(id));
        if let Some(sandbox) = known {
            sandbox.token.cancel();
        }
        let client = ShimClient::new(&self.sandbox_dir(id));
        if let Err(error) = client.request(&Request::Shutdown, &[]).await
            && !matches!(error, ShimError::Gone)
        {
            tracing::warn!(sandbox = id, %error, "the shim of an unfinished sandbox did not stop");
        }
        let (inner, id) = (Arc::clone(self), id.to_owned());
        let discarded = blocking(move || {
            let directory = inner.sandbox_dir(&id);
            if let Ok((record, config)) = registry::load::<SandboxRecord, v1::PodSandboxConfig>(&directory) {
                inner.release_sandbox(Sandbox {
                    record,
                    config,
                    shim_pid: 0,
                    token: inner.token.child_token(),
                    ending: true,
                })?;
            }
            namespaces::release(&directory.join("ns")).map_err(failed("release the sandbox namespaces"))?;
            remove_directory(&directory)
        });
        if let Err(error) = discarded.await {
            tracing::warn!(error = error.message, "an unfinished sandbox is left for the next start");
        }
    }
}

/// Removes a tree that may be gone.
pub(crate) fn remove_directory(directory: &Path) -> Result<(), CriError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CriError::unknown(format!("failed to remove {}: {error}", directory.display())))
        }
        _ => Ok(()),
    }
}

fn port_mapping(mapping: &v1::PortMapping) -> Result<PortMapping, CriError> {
    let port = |port: i32| {
        u16::try_from(port).map_err(|_| CriError::invalid(format!("port {port} is out of range")))
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| CriError::invalid(format!("host IP {text:?} is not an address")))?)
        }
    };
    Ok(PortMapping {
        protocol: match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
        container_port: port(mapping.container_port)?,
        host_port: port(mapping.host_port)?,
        host_ip,
    })
}

/// Only sysctls of the sandbox's own namespaces can be set; all others are the machine's.
fn check_sysctls(
    sysctls: &std::collections::BTreeMap<String, String>,
    record: &SandboxRecord,
) -> Result<(), CriError> {
    for name in sysctls.keys() {
        let name = name.replace('/', ".");
        let network = name.starts_with("net.");
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
            || name == "kernel.sem";
        if name.contains("..") || !(network || ipc) {
            return Err(CriError::invalid(format!("sysctl {name:?} is not in a separate kernel namespace")));
        }
        if (network && record.host_network) || (ipc && record.host_ipc) {
            return Err(CriError::invalid(format!(
                "sysctl {name:?} is not allowed with the host's namespace"
            )));
        }
    }
    Ok(())
}

/// The config's, after what lets unprivileged containers listen on low ports and ping, as containerd does.
fn sysctls(config: &v1::PodSandboxConfig, record: &SandboxRecord) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if !record.host_network {
        all.push(("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()));
        all.push(("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned()));
    }
    let asked = config.linux.iter().flat_map(|linux| &linux.sysctls);
    all.extend(asked.map(|(name, value)| (name.replace('/', "."), value.clone())));
    all
}

fn resolv_conf(config: Option<&v1::DnsConfig>) -> io::Result<String> {
    let empty = v1::DnsConfig::default();
    let config = config.unwrap_or(&empty);
    if *config == empty {
        return read_optional("/etc/resolv.conf");
    }
    let mut text = String::new();
    if !config.searches.is_empty() {
        text.push_str(&format!("search {}\n", config.searches.join(" ")));
    }
    for server in &config.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !config.options.is_empty() {
        text.push_str(&format!("options {}\n", config.options.join(" ")));
    }
    Ok(text)
}

fn read_optional(path: &str) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// Starts the shim and returns when it has left this process's tree; it then serves `listener`.
fn start_shim(
    program: &Path,
    directory: &Path,
    listener: std::os::unix::net::UnixListener,
) -> io::Result<()> {
    let log = std::fs::File::create(directory.join("shim.log"))?;
    let status = Command::new(program)
        .arg("shim")
        .arg(directory)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(log)
        .env_clear()
        .status()?;
    if status.success() {
        return Ok(());
    }
    let said = read_optional(&directory.join("shim.log").display().to_string())?;
    Err(io::Error::other(format!("it ended with {status}: {}", said.trim())))
}

/// `Unavailable` when the sandbox cannot take containers.
pub(crate) fn not_ready(id: &str) -> CriError {
    CriError::new(Code::Unknown, format!("sandbox container {id:?} is not running"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_written_as_asked() {
        let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let config = v1::DnsConfig {
            servers: strings(&["10.96.0.10"]),
            searches: strings(&["default.svc.cluster.local", "svc.cluster.local"]),
            options: strings(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(Some(&config)).unwrap(),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn the_machines_sysctls_are_refused() {
        let record = SandboxRecord {
            id: String::new(),
            created_at: 0,
            phase: Phase::Creating,
            host_network: true,
            host_ipc: false,
            addresses: Vec::new(),
            cgroup_parent: String::new(),
            attached: false,
        };
        let check = |name: &str| check_sysctls(&[(name.to_owned(), "1".to_owned())].into(), &record);
        assert!(check("kernel.shmmax").is_ok());
        for refused in
            ["kernel.panic", "vm.swappiness", "net.ipv4.ip_forward", "net/../kernel/panic", "fs.file-max"]
        {
            assert!(check(refused).is_err(), "{refused}");
        }
    }
}
