//! Measures what a pod costs: `cargo run -p nauplius-runtime --example latency [PODS]` (as root) prints the median time of each
//! step and the memory of a shim. The example is its own shim program.

use nauplius_base::task::CancellationToken;
use nauplius_base::{id, time};
use nauplius_cri::v1::*;
use nauplius_cri::{CriError, RuntimeService};
use nauplius_images::build::ImageBuilder;
use nauplius_images::{ImageStore, Registries};
use nauplius_runtime::{Addresses, NetworkError, Runtime, RuntimeOptions, SandboxInfo, SandboxNetwork};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const IMAGE: &str = "bench.local/sh:1";

struct NoNetwork;

impl SandboxNetwork for NoNetwork {
    fn attach(&self, _: &SandboxInfo) -> Result<Addresses, NetworkError> {
        Ok(Addresses::default())
    }

    fn detach(&self, _: &SandboxInfo) -> Result<(), NetworkError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|mode| mode == "shim") {
        nauplius_runtime::shim_main(arguments.skip(1));
    }
    let pods = arguments.next().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(20);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(pods))
}

async fn image(store: &ImageStore) -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = ImageBuilder::new();
    for program in ["/bin/sh", "/bin/sleep", "/bin/cat"] {
        builder.add_file(program, Path::new(program), 0o755)?;
        let output = Command::new("ldd").arg(program).output()?;
        for word in String::from_utf8(output.stdout)?.split_whitespace().filter(|word| word.starts_with('/'))
        {
            builder.add_file(word, Path::new(word), 0o755)?;
        }
    }
    builder.store(store, &[IMAGE.parse()?]).await?;
    Ok(())
}

async fn measure(pods: usize) -> Result<(), Box<dyn std::error::Error>> {
    let name = format!("nauplius-bench-{}", id::suffix(8));
    let root = std::env::temp_dir().join(&name);
    let store = ImageStore::open(&root.join("images")).await?;
    image(&store).await?;
    let options = RuntimeOptions {
        state_dir: root.join("state"),
        cgroup_root: format!("/{name}"),
        program: std::env::current_exe()?,
        version: String::new(),
        rlimits: Vec::new(),
    };
    let network = Arc::new(NoNetwork);
    let runtime =
        Runtime::open(options, store, Registries::default(), network, CancellationToken::new()).await?;
    let outcome = rounds(&runtime, pods, &root, &name).await;
    runtime.destroy_all().await?;
    std::fs::remove_dir_all(&root)?;
    outcome.map_err(Into::into)
}

async fn rounds(runtime: &Runtime, pods: usize, root: &Path, name: &str) -> Result<(), CriError> {
    let mut steps: Vec<(&str, Vec<Duration>)> = [
        "RunPodSandbox",
        "CreateContainer",
        "StartContainer",
        "all three",
        "first log line",
        "ExecSync",
        "StopContainer",
        "RemovePodSandbox",
    ]
    .map(|step| (step, Vec::new()))
    .to_vec();
    let mut shims = Vec::new();
    for round in 0..pods {
        let sandbox = sandbox_config(round, root, name);
        let begin = time::monotonic();
        let request = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
        let pod = runtime.run_pod_sandbox(request).await?.pod_sandbox_id;
        let ran = begin.elapsed();
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(container_config(round)),
            sandbox_config: Some(sandbox),
        };
        let id = runtime.create_container(request).await?.container_id;
        let created = begin.elapsed();
        runtime.start_container(StartContainerRequest { container_id: id.clone() }).await?;
        let started = begin.elapsed();
        let log = root.join(format!("logs/{round}.log"));
        while std::fs::read(&log).is_ok_and(|text| text.is_empty()) {
            time::sleep(Duration::from_micros(100)).await;
        }
        let logged = begin.elapsed();
        let cmd = vec!["/bin/cat".to_owned(), "/dev/null".to_owned()];
        runtime.exec_sync(ExecSyncRequest { container_id: id.clone(), cmd, timeout: 10 }).await?;
        let executed = begin.elapsed();
        shims.push(root.join("state/sandboxes").join(&pod).join("shim.pid"));
        for (step, took) in
            steps.iter_mut().zip([ran, created - ran, started - created, started, logged, executed - logged])
        {
            step.1.push(took);
        }
        if round % 2 == 1 {
            let begin = time::monotonic();
            runtime.stop_container(StopContainerRequest { container_id: id, timeout: 0 }).await?;
            steps[6].1.push(begin.elapsed());
            let begin = time::monotonic();
            runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod }).await?;
            steps[7].1.push(begin.elapsed());
            shims.pop();
        }
    }
    for (step, times) in &mut steps {
        times.sort_unstable();
        let Some(last) = times.len().checked_sub(1) else { continue };
        let at = |share: usize| times[last * share / 100].as_secs_f64() * 1000.0;
        println!("{step:<18} median {:7.2} ms   p90 {:7.2} ms", at(50), at(90));
    }
    if let Some(file) = shims.first().filter(|_| std::env::var_os("SMAPS").is_some()) {
        let pid = std::fs::read_to_string(file).unwrap_or_default();
        println!("{}", std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default());
    }
    let pss: Vec<u64> = shims.iter().filter_map(|file| pss_kb(file)).collect();
    println!(
        "{} shims, PSS of one on average: {} kB",
        pss.len(),
        pss.iter().sum::<u64>() / pss.len().max(1) as u64
    );
    Ok(())
}

fn pss_kb(pid_file: &Path) -> Option<u64> {
    let pid = std::fs::read_to_string(pid_file).ok()?; // Not a shim that runs.
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?; // Nor this.
    let mut fields = text.lines().filter_map(|line| line.strip_prefix("Pss:"));
    fields.next()?.trim().trim_end_matches(" kB").parse().ok() // Always a number.
}

fn sandbox_config(round: usize, root: &Path, name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: format!("pod{round}"),
            uid: id::uuid(),
            namespace: "bench".into(),
            attempt: 0,
        }),
        hostname: format!("pod{round}"),
        log_directory: root.join("logs").display().to_string(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{name}/pod{round}"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config(round: usize) -> ContainerConfig {
    let seccomp = SecurityProfile {
        profile_type: security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    };
    let options = NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
        command: ["/bin/sh", "-c", "echo started; exec sleep 1000"].map(str::to_owned).to_vec(),
        log_path: format!("{round}.log"),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                cpu_shares: 100,
                ..Default::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(options),
                seccomp: Some(seccomp),
                no_new_privs: true,
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}
