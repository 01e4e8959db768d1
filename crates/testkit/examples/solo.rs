//! An API server alone, for measurements: `cargo run --release -p nauplius-testkit --example solo DIRECTORY [PORT]`. Its kubeconfig
//! is in the directory; it runs until it is told to end.

use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_testkit::solo::{SetupError, Solo, kubeconfig_in};
use std::path::PathBuf;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    fn mi_option_set(option: std::ffi::c_int, value: std::ffi::c_long);
}

/// As the server has it: memory that was freed goes back to the system after 10 ms (`mi_option_purge_delay`).
fn give_back_soon() {
    // SAFETY: the function is the allocator's own, and takes any option and value at any time.
    unsafe { mi_option_set(15, 10) };
}

#[tokio::main]
async fn main() -> Result<(), SetupError> {
    give_back_soon();
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
