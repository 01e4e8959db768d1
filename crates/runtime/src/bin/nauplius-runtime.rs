//! The runtime alone, for tests and for `crictl`: `shim DIRECTORY` is what the runtime starts itself; `serve STATE IMAGES SOCKET`
//! serves CRI on a unix socket, without a pod network. It must not be needed by the product, which embeds the runtime.

use nauplius_images::{ImageStore, Registries};
use nauplius_runtime::{Addresses, NetworkError, Runtime, RuntimeOptions, SandboxInfo, SandboxNetwork};
use std::path::PathBuf;
use std::sync::Arc;

struct LoopbackOnly;

impl SandboxNetwork for LoopbackOnly {
    fn attach(&self, _: &SandboxInfo) -> Result<Addresses, NetworkError> {
        Ok(Addresses::default())
    }

    fn detach(&self, _: &SandboxInfo) -> Result<(), NetworkError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|mode| mode.to_str()) {
        Some("shim") => nauplius_runtime::shim_main(arguments),
        Some("serve") => {
            let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
            let [state, images, socket] = paths.try_into().map_err(|_| "usage: serve STATE IMAGES SOCKET")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(state, images, socket))
        }
        _ => Err("usage: shim DIRECTORY | serve STATE IMAGES SOCKET".into()),
    }
}

async fn serve(
    state_dir: PathBuf,
    images: PathBuf,
    socket: PathBuf,
) -> Result<(), Box<dyn std::error::Error>> {
    let name = state_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let options = RuntimeOptions {
        state_dir,
        cgroup_root: format!("/nauplius-runtime-{name}"),
        program: "/proc/self/exe".into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rlimits: Vec::new(),
    };
    let images = ImageStore::open(&images).await?;
    let token = nauplius_base::task::CancellationToken::new();
    let runtime =
        Runtime::open(options, images, Registries::default(), Arc::new(LoopbackOnly), token).await?;
    let listener = tokio::net::UnixListener::bind(socket)?;
    let runtime = Arc::new(runtime);
    nauplius_cri::grpc::serve(listener, Arc::clone(&runtime) as _, runtime, std::future::pending()).await?;
    Ok(())
}
