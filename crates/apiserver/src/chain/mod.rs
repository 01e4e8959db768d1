//! What every request goes through, in order: panic guard, Audit-Id, limits, authentication, authorization, dispatch. Each step
//! only decides whether the next may run.

mod flows;
mod forbidden;
mod impersonation;
mod lasting;
mod limits;
mod room;

use flows::Flow;
pub(crate) use flows::Flows;
pub(crate) use lasting::Seat;
pub use limits::Limits;
use limits::REQUEST_TIMEOUT;
pub(crate) use limits::{InFlight, drain, is_long_running, lasts};

use crate::authn::{self, Outcome};
use crate::metrics::access;
use crate::negotiate::Output;
use crate::request::{ALL_AUTHENTICATED, Attributes, Call, Query, RequestInfo, UserInfo};
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::warning::Warnings;
use crate::{dispatch, gzip, health};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HeaderName, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use nauplius_base::time::{monotonic, timeout};
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The identity of an in-process request. Only [`ApiServer::transport`] makes one, and listeners remove it.
#[derive(Clone)]
pub(crate) struct Identity(Arc<UserInfo>);

impl Identity {
    pub(crate) fn new(user: UserInfo) -> Self {
        Self(Arc::new(user))
    }
}

/// Runs one request.
pub(crate) async fn run(server: Arc<ApiServer>, request: Request<Body>) -> Reply {
    let audit_id = audit_id(request.headers());
    let path = request.uri().path().to_owned();
    let work: BoxFuture<'static, Reply> = Box::pin(answer(server, request));
    let guarded = AssertUnwindSafe(work).catch_unwind().await;
    let mut reply = guarded.unwrap_or_else(|_| {
        tracing::error!(path, "a request panicked");
        let message = "This request caused apiserver to panic. Look in the logs for details.";
        respond::plain_error(StatusCode::INTERNAL_SERVER_ERROR, message)
    });
    reply.headers_mut().insert(AUDIT_ID.clone(), audit_id);
    reply
}

/// The client's own id when it sent one, as upstream takes it.
fn audit_id(headers: &http::HeaderMap) -> HeaderValue {
    let own = headers.get(&AUDIT_ID).filter(|value| !value.is_empty() && value.len() <= 64).cloned();
    own.unwrap_or_else(|| {
        HeaderValue::try_from(nauplius_base::id::uuid()).expect("a uuid is made of header characters")
    })
}

async fn answer(server: Arc<ApiServer>, request: Request<Body>) -> Reply {
    let mut flow = None;
    let mut reply = match admit(&server, request, &mut flow).await {
        Ok((call, body)) => serve(server, call, body).await,
        Err(refusal) => refused(&refusal),
    };
    if let Some(flow) = flow {
        flow.mark(&mut reply);
    }
    reply
}

/// A refusal before anything is served. A 403 of the authorizer names what the client sent, so upstream tells browsers to take it as
/// nothing but what it says it is.
fn refused(refusal: &ApiError) -> Reply {
    let mut reply = respond::error(refusal, &Output::json());
    if reply.status() == StatusCode::FORBIDDEN {
        reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    reply
}

/// Parsing, authentication and authorization; in between, what the request belongs to is found out.
async fn admit(
    server: &ApiServer,
    request: Request<Body>,
    flow: &mut Option<Flow>,
) -> Result<(Call, Body), ApiError> {
    let (mut parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let user = Arc::new(counted(server, &parts).await?);
    authn::bearer::conceal(&mut parts.headers);
    let user = impersonation::apply(server, user, &parts).await?;
    *flow = server.flows.classify(server.caches(), &user, &info);
    let attributes = Attributes::of(&user, &info, &query);
    authorize(server, &attributes).await?;
    Ok((Call { parts, info, query, user, warnings: Warnings::default(), seat: None }, body))
}

/// Authentication, counted where there are credentials to judge.
async fn counted(server: &ApiServer, parts: &Parts) -> Result<UserInfo, ApiError> {
    let start = monotonic();
    let outcome = authenticate(server, parts).await;
    access::authenticated(outcome.as_ref().map_err(|_| "failure"), start);
    outcome
}

async fn authenticate(server: &ApiServer, parts: &Parts) -> Result<UserInfo, ApiError> {
    if let Some(Identity(user)) = parts.extensions.get::<Identity>() {
        return Ok((**user).clone());
    }
    match authn::authenticate(&server.config.authenticators, parts).await {
        Outcome::User(mut user) => {
            if !user.in_group(ALL_AUTHENTICATED) {
                user.groups.push(ALL_AUTHENTICATED.to_owned());
            }
            Ok(*user)
        }
        Outcome::NoCredentials if server.config.anonymous => Ok(UserInfo::anonymous()),
        Outcome::NoCredentials => Err(unauthorized()),
        Outcome::Invalid(reasons) => {
            for reason in reasons {
                tracing::info!(%reason, "credentials were refused");
            }
            Err(unauthorized())
        }
    }
}

fn unauthorized() -> ApiError {
    ApiError::Status(Box::new(Status::failure(401, Reason::Unauthorized, "Unauthorized")))
}

/// Asks the authorizer.
///
/// # Errors
/// 403 in upstream's words.
pub(crate) async fn authorize(server: &ApiServer, attributes: &Attributes) -> Result<(), ApiError> {
    let start = monotonic();
    let verdict = server.config.authorizer.authorize(attributes).await;
    access::authorized(verdict.decision, start);
    if verdict.decision == crate::authz::Decision::Allow {
        return Ok(());
    }
    Err(forbidden::error(attributes, &verdict.reason))
}

async fn serve(server: Arc<ApiServer>, mut call: Call, body: Body) -> Reply {
    let started = monotonic();
    let long = limits::is_long_running(&call);
    let patience = match limits::patience(&call) {
        Ok(patience) => patience.unwrap_or(REQUEST_TIMEOUT).min(REQUEST_TIMEOUT),
        // What is meant to last has no deadline that could be wrong.
        Err(_) if long => REQUEST_TIMEOUT,
        Err(refusal) => return respond::error(&refusal, &Output::json()),
    };
    if !long && server.shutdown_token().is_cancelled() && !health::is_asked(&call.info.path) {
        return limits::ending();
    }
    let permit = match server.in_flight.enter(&call, long) {
        Ok(permit) => permit,
        Err(limits::TooMany) => {
            let reply = limits::too_many();
            server.metrics.dropped(&call);
            server.metrics.terminated(&server, &call, reply.status());
            server.metrics.answered(&server, &call, started, &reply);
            return reply;
        }
    };
    let mut short = None;
    if long {
        call.seat = Some(Seat::new(permit, server.metrics.lasting(&server, &call)));
    } else {
        short = permit;
    }
    let call = Arc::new(call);
    let work = async {
        let (body, _room) = if long { (body, None) } else { room::make(&server.in_flight, body).await };
        dispatch::dispatch(Arc::clone(&server), Arc::clone(&call), body).await
    };
    let mut reply = if long {
        work.await
    } else {
        match timeout(patience, work).await {
            Ok(reply) => reply,
            Err(_) => {
                server.metrics.terminated(&server, &call, StatusCode::GATEWAY_TIMEOUT);
                respond::error(&too_slow(), &Output::json())
            }
        }
    };
    server.metrics.answered(&server, &call, started, &reply);
    match &call.seat {
        Some(seat) => {
            let ends_itself = call.info.verb == "watch";
            let stop = Some(server.shutdown_token().clone()).filter(|_| !ends_itself);
            reply = lasting::held(reply, Arc::clone(seat), stop);
        }
        None => reply = gzip::apply(&call.parts.headers, reply, &server.in_flight),
    }
    drop(short);
    for warning in call.warnings.headers() {
        // Control characters were removed, so only text beyond ASCII is left, which header values may carry as bytes.
        if let Ok(value) = HeaderValue::from_bytes(warning.as_bytes()) {
            reply.headers_mut().append(WARNING, value);
        }
    }
    reply
}

fn too_slow() -> ApiError {
    ApiError::Timeout {
        message: "request did not complete within the allotted timeout".to_owned(),
        retry_after_s: 0,
    }
}
