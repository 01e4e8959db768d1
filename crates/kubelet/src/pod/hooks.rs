//! Runs a container's lifecycle hooks for the pod, and tells what came of them beside their outcome.

use super::stop::Scene;
use crate::probe::hook::{self, Ran};
use nauplius_kinds::api::core::{Container, LifecycleHandler};
use nauplius_reconcile::EventKind;

/// Runs the handler in or at the container `id`; `ip` is the pod's address.
///
/// # Errors
/// Why it failed, in words.
pub async fn run(
    scene: &dyn Scene,
    container: &Container,
    id: &str,
    ip: Option<&str>,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    let target = hook::Target { runtime: scene.runtime(), container, id, ip };
    if let Ran::WithoutTls(to) = hook::run(&target, handler).await? {
        scene.count_fallback();
        let message =
            format!("request to HTTPS lifecycle hook {to} got HTTP response, retry with HTTP succeeded");
        scene.event(None, EventKind::Warning, "LifecycleHTTPFallback", message);
    }
    Ok(())
}
