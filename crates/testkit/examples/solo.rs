//! An API server alone, for measurements: `cargo run --release -p nauplius-testkit --example solo DIRECTORY [PORT]`. Its kubeconfig
//! is in the directory; it runs until it is told to end.

use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_testkit::solo::{SetupError, Solo, kubeconfig_in};
use std::path::PathBuf;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), SetupError> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("the directory is missing")?);
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    std::fs::create_dir_all(&directory)?;
    let store = EmbeddedStore::open(&directory.join("store"), Options::default()).await?;
    let solo = Solo::start(&directory, Arc::new(store.clone()), port).await?;
    println!("{} {}", solo.address, kubeconfig_in(&directory).display());
    tokio::signal::ctrl_c().await?;
    solo.group.shut_down();
    store.close().await?;
    Ok(())
}
