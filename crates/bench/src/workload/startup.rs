//! How long a server takes to come back with many objects in its store. How it is stopped and started is told from outside.

use crate::error::BenchError;
use crate::load::Load;
use crate::options::Resource;
use crate::process;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::Ask;
use nauplius_base::time::{monotonic, sleep};
use std::time::Duration;
use tokio::process::Command;

/// How often it is asked whether it is there.
const POLL: Duration = Duration::from_millis(20);

pub async fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    let objects = bench.args.startup_objects;
    let what = format!("start with {objects} configmaps");
    let Some(command) = bench.args.restart.clone() else {
        bench.row(Row::refused(what, 1, "needs --restart COMMAND"));
        return Ok(());
    };
    bench.fill(Resource::Configmaps, "startup", 0, objects).await?;
    let loaded_mib = process::resident_mib(&bench.pids);
    let began = monotonic();
    restart(&command).await?;
    ready(bench).await?;
    let seconds = began.elapsed().as_secs_f64();
    let load = Load { latencies_ms: vec![seconds * 1e3], seconds, bytes: 0 };
    let cost = process::Meter::whole_life(&bench.pids);
    let mut row = Row::of(what, 1, &load, cost);
    row.note = format!(
        "from the command's start to /readyz and a first list; {loaded_mib:.0} MiB before, {:.0} MiB after",
        process::resident_mib(&bench.pids)
    );
    bench.row(row);
    bench.remove(Resource::Configmaps).await
}

/// The command returns when the new server is on its way.
async fn restart(command: &str) -> Result<(), BenchError> {
    let failed = |reason: String| BenchError::Restart { reason };
    let status = Command::new("sh").arg("-c").arg(command).status().await;
    let status = status.map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

async fn ready(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    let began = monotonic();
    loop {
        let answered = answers(bench).await;
        if answered.is_ok() || began.elapsed() > super::PATIENCE {
            return answered;
        }
        sleep(POLL).await;
    }
}

async fn answers(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    bench.reconnect().await?;
    bench.wire.ok(0, &Ask::get("/readyz")).await?;
    let first = format!("{}?limit=1", bench.collection(Resource::Configmaps));
    bench.wire.ok(0, &Ask::get(first)).await.map(|_| ())
}
