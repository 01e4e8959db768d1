//! Everything at once: full lists, watchers that do not read and watchers that do, writes as fast as they go, objects near the largest
//! body, and beside them a client that wants a single answer. The figures that count are the server's peak of memory, that client's p99,
//! and how many events a second arrive.

use crate::error::BenchError;
use crate::load::{Budget, Load, closed_loop};
use crate::objects::{config_map, large_pod, name};
use crate::options::Resource;
use crate::process;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::{Ask, Wire, patient_piece};
use crate::workload::watches::{Lines, from_now, lag_of, mark};
use futures_util::future::try_join_all;
use futures_util::try_join;
use http::{Method, Response};
use hyper::body::Incoming;
use nauplius_base::time::{Instant, monotonic, sleep_until};
use std::time::Duration;

const LISTERS: usize = 200;
const STALLED: usize = 2_000;
const WRITERS: usize = 64;
const STORM: usize = 4;
/// Watchers that read: with two hundred updates a second they are sent 10,000 events.
const READERS: usize = 50;
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
    for (what, clients, load) in &loads.rows() {
        bench.row(Row::of(format!("pressure on {objects}: {what}"), *clients, load, None));
    }
    let mut row = Row::of(format!("pressure on {objects}: memory"), STALLED, &loads.get, cost);
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

/// What all of them did.
struct Loads {
    get: Load,
    one: Load,
    lists: Load,
    updates: Load,
    storm: Load,
    deliveries: Load,
}

impl Loads {
    fn rows(&self) -> [(&'static str, usize, &Load); 6] {
        [
            ("get", 1, &self.get),
            ("update of another's", 1, &self.one),
            ("full list", LISTERS, &self.lists),
            ("updates", WRITERS, &self.updates),
            ("objects of 2.9 MB", STORM, &self.storm),
            ("deliveries", READERS, &self.deliveries),
        ]
    }
}

async fn load(bench: &Bench<'_>, objects: usize) -> Result<Loads, BenchError> {
    let maps = bench.collection(Resource::Configmaps);
    let pods = bench.collection(Resource::Pods);
    let (maps, pods) = (&maps, &pods);
    let time = Duration::from_secs_f64(bench.args.seconds.max(0.0) * TIMES);
    let budget = Budget { time, requests: usize::MAX };
    let target = &bench.target;
    // Large bodies hold up what comes behind them on their connection, so those who send them have one of their own.
    let (single, listers) = (&target.connect(1).await?, &target.connect(LISTERS).await?);
    let (writers, large) = (&target.connect(WRITERS).await?, &target.connect(STORM).await?);
    let readers = &target.connect(READERS).await?;
    let origin = monotonic();
    let get = closed_loop(1, budget, |_, number| async move {
        let path = format!("{maps}/{}", name("pressure", number % objects));
        single.ok(0, &Ask::get(path)).await
    });
    let one = closed_loop(1, budget, |_, number| put(single, maps, 0, number % objects, origin));
    let lists = closed_loop(LISTERS, budget, |client, _| async move {
        listers.ok(client, &Ask::get(maps.as_str())).await
    });
    let updates =
        closed_loop(WRITERS, budget, |client, number| put(writers, maps, client, number % objects, origin));
    let storm = closed_loop(STORM, budget, |client, number| storm(large, pods, client, number));
    let deliveries = deliveries(readers, maps, origin, time);
    let (get, one, lists, updates, storm, deliveries) =
        try_join!(get, one, lists, updates, storm, deliveries)?;
    Ok(Loads { get, one, lists, updates, storm, deliveries })
}

/// What watchers are sent that read, with how long it took from the write's sending.
async fn deliveries(wire: &Wire, maps: &str, origin: Instant, time: Duration) -> Result<Load, BenchError> {
    let readers = (0..READERS).map(|client| read(wire, maps, client, origin, origin + time));
    let latencies_ms = try_join_all(readers).await?.concat();
    Ok(Load { latencies_ms, seconds: origin.elapsed().as_secs_f64(), bytes: 0 })
}

/// Reads until the time is up; a watcher that falls behind begins anew, as clients do.
async fn read(
    wire: &Wire,
    maps: &str,
    client: usize,
    origin: Instant,
    end: Instant,
) -> Result<Vec<f64>, BenchError> {
    let mut lags_ms = Vec::new();
    let over = sleep_until(end);
    tokio::pin!(over);
    loop {
        let ask = from_now(wire, maps).await?;
        let (mut body, mut lines) = (wire.good(client, &ask).await?.into_body(), Lines::default());
        loop {
            let data = tokio::select! {
                biased;
                () = &mut over => return Ok(lags_ms),
                data = patient_piece(&mut body, &ask) => data?,
            };
            let Some(data) = data else { break };
            let now = origin.elapsed();
            lines.take(&data, |line| lags_ms.extend(lag_of(line, now)));
        }
    }
}

/// Updates one of the objects; its event tells when this was sent.
async fn put(
    wire: &Wire,
    maps: &str,
    client: usize,
    index: usize,
    origin: Instant,
) -> Result<u64, BenchError> {
    let name = name("pressure", index);
    let ask = Ask::new(Method::PUT, format!("{maps}/{name}"), config_map(&name, index, &mark(origin)));
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
