//! Everything at once: full lists, watchers that do not read, writes as fast as they go, objects near the largest body, and beside them a
//! client that wants a single answer. The figures that count are the server's peak of memory and that client's p99.

use crate::error::BenchError;
use crate::load::{Budget, Load, closed_loop};
use crate::objects::{config_map, large_pod, name};
use crate::options::Resource;
use crate::process;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::{Ask, Wire};
use futures_util::try_join;
use http::{Method, Response};
use hyper::body::Incoming;
use std::time::Duration;

const LISTERS: usize = 200;
const STALLED: usize = 2_000;
const WRITERS: usize = 64;
const STORM: usize = 4;
/// Measurements of this kind take longer, in multiples of the others.
const TIMES: f64 = 6.0;
/// What a stalled watcher takes before it stalls: the window of a client that asks for no other.
const STALLED_WINDOW: u32 = 65_535;

pub async fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    let objects = bench.args.objects.iter().copied().max().unwrap_or(50_000);
    bench.fill(Resource::Configmaps, "pressure", 0, objects).await?;
    let rest_mib = process::resident_mib(&bench.pids);
    let meter = bench.meter();
    let stalled_wire = bench.target.connect_with(STALLED, STALLED_WINDOW).await?;
    let stalled = stall(bench, &stalled_wire).await?;
    let stalled_mib = process::resident_mib(&bench.pids);
    let loads = load(bench, objects).await?;
    let cost = meter.read();
    drop(stalled);
    let peak_mib = cost.map_or(0.0, |cost| cost.peak_mib);
    let names = ["get", "update of another's", "full list", "updates", "objects of 2.9 MB"];
    let clients = [1, 1, LISTERS, WRITERS, STORM];
    for ((what, clients), load) in names.into_iter().zip(clients).zip(&loads) {
        bench.row(Row::of(format!("pressure on {objects}: {what}"), clients, load, None));
    }
    let mut row = Row::of(format!("pressure on {objects}: memory"), STALLED, &loads[0], cost);
    row.note = format!(
        "{rest_mib:.0} MiB at rest, {stalled_mib:.0} with {STALLED} watchers, {peak_mib:.0} at most: {:.2} times",
        peak_mib / rest_mib.max(1.0)
    );
    bench.row(row);
    bench.remove(Resource::Configmaps).await?;
    bench.remove(Resource::Pods).await
}

/// Watchers that never read.
async fn stall(bench: &Bench<'_>, wire: &Wire) -> Result<Vec<Response<Incoming>>, BenchError> {
    let mut open = Vec::with_capacity(STALLED);
    for client in 0..STALLED {
        let resource = if client % 4 == 0 { Resource::Pods } else { Resource::Configmaps };
        let path = format!("{}?watch=1&timeoutSeconds=1800&resourceVersion=0", bench.collection(resource));
        open.push(wire.good(client, &Ask::get(path)).await?);
    }
    Ok(open)
}

async fn load(bench: &Bench<'_>, objects: usize) -> Result<[Load; 5], BenchError> {
    let maps = bench.collection(Resource::Configmaps);
    let pods = bench.collection(Resource::Pods);
    let (maps, pods) = (&maps, &pods);
    let time = Duration::from_secs_f64(bench.args.seconds.max(0.0) * TIMES);
    let budget = Budget { time, requests: usize::MAX };
    let single = bench.target.connect(1).await?;
    let listers = bench.target.connect(LISTERS).await?;
    let writers = bench.target.connect(WRITERS + STORM).await?;
    let (single, listers, writers) = (&single, &listers, &writers);
    let get = closed_loop(1, budget, |_, number| async move {
        let path = format!("{maps}/{}", name("pressure", number % objects));
        single.ok(0, &Ask::get(path)).await
    });
    let one = closed_loop(1, budget, |_, number| put(single, maps, 0, number, objects, "single"));
    let lists = closed_loop(LISTERS, budget, |client, _| async move {
        listers.ok(client, &Ask::get(maps.as_str())).await
    });
    let updates =
        closed_loop(WRITERS, budget, |client, number| put(writers, maps, client, number, objects, "many"));
    let storm = closed_loop(STORM, budget, |client, number| storm(writers, pods, client, number));
    let (get, one, lists, updates, storm) = try_join!(get, one, lists, updates, storm)?;
    Ok([get, one, lists, updates, storm])
}

async fn put(
    wire: &Wire,
    maps: &str,
    client: usize,
    number: usize,
    objects: usize,
    mark: &str,
) -> Result<u64, BenchError> {
    let name = name("pressure", number % objects);
    let ask = Ask::new(
        Method::PUT,
        format!("{maps}/{name}"),
        config_map(&name, number, &format!("{mark}-{number}")),
    );
    match wire.ok(client, &ask).await {
        // Too much at once is a good answer here.
        Err(BenchError::Refused { code: 409 | 429, .. }) => Ok(0),
        answer => answer,
    }
}

/// A large object comes and goes; servers that take none so large refuse it.
async fn storm(wire: &Wire, pods: &str, client: usize, number: usize) -> Result<u64, BenchError> {
    let name = format!("large-{client}-{number}");
    let made = wire.ok(client, &Ask::new(Method::POST, pods, large_pod(&name))).await;
    match made {
        Err(BenchError::Refused { .. }) => return Ok(0),
        made => made?,
    };
    wire.ok(client, &Ask::new(Method::DELETE, format!("{pods}/{name}?gracePeriodSeconds=0"), "")).await
}
