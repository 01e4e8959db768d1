//! Runs a container's lifecycle hooks. A hook ends well or says why not; who waits for it sets the limit.

use super::http;
use super::http::{Ask, Unanswered};
use super::location::Location;
use nauplius_base::time;
use nauplius_cri::{RuntimeService, v1};
use nauplius_kinds::api::core::{Container, HTTPGetAction, LifecycleHandler};
use std::time::Duration;

/// A request of a hook may take so long.
const HTTP_LIMIT: Duration = Duration::from_secs(30);

/// Where a hook runs.
pub struct Target<'a> {
    /// For commands.
    pub runtime: &'a dyn RuntimeService,
    /// For named ports.
    pub container: &'a Container,
    /// The container's id.
    pub id: &'a str,
    /// The pod's address.
    pub ip: Option<&'a str>,
}

/// How a hook ran that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// As it was asked for.
    AsAsked,
    /// Over plain HTTP, although over TLS was asked for: the server there has none.
    WithoutTls(String),
}

/// Runs the handler.
///
/// # Errors
/// Why it failed, in words.
pub async fn run(target: &Target<'_>, handler: &LifecycleHandler) -> Result<Ran, String> {
    if let Some(action) = &handler.exec {
        let cmd = action.command.clone().unwrap_or_default();
        let text = cmd.join(" ");
        let request = v1::ExecSyncRequest { container_id: target.id.to_owned(), cmd, timeout: 0 };
        let answer = target.runtime.exec_sync(request).await.map_err(|error| error.to_string())?;
        return match answer.exit_code {
            0 => Ok(Ran::AsAsked),
            code => Err(format!(
                "command '{text}' exited with {code}: {}",
                String::from_utf8_lossy(&answer.stderr)
            )),
        };
    }
    if let Some(action) = &handler.http_get {
        let to = Location::of(target.container, action, target.ip.unwrap_or_default())?;
        return match ask(&to, action).await {
            Err(Unanswered::WithoutTls) => {
                let plain = without_credentials(action);
                ask(&to.in_the_open(), &plain).await.map_err(|error| error.to_string())?;
                Ok(Ran::WithoutTls(to.authority()))
            }
            outcome => outcome.map(|()| Ran::AsAsked).map_err(|error| error.to_string()),
        };
    }
    if let Some(action) = &handler.sleep {
        time::sleep(Duration::from_secs(action.seconds.max(0).cast_unsigned())).await;
        return Ok(Ran::AsAsked);
    }
    Err("invalid handler: none of exec, httpGet and sleep".to_owned())
}

/// Any answer will do: as upstream, a hook tells the application something and asks nothing.
async fn ask(to: &Location, action: &HTTPGetAction) -> Result<(), Unanswered> {
    match time::timeout(HTTP_LIMIT, http::get(to, Ask::of(action, http::HOOK_AGENT))).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Unanswered::Other("HTTP hook timed out".to_owned())),
    }
}

/// What may be read on its way.
fn without_credentials(action: &HTTPGetAction) -> HTTPGetAction {
    let mut action = action.clone();
    let headers = action.http_headers.iter_mut();
    headers.for_each(|headers| headers.retain(|own| !own.name.eq_ignore_ascii_case("authorization")));
    action
}
