//! Creates, updates, merge patches, server-side applies and deletes of config maps of 1 KB. Whether an acknowledged write is on disk is
//! the server's promise; nothing here asks for less.

use crate::error::BenchError;
use crate::load::{Budget, Load, closed_loop};
use crate::objects::{config_map, name};
use crate::options::Resource;
use crate::report::Row;
use crate::run::Bench;
use crate::wire::{Ask, Wire};
use http::Method;
use serde_json::json;
use std::time::Duration;

/// Objects that one measurement makes at most.
const MAX_OBJECTS: usize = 100_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Create,
    Update,
    Patch,
    Apply,
    Delete,
}

impl Write {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Apply => "apply",
            Self::Delete => "delete",
        }
    }

    /// The request that writes object `index`; `mark` makes each form a new one.
    fn ask(self, collection: &str, prefix: &str, index: usize, mark: usize) -> Ask {
        let name = name(prefix, index);
        let one = format!("{collection}/{name}");
        let mark = format!("{}-{mark}", self.verb());
        match self {
            Self::Create => Ask::new(Method::POST, collection, config_map(&name, index, &mark)),
            Self::Update => Ask::new(Method::PUT, one, config_map(&name, index, &mark)),
            Self::Patch => {
                let patch = json!({"data": {"mark": mark}}).to_string();
                Ask {
                    content_type: Some("application/merge-patch+json"),
                    ..Ask::new(Method::PATCH, one, patch)
                }
            }
            Self::Apply => {
                let path = format!("{one}?fieldManager=nauplius-bench&force=true");
                let ask = Ask::new(Method::PATCH, path, config_map(&name, index, &mark));
                Ask { content_type: Some("application/apply-patch+yaml"), ..ask }
            }
            Self::Delete => Ask::new(Method::DELETE, one, ""),
        }
    }
}

pub async fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    for clients in bench.args.clients.clone() {
        let wire = bench.target.connect(clients).await?;
        let prefix = format!("writes{clients}");
        let made = measure(bench, &wire, Write::Create, clients, &prefix, MAX_OBJECTS).await?;
        for write in [Write::Update, Write::Patch, Write::Apply] {
            measure(bench, &wire, write, clients, &prefix, made).await?;
        }
        measure(bench, &wire, Write::Delete, clients, &prefix, made).await?;
        bench.remove(Resource::Configmaps).await?;
    }
    Ok(())
}

/// Measures one kind of write over `objects` objects and returns how many were written.
async fn measure(
    bench: &mut Bench<'_>,
    wire: &Wire,
    write: Write,
    clients: usize,
    prefix: &str,
    objects: usize,
) -> Result<usize, BenchError> {
    let what = format!("{} configmaps", write.verb());
    let collection = bench.collection(Resource::Configmaps);
    if write == Write::Apply
        && let Some(reason) = refused(wire, &write.ask(&collection, prefix, 0, usize::MAX)).await?
    {
        bench.row(Row::refused(what, clients, reason));
        return Ok(0);
    }
    let once = matches!(write, Write::Create | Write::Delete);
    let requests = if once { objects } else { usize::MAX };
    let budget = Budget { time: Duration::from_secs_f64(bench.args.seconds.max(0.0)), requests };
    let meter = bench.meter();
    let load = load(wire, write, clients, budget, (&collection, prefix, objects)).await?;
    bench.row(Row::of(what, clients, &load, meter.read()));
    Ok(load.latencies_ms.len())
}

/// Each client has its own share of the objects, so that no two writes of one object are under way.
async fn load(
    wire: &Wire,
    write: Write,
    clients: usize,
    budget: Budget,
    (collection, prefix, objects): (&str, &str, usize),
) -> Result<Load, BenchError> {
    closed_loop(clients, budget, |client, number| async move {
        let index = match write {
            Write::Create | Write::Delete => number,
            _ => own_share(client, clients, number, objects),
        };
        wire.ok(client, &write.ask(collection, prefix, index, number)).await
    })
    .await
}

/// An object of the client's own: those whose number leaves it as the remainder.
fn own_share(client: usize, clients: usize, number: usize, objects: usize) -> usize {
    let own = (objects + clients - 1 - client.min(objects)) / clients;
    if own == 0 { client % objects.max(1) } else { client + clients * ((number / clients) % own) }
}

async fn refused(wire: &Wire, ask: &Ask) -> Result<Option<String>, BenchError> {
    match wire.ok(0, ask).await {
        Ok(_) => Ok(None),
        Err(BenchError::Refused { code, .. }) => Ok(Some(format!("refused with {code}"))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_clients_share_an_object() {
        for (clients, objects) in [(1, 7), (3, 10), (16, 100), (16, 17)] {
            for client in 0..clients {
                for number in 0..500 {
                    let index = own_share(client, clients, number, objects);
                    assert!(
                        index < objects && index % clients == client,
                        "{index} of {client} {clients} {objects}"
                    );
                }
            }
        }
    }

    #[test]
    fn writes_are_the_requests_that_clients_send() {
        let apply = Write::Apply.ask("/c", "p", 3, 9);
        assert_eq!(apply.path, "/c/p-0000003?fieldManager=nauplius-bench&force=true");
        assert_eq!(apply.content_type, Some("application/apply-patch+yaml"));
        assert!(apply.body.contains("\"mark\":\"apply-9\""));
        assert_eq!(Write::Delete.ask("/c", "p", 3, 9).body, "");
    }
}
