//! Stops the pods of a node that goes down: hooks, graces and order are those of a deletion, but the API keeps the pods, and the next
//! kubelet starts them again. No actor may run any more.

use super::jobs::PodJob;
use super::observe::observe;
use super::{facts, stop};
use crate::context::Context;
use crate::waker::Waker;
use futures_util::future::join_all;
use nauplius_base::task::CancellationToken;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use std::sync::Arc;

/// Stops every pod that the API knew last.
pub async fn all(context: &Arc<Context>) {
    let pods = context.pods.snapshot();
    join_all(pods.iter().map(|pod| one(context, pod))).await;
}

async fn one(context: &Arc<Context>, pod: &Arc<Pod>) {
    let observed = match observe(&*context.runtime, pod.uid()).await {
        Ok(observed) => observed,
        // Whoever stops sandboxes next finds it.
        Err(error) => {
            return tracing::warn!(pod = pod.name(), %error, "the runtime does not tell about a pod");
        }
    };
    let job = PodJob {
        context: Arc::clone(context),
        pod: Arc::clone(pod),
        followed: context.sources.for_pod(pod.namespace(), pod.uid(), Waker::default()),
        interrupt: CancellationToken::new(),
    };
    stop::terminate(&job, &observed, facts::grace_s(pod)).await;
    if let Err(error) = job.stop_sandboxes(&observed).await {
        tracing::warn!(pod = pod.name(), error, "a pod's sandbox could not be stopped");
    }
}
