//! The same as `nauplius bench api`, without building the rest: `cargo run --release -p nauplius-bench --example api -- --kubeconfig F`

use clap::Parser;
use nauplius_bench::{ApiArgs, BenchError};
use std::error::Error;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    api: ApiArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse().api;
    let kubeconfig = arguments.kubeconfig.clone().unwrap_or_else(|| PathBuf::from("kubeconfig"));
    let report =
        nauplius_bench::run(&kubeconfig, &arguments).await.map_err(|error: BenchError| error.to_string())?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}
