//! From CRI's configs and an image to a spec that a shim can run. Everything that can be refused is refused here, before anything
//! exists. It reads the host and the image, and writes nothing.

use super::image_volumes::{self, ImageVolume};
use super::users::{self, Accounts, Wanted};
use super::{command, devices, image_root, mounts};
use crate::capabilities;
use crate::cgroup::{Layout, Resources};
use crate::seccomp::{self, Profile};
use crate::spec::{ContainerSpec, Namespaces, PidNamespace, Process, Rlimit, Rootfs};
use nauplius_cri::v1::{self, NamespaceMode, security_profile::ProfileType};
use nauplius_cri::{Code, CriError};
use nauplius_images::Image;
use std::path::{Path, PathBuf};

/// What this machine can and what the options say.
pub(crate) struct Machine<'a> {
    pub layout: &'a Layout,
    /// The runtime's own bounding set.
    pub capabilities: u64,
    /// The lowest `oom_score_adj` that may be set without CAP_SYS_RESOURCE.
    pub oom_floor: i32,
    pub rlimits: &'a [Rlimit],
}

/// The sandbox that a container goes into.
pub(crate) struct Home<'a> {
    pub directory: &'a Path,
    pub config: &'a v1::PodSandboxConfig,
    pub host_network: bool,
    pub host_ipc: bool,
    /// The cgroup of what belongs to the sandbox itself.
    pub group: &'a str,
}

/// Where a container is to be.
pub(crate) struct Place<'a> {
    pub id: &'a str,
    pub directory: &'a Path,
    /// Its cgroup.
    pub group: &'a str,
}

/// The image and where its layers are, topmost first.
pub(crate) struct Content<'a> {
    pub image: &'a Image,
    pub layers: Vec<PathBuf>,
}

/// Everything that a container's directory and cgroup are filled with.
pub(crate) struct Plan {
    pub spec: ContainerSpec,
    pub resources: Resources,
    /// Encoded filters.
    pub seccomp: Option<Vec<u8>>,
    pub stop_signal: i32,
    pub privileged: bool,
    /// Directories to make and fill.
    pub volumes: Vec<ImageVolume>,
}

/// Where the encoded filters are in a container's directory.
pub(crate) const SECCOMP_FILE: &str = "seccomp.bpf";

fn spec_error(reason: impl std::fmt::Display) -> CriError {
    CriError::unknown(format!("failed to generate container spec: {reason}"))
}

/// Makes the plan of a container.
pub(crate) fn plan(
    place: &Place<'_>,
    config: &v1::ContainerConfig,
    home: &Home<'_>,
    content: &Content<'_>,
    machine: &Machine<'_>,
    volume_layers: &mut dyn FnMut(&v1::ImageSpec) -> Result<Vec<PathBuf>, CriError>,
) -> Result<Plan, CriError> {
    let Place { id, directory, group } = *place;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.clone().unwrap_or_default();
    refuse_unsupported(config, &security)?;
    let sandbox_privileged = home
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .is_some_and(|security| security.privileged);
    if security.privileged && !sandbox_privileged {
        return Err(CriError::invalid("no privileged container allowed in sandbox"));
    }
    let pid = pid_namespace(&security)?;
    let process = process(config, &security, linux.resources.as_ref(), home, content, machine)?;
    let seccomp = seccomp(&security, process.capabilities.bounding)?;
    let (nodes, rules) = devices::plan(&config.devices, security.privileged).map_err(spec_error)?;
    let mut resources = resources(linux.resources.as_ref())?;
    resources.devices = Some(rules);
    let files = mounts::SandboxFiles {
        directory: home.directory,
        shm: if home.host_ipc { "/dev/shm".into() } else { home.directory.join("shm") },
    };
    let volumes = image_volumes::plan(&content.image.config.volumes, &config.mounts, directory);
    let mut readonly_paths = if security.privileged { Vec::new() } else { security.readonly_paths.clone() };
    readonly_paths.extend(mounts::late_readonly(machine.layout, security.privileged));
    let namespace = |kind: &str, host: bool| (!host).then(|| home.directory.join("ns").join(kind));
    let spec = ContainerSpec {
        id: id.to_owned(),
        namespaces: Namespaces {
            network: namespace("net", home.host_network),
            ipc: namespace("ipc", home.host_ipc),
            uts: namespace("uts", home.host_network),
            pause_cgroup_entries: match pid {
                PidNamespace::Pod => machine.layout.entry_files(home.group),
                _ => Vec::new(),
            },
            pid,
        },
        rootfs: Rootfs {
            lower: content.layers.clone(),
            upper: directory.join("upper"),
            work: directory.join("work"),
            target: directory.join("rootfs"),
            readonly: security.readonly_rootfs,
        },
        mounts: mounts::plan(
            config,
            &files,
            machine.layout,
            security.privileged,
            security.readonly_rootfs,
            &volumes,
            volume_layers,
        )?,
        devices: nodes,
        masked_paths: if security.privileged { Vec::new() } else { security.masked_paths.clone() },
        readonly_paths,
        process: Process { seccomp: seccomp.as_ref().map(|_| directory.join(SECCOMP_FILE)), ..process },
        cgroup_entries: machine.layout.entry_files(group),
        oom_counter: machine.layout.oom_counter(group),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log_path: log_path(config, home.config),
    };
    let stop_signal = command::stop_signal(config, &content.image.config).map_err(CriError::invalid)?;
    Ok(Plan { spec, resources, seccomp, stop_signal, privileged: security.privileged, volumes })
}

/// What is not built is refused, not ignored.
fn refuse_unsupported(
    config: &v1::ContainerConfig,
    security: &v1::LinuxContainerSecurityContext,
) -> Result<(), CriError> {
    if !config.cdi_devices.is_empty() {
        return Err(CriError::invalid("CDI devices are not supported by this runtime"));
    }
    let apparmor = security.apparmor.as_ref().map(v1::SecurityProfile::profile_type);
    if apparmor.is_some_and(|profile| profile != ProfileType::Unconfined) {
        return Err(CriError::invalid("AppArmor profiles are not supported by this runtime"));
    }
    let selinux =
        security.selinux_options.as_ref().is_some_and(|options| *options != v1::SeLinuxOption::default());
    if selinux && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(CriError::invalid("SELinux options are not supported by this runtime"));
    }
    refuse_user_namespace(security.namespace_options.as_ref())
}

/// User namespaces are not built.
pub(crate) fn refuse_user_namespace(options: Option<&v1::NamespaceOption>) -> Result<(), CriError> {
    let user = options.and_then(|options| options.userns_options.as_ref());
    match user.map(v1::UserNamespace::mode) {
        Some(NamespaceMode::Pod) => {
            Err(CriError::invalid("user namespaces are not supported by this runtime"))
        }
        _ => Ok(()),
    }
}

fn pid_namespace(security: &v1::LinuxContainerSecurityContext) -> Result<PidNamespace, CriError> {
    let Some(options) = &security.namespace_options else { return Ok(PidNamespace::Private) };
    match NamespaceMode::try_from(options.pid) {
        Ok(NamespaceMode::Pod) => Ok(PidNamespace::Pod),
        Ok(NamespaceMode::Container) => Ok(PidNamespace::Private),
        Ok(NamespaceMode::Node) => Ok(PidNamespace::Host),
        Ok(NamespaceMode::Target) => Ok(PidNamespace::Target(options.target_id.clone())),
        Err(_) => Err(CriError::invalid(format!("unknown pid namespace mode {}", options.pid))),
    }
}

fn process(
    config: &v1::ContainerConfig,
    security: &v1::LinuxContainerSecurityContext,
    limits: Option<&v1::LinuxContainerResources>,
    home: &Home<'_>,
    content: &Content<'_>,
    machine: &Machine<'_>,
) -> Result<Process, CriError> {
    let image = &content.image.config;
    let args = command::arguments(config, image).ok_or_else(|| spec_error("no command specified"))?;
    let accounts = accounts(&content.layers).map_err(spec_error)?;
    let wanted = Wanted {
        uid: security.run_as_user.as_ref().map(|uid| uid.value),
        gid: security.run_as_group.as_ref().map(|gid| gid.value),
        username: &security.run_as_username,
        image_user: &image.user,
        supplemental_groups: &security.supplemental_groups,
        strict_groups: security.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Strict,
    };
    let identity = users::resolve(&wanted, &accounts).map_err(spec_error)?;
    let asked = security.capabilities.clone().unwrap_or_default();
    let request = capabilities::Request {
        privileged: security.privileged,
        add: &asked.add_capabilities,
        drop: &asked.drop_capabilities,
        ambient: &asked.add_ambient_capabilities,
        root: identity.uid == 0,
    };
    let capabilities = capabilities::sets(&request, machine.capabilities).map_err(spec_error)?;
    Ok(Process {
        args,
        env: command::environment(config, image, &home.config.hostname, &identity.home),
        cwd: command::working_directory(config, image),
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        capabilities,
        no_new_privs: security.no_new_privs,
        rlimits: machine.rlimits.to_vec(),
        oom_score_adj: limits.map(|limits| oom_score(limits.oom_score_adj, machine.oom_floor)),
        tty: config.tty,
        seccomp: None,
    })
}

/// Lowering the score below one's own needs CAP_SYS_RESOURCE; without it the lowest that is allowed comes closest.
fn oom_score(wanted: i64, floor: i32) -> i32 {
    static SAID: std::sync::Once = std::sync::Once::new();
    let wanted = i32::try_from(wanted.clamp(-1000, 1000)).unwrap_or(0);
    if wanted < floor {
        SAID.call_once(|| {
            tracing::info!(
                wanted,
                floor,
                "oom_score_adj below this process's own needs CAP_SYS_RESOURCE; it is clamped"
            );
        });
    }
    wanted.max(floor)
}

/// The image's account files.
fn accounts(layers: &[PathBuf]) -> std::io::Result<Accounts> {
    let root = image_root::open(layers)?;
    Ok(Accounts { passwd: read_file(&root, "/etc/passwd")?, group: read_file(&root, "/etc/group")? })
}

/// A file of the image as text; empty when it has none. Larger than this is no account file.
fn read_file(root: &rustix::fd::OwnedFd, path: &str) -> std::io::Result<String> {
    use std::io::Read as _;
    const LIMIT: u64 = 4 << 20;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let file = match crate::sys::mount::open_in_root(root, path, flags) {
        Ok(fd) => std::fs::File::from(fd),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn seccomp(security: &v1::LinuxContainerSecurityContext, bounding: u64) -> Result<Option<Vec<u8>>, CriError> {
    let Some(profile) = security.seccomp.as_ref().filter(|_| !security.privileged) else { return Ok(None) };
    let profile = match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => {
            return seccomp::encoded_default(bounding).map(Some).map_err(spec_error);
        }
        Ok(ProfileType::Unconfined) => return Ok(None),
        Ok(ProfileType::Localhost) => {
            let path = &profile.localhost_ref;
            let json = std::fs::read(path).map_err(|error| {
                let reason = crate::sys::errno_text(&error);
                spec_error(format!("cannot load seccomp profile {path:?}: open {path}: {reason}"))
            })?;
            Profile::parse(&json).map_err(|error| spec_error(format!("seccomp profile {path:?}: {error}")))?
        }
        Err(_) => {
            return Err(CriError::invalid(format!("unknown seccomp profile type {}", profile.profile_type)));
        }
    };
    seccomp::encode(&profile).map(Some).map_err(spec_error)
}

/// CRI's limits as the cgroup code takes them.
pub(crate) fn resources(limits: Option<&v1::LinuxContainerResources>) -> Result<Resources, CriError> {
    let Some(limits) = limits else { return Ok(Resources::default()) };
    let positive = |name: &str, value: i64| {
        u64::try_from(value)
            .map_err(|_| CriError::new(Code::InvalidArgument, format!("{name} must not be negative")))
    };
    Ok(Resources {
        cpu_shares: positive("cpu_shares", limits.cpu_shares)?,
        cpu_quota: limits.cpu_quota,
        cpu_period: positive("cpu_period", limits.cpu_period)?,
        memory_limit: limits.memory_limit_in_bytes,
        memory_swap_limit: limits.memory_swap_limit_in_bytes,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        pids_limit: 0,
        // A limit of zero is the default of a page size that nobody asked for, on machines that may not have it.
        hugepages: limits
            .hugepage_limits
            .iter()
            .filter(|limit| limit.limit > 0)
            .map(|limit| (limit.page_size.clone(), limit.limit))
            .collect(),
        unified: limits.unified.clone().into_iter().collect(),
        devices: None,
    })
}

fn log_path(config: &v1::ContainerConfig, sandbox: &v1::PodSandboxConfig) -> Option<PathBuf> {
    let wanted = !config.log_path.is_empty() && !sandbox.log_directory.is_empty();
    wanted.then(|| Path::new(&sandbox.log_directory).join(&config.log_path))
}
