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
pub(crate) use limits::{InFlight, drain, is_long_running, lasts};

use crate::authn::{self, Outcome};
use crate::metrics::access;
use crate::negotiate::{Offer, negotiate};
use crate::request::{ALL_AUTHENTICATED, Attributes, Call, PathError, Query, RequestInfo, UserInfo};
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use crate::warning::Warnings;
use crate::{dispatch, gzip, health};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HeaderName, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use nauplius_base::time::{Instant, monotonic, timeout};
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::field::quote;
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
    let (parts, body) = request.into_parts();
    let mut asked = match Asked::read(parts) {
        Ok(asked) => asked,
        Err(reply) => return *reply,
    };
    let mut flow = None;
    let mut reply = match admit(&server, &mut asked, &mut flow).await {
        Ok(user) => serve(server, asked.deadline, asked.by(user), body).await,
        Err(_) if is_over(asked.deadline) => limits::too_slow(),
        Err(refusal) => refused(&refusal, &asked.parts, &asked.query),
    };
    if let Some(flow) = flow {
        flow.mark(&mut reply);
    }
    reply
}

/// A request that could be read, before anybody knows who sends it.
struct Asked {
    parts: Parts,
    info: RequestInfo,
    query: Query,
    /// What is meant to last has none.
    deadline: Option<Instant>,
}

impl Asked {
    fn read(parts: Parts) -> Result<Self, Box<Reply>> {
        let received = monotonic();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query)
            .map_err(|error| Box::new(unreadable(&parts, &error)))?;
        let patience =
            limits::patience(&info, &query).map_err(|error| Box::new(refused(&error, &parts, &query)))?;
        Ok(Self { deadline: patience.map(|patience| received + patience), parts, info, query })
    }

    fn by(self, user: Arc<UserInfo>) -> Call {
        let Self { parts, info, query, .. } = self;
        Call { parts, info, query, user, warnings: Warnings::default(), seat: None }
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| monotonic() >= deadline)
}

/// Upstream takes a path that it cannot read for a failure of its own.
fn unreadable(parts: &Parts, error: &PathError) -> Reply {
    let asked = parts.uri.path_and_query().map_or("/", |asked| asked.as_str());
    let message = format!("Internal Server Error: {}: failed to create RequestInfo: {error}", quote(asked));
    // As upstream, lest a browser takes what was sent for a page.
    let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    respond::plain_error(StatusCode::INTERNAL_SERVER_ERROR, &message)
}

/// A refusal before anything is served. A 403 of the authorizer names what the client sent, so upstream tells browsers to take it as
/// nothing but what it says it is.
fn refused(refusal: &ApiError, parts: &Parts, query: &Query) -> Reply {
    // A client that accepts nothing of ours is told so in JSON.
    let output = negotiate(&parts.headers, query, Offer::Plain).unwrap_or_default();
    let mut reply = respond::error(refusal, &output);
    if reply.status() == StatusCode::FORBIDDEN {
        reply.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    reply
}

/// Authentication and authorization; in between, what the request belongs to is found out. Says who the request is by.
async fn admit(
    server: &ApiServer,
    asked: &mut Asked,
    flow: &mut Option<Flow>,
) -> Result<Arc<UserInfo>, ApiError> {
    let user = Arc::new(counted(server, &asked.parts).await?);
    authn::bearer::conceal(&mut asked.parts.headers);
    let user = impersonation::apply(server, user, &asked.parts).await?;
    *flow = server.flows.classify(server.caches(), &user, &asked.info);
    authorize(server, &Attributes::of(&user, &asked.info, &asked.query)).await?;
    Ok(user)
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

async fn serve(server: Arc<ApiServer>, deadline: Option<Instant>, mut call: Call, body: Body) -> Reply {
    let started = monotonic();
    let long = limits::is_long_running(&call);
    if is_over(deadline) {
        return late(&server, &call);
    }
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
    let mut reply = match deadline {
        None => work.await,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(monotonic());
            timeout(left, work).await.unwrap_or_else(|_| late(&server, &call))
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

fn late(server: &ApiServer, call: &Call) -> Reply {
    server.metrics.terminated(server, call, StatusCode::GATEWAY_TIMEOUT);
    limits::too_slow()
}
