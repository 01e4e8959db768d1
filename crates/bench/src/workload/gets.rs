//! Gets of one config map of 1 KB, consistent ones and ones from the cache.

use crate::error::BenchError;
use crate::load::{Budget, closed_loop};
use crate::objects::name;
use crate::options::Resource;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::Ask;
use std::time::Duration;

const OBJECTS: usize = 1_000;

pub async fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    bench.fill(Resource::Configmaps, "gets", 0, OBJECTS).await?;
    let collection = bench.collection(Resource::Configmaps);
    for clients in bench.args.clients.clone() {
        let wire = bench.target.connect(clients).await?;
        for (what, query) in [("get configmap", ""), ("get configmap rv=0", "?resourceVersion=0")] {
            let budget =
                Budget { time: Duration::from_secs_f64(bench.args.seconds.max(0.0)), requests: usize::MAX };
            let meter = bench.meter();
            let (wire, collection) = (&wire, &collection);
            let load = closed_loop(clients, budget, |client, number| async move {
                let path = format!("{collection}/{}{query}", name("gets", number % OBJECTS));
                wire.ok(client, &Ask::get(path)).await
            })
            .await?;
            bench.row(Row::of(what, clients, &load, meter.read()));
        }
    }
    bench.remove(Resource::Configmaps).await
}
