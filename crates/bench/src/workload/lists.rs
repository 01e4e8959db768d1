//! Lists of whole collections, of pages, of selections; plain and compressed, as JSON and as protobuf, consistent and from the cache.

use crate::error::BenchError;
use crate::load::{Budget, closed_loop};
use crate::objects::{self, LABEL_SELECTOR, POD_SELECTOR};
use crate::options::Resource;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::{Ask, Wire};
use std::time::Duration;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PAGE: usize = 500;

/// One way to list.
struct Variant {
    name: &'static str,
    query: String,
    accept: Option<&'static str>,
    gzip: bool,
}

fn variants(resource: Resource) -> Vec<Variant> {
    let plain = |name, query: &str| Variant { name, query: query.to_owned(), accept: None, gzip: false };
    let fields = match resource {
        Resource::Configmaps => format!("metadata.name%3D{}", objects::name("lists", 7)),
        Resource::Pods => POD_SELECTOR.to_owned(),
    };
    vec![
        plain("whole", ""),
        plain("whole rv=0", "resourceVersion=0"),
        plain("limit=500", &format!("limit={PAGE}")),
        plain("label selector", &format!("labelSelector={LABEL_SELECTOR}")),
        plain("field selector", &format!("fieldSelector={fields}")),
        Variant { gzip: true, ..plain("gzip", "") },
        Variant { gzip: true, ..plain("gzip rv=0", "resourceVersion=0") },
        Variant { accept: Some(PROTOBUF), ..plain("protobuf", "") },
        Variant { accept: Some(PROTOBUF), ..plain("protobuf rv=0", "resourceVersion=0") },
        Variant { accept: Some(PROTOBUF), gzip: true, ..plain("protobuf gzip", "") },
    ]
}

pub async fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    let mut sizes = bench.args.objects.clone();
    sizes.sort_unstable();
    for resource in bench.args.resources.clone() {
        let mut there = 0;
        for size in &sizes {
            bench.fill(resource, "lists", there, *size).await?;
            there = *size;
            for clients in bench.args.list_clients.clone() {
                let wire = bench.target.connect(clients).await?;
                for variant in variants(resource) {
                    measure(bench, &wire, resource, *size, clients, &variant).await?;
                }
                walk(bench, &wire, resource, *size, clients).await?;
            }
        }
        bench.remove(resource).await?;
    }
    Ok(())
}

async fn measure(
    bench: &mut Bench<'_>,
    wire: &Wire,
    resource: Resource,
    size: usize,
    clients: usize,
    variant: &Variant,
) -> Result<(), BenchError> {
    let path = format!("{}?{}", bench.collection(resource), variant.query);
    let ask = Ask { accept: variant.accept, gzip: variant.gzip, ..Ask::get(path) };
    let budget = Budget { time: Duration::from_secs_f64(bench.args.seconds.max(0.0)), requests: usize::MAX };
    let meter = bench.meter();
    let ask = &ask;
    let load = closed_loop(clients, budget, |client, _| async move { wire.ok(client, ask).await }).await?;
    bench.row(Row::of(format!("list {resource} {size} {}", variant.name), clients, &load, meter.read()));
    Ok(())
}

/// The whole collection by pages, each from the continue token of the one before; one figure is a whole walk.
async fn walk(
    bench: &mut Bench<'_>,
    wire: &Wire,
    resource: Resource,
    size: usize,
    clients: usize,
) -> Result<(), BenchError> {
    let collection = bench.collection(resource);
    let budget = Budget { time: Duration::from_secs_f64(bench.args.seconds.max(0.0)), requests: usize::MAX };
    let meter = bench.meter();
    let collection = &collection;
    let load = closed_loop(clients, budget, |client, _| pages(wire, client, collection)).await?;
    bench.row(Row::of(format!("list {resource} {size} by pages of 500"), clients, &load, meter.read()));
    Ok(())
}

async fn pages(wire: &Wire, client: usize, collection: &str) -> Result<u64, BenchError> {
    let (mut token, mut received) = (String::new(), 0);
    loop {
        let path = format!("{collection}?limit={PAGE}&continue={token}");
        let page = wire.text(client, &Ask::get(path)).await?;
        received += page.len() as u64;
        match continue_of(&page) {
            Some(next) => token = next.to_owned(),
            None => return Ok(received),
        }
    }
}

/// The continue token of a page. It stands before the items, which are not parsed.
fn continue_of(page: &str) -> Option<&str> {
    const NAME: &str = "\"continue\":\"";
    let head = &page[..page.find("\"items\"").unwrap_or(page.len())];
    let start = head.find(NAME)? + NAME.len();
    let token = &head[start..start + head[start..].find('"')?];
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_that_of_the_list() {
        let page =
            r#"{"kind":"L","metadata":{"resourceVersion":"7","continue":"abc"},"items":[{"continue":"no"}]}"#;
        assert_eq!(continue_of(page), Some("abc"));
        let last =
            r#"{"kind":"L","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"continue":"no"}}]}"#;
        assert_eq!(continue_of(last), None);
    }

    #[test]
    fn every_way_to_list_is_measured() {
        let names: Vec<_> = variants(Resource::Pods).iter().map(|variant| variant.name).collect();
        assert_eq!(names.len(), 10);
        assert!(variants(Resource::Pods).iter().filter(|variant| variant.accept.is_some()).count() == 3);
    }
}
