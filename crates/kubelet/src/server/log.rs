//! Serves containers' logs.

use super::Server;
use super::answer::{Answer, stream, text};
use super::container::logged;
use super::route::{Query, Target};
use crate::logs::follow::{self, Following, Options};
use crate::pod::facts;
use bytes::Bytes;
use http::StatusCode;
use nauplius_base::task::spawn;
use nauplius_base::time;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of a log that wait for a slow reader.
const PIECES: usize = 4;

fn number<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, String> {
    match query.first(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| format!("{name}: Invalid value: {text:?}")),
    }
}

fn options(query: &Query) -> Result<Options, String> {
    let since_time = number(query, "sinceTime")?;
    let since_s: Option<u64> = number(query, "sinceSeconds")?;
    let ago = since_s
        .map(|seconds| time::now().checked_sub(Duration::from_secs(seconds)).unwrap_or(time::Timestamp::MIN));
    let streams = match query.first("stream").unwrap_or("All") {
        "All" | "" => ["stdout", "stderr"],
        "Stdout" => ["stdout", "stdout"],
        "Stderr" => ["stderr", "stderr"],
        other => {
            return Err(format!(
                "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
            ));
        }
    };
    Ok(Options {
        follow: query.is_set("follow"),
        timestamps: query.is_set("timestamps"),
        tail_lines: number(query, "tailLines")?,
        limit_bytes: number(query, "limitBytes")?,
        since: since_time.or(ago),
        streams,
    })
}

impl Server {
    pub(super) async fn log(&self, target: &Target, query: &Query) -> Answer {
        match self.try_log(target, query).await {
            Ok(answer) => answer,
            Err(answer) => *answer,
        }
    }

    async fn try_log(&self, target: &Target, query: &Query) -> Result<Answer, Box<Answer>> {
        let refuse = |message: String| Box::new(text(StatusCode::BAD_REQUEST, &message));
        let pod = self.pod(target, &format!("pod {:?} does not exist", target.pod))?;
        let options = options(query).map_err(refuse)?;
        if facts::any_container(&pod, &target.container).is_none() {
            let message = format!("container {:?} not found in pod {:?}", target.container, target.pod);
            return Err(Box::new(text(StatusCode::NOT_FOUND, &message)));
        }
        // Whoever subscribes first and looks second misses no end.
        let events = if options.follow {
            let events = self.context.runtime.container_events(nauplius_cri::v1::GetEventsRequest {}).await;
            Some(
                events
                    .map_err(|error| Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())))?,
            )
        } else {
            None
        };
        let observed = self.observed(&pod).await?;
        let (id, path) =
            logged(&pod, &observed, &target.container, query.is_set("previous")).map_err(refuse)?;
        let (sender, receiver) = mpsc::channel::<Bytes>(PIECES);
        let following =
            events.map(|events| Following { runtime: Arc::clone(&self.context.runtime), id, events });
        spawn("kubelet-log", async move {
            if let Err(error) = follow::send(&PathBuf::from(path), &options, following, &sender).await {
                tracing::debug!(%error, "a log could not be read to its end");
            }
        });
        Ok(stream("text/plain", receiver))
    }
}
