//! Follows one resource for the graph: a list, then a watch from its revision, for ever. It keeps only where it stands.

use super::{Graph, Seen};
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::api::escape;
use nauplius_client::{Client, ClientError, WatchEvent, WatchStream};
use nauplius_kinds::Object;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A watch is renewed after 5 to 10 minutes, as client-go does.
const WATCH_MIN_S: u64 = 300;
/// Objects of one page of a list.
const PAGE: u32 = 500;

pub(super) struct Follower {
    graph: Arc<Graph>,
    client: Client,
    resource: usize,
    backoff: Backoff,
    is_synced: bool,
}

impl Follower {
    /// Nobody waits for its first list.
    pub fn unawaited(self) -> Self {
        Self { is_synced: true, ..self }
    }

    /// Follows until the end of everything or of the resource: once that has come, until the server ends the watch, which has told all
    /// that happened before.
    pub async fn run_until(
        mut self,
        shutdown: CancellationToken,
        end: CancellationToken,
    ) -> Result<(), Infallible> {
        if shutdown.run_until_cancelled(self.follow(&end)).await.is_some() {
            let Self { graph, resource, .. } = self;
            if !graph.resources.is_served(resource) {
                graph.forget(resource);
            }
        }
        Ok(())
    }

    pub fn new(graph: Arc<Graph>, client: Client, resource: usize) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30)).with_jitter(0.5);
        Self { graph, client, resource, backoff, is_synced: false }
    }

    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        shutdown.run_until_cancelled(self.follow(&CancellationToken::new())).await;
        Ok(())
    }

    async fn follow(&mut self, end: &CancellationToken) {
        let mut stand: Option<String> = None;
        loop {
            let listed = stand.is_none();
            let outcome = match &mut stand {
                None => self.list().await.map(|revision| stand = Some(revision)),
                Some(revision) => self.watch(revision).await,
            };
            let goes_on = listed && outcome.is_ok();
            if end.is_cancelled() && !goes_on {
                return;
            }
            match outcome {
                Ok(()) => self.backoff.reset(),
                Err(error) if error.is_expired() => stand = None,
                Err(error) => {
                    let resource = self.graph.resource(self.resource);
                    tracing::debug!(resource = %resource.plural, %error, "cannot follow a resource, retrying");
                    time::sleep(self.backoff.next_delay()).await;
                }
            }
        }
    }

    async fn get(&self, query: &str) -> Result<bytes::Bytes, ClientError> {
        let url = self.graph.resource(self.resource).path("", None) + query;
        self.client.request(http::Method::GET, &url, None, None).await
    }

    async fn list(&mut self) -> Result<String, ClientError> {
        let mut things = Vec::new();
        let mut query = "?resourceVersion=0".to_owned();
        let revision = loop {
            let page = Seen::decode_list(&self.get(&query).await?)?;
            things.extend(page.items.into_iter().map(|seen| seen.thing(self.resource)));
            if page.continue_token.is_empty() {
                break page.resource_version;
            }
            query = format!("?limit={PAGE}&continue={}", escape(&page.continue_token));
        };
        self.graph.replace(self.resource, things);
        if !std::mem::replace(&mut self.is_synced, true) {
            self.graph.first_list_is_through();
        }
        Ok(revision)
    }

    async fn watch(&mut self, revision: &mut String) -> Result<(), ClientError> {
        let timeout_s = WATCH_MIN_S + nauplius_base::id::below(WATCH_MIN_S);
        let path = self.graph.resource(self.resource).path("", None);
        let url = format!(
            "{path}?watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={timeout_s}",
            escape(revision)
        );
        let response = self.client.send(http::Method::GET, &url, None, None).await?;
        let mut stream = WatchStream::<Seen>::new(response.into_body());
        while let Some(event) = stream.next().await? {
            self.backoff.reset();
            match event {
                WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                    seen.resource_version().clone_into(revision);
                    self.graph.upsert(seen.thing(self.resource));
                }
                WatchEvent::Deleted(seen) => {
                    seen.resource_version().clone_into(revision);
                    self.graph.remove(&seen.thing(self.resource).uid);
                }
                WatchEvent::Bookmark { resource_version } => *revision = resource_version,
            }
        }
        Ok(())
    }
}
