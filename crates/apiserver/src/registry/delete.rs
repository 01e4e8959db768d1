//! DELETE: preconditions, graceful deletion, finalizers and propagation, in upstream's order.

use super::options::{DeleteOptions, Propagation};
use super::write::{Existing, Step, Transform, Written};
use super::{Scope, read_body};
use crate::admission::Operation;
use crate::codec;
use crate::error::ApiResult;
use crate::negotiate::Format;
use crate::respond::{self, Reply};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_base::time;
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status, StatusDetails};
use nauplius_meta::gvk::GroupResource;
use nauplius_meta::metadata::{DELETE_DEPENDENTS, ORPHAN_DEPENDENTS};
use nauplius_meta::{object, time as timestamps};
use serde_json::Value;

pub(super) async fn delete(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let options = read_options(scope, body).await?;
    let written = delete_object(scope, scope.name(), &options).await?;
    if !written.removed || scope.resource.hooks.shows_deleted() {
        // Only to the older way of asking for dependents to go, too, does upstream answer that it is not done yet.
        let pending = !written.removed && options.object["orphanDependents"] == false;
        let code = if pending { StatusCode::ACCEPTED } else { StatusCode::OK };
        return scope.view().one(code, &written.stored, written.layout, written.revision);
    }
    let resource = &scope.resource.group_resource;
    let details = StatusDetails {
        name: scope.name().to_owned(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        uid: object::uid(&written.object()?).to_owned(),
        ..StatusDetails::default()
    };
    let mut status = Status::success(Some(details));
    status.code = 0;
    let mut reply = respond::status(&status, &scope.output);
    *reply.status_mut() = StatusCode::OK;
    Ok(reply)
}

/// The options in the body or the query.
pub(super) async fn read_options(scope: &Scope, body: Body) -> ApiResult<DeleteOptions> {
    let (bytes, format) = read_body(scope, body).await?;
    let body = if bytes.is_empty() { None } else { Some(decode_options(&bytes, format)?) };
    DeleteOptions::of(&scope.call.query, body)
}

/// Upstream has no word for options that cannot be read, so they are its own failure.
fn decode_options(bytes: &[u8], format: Format) -> ApiResult<Value> {
    codec::decode_delete_options(bytes, format)
        .map_err(|message| ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message))))
}

/// Deletes one object as far as its grace and its finalizers allow.
pub(crate) async fn delete_object(scope: &Scope, name: &str, options: &DeleteOptions) -> ApiResult<Written> {
    let mut transform = Delete { scope, name, options };
    scope.resource.modify(scope.namespace(), name, &mut transform, options.dry_run).await
}

struct Delete<'s> {
    scope: &'s Scope,
    name: &'s str,
    options: &'s DeleteOptions,
}

/// What grace means for this deletion.
enum Grace {
    /// The object goes as soon as no finalizer keeps it.
    None,
    /// It stays for so many seconds more.
    Starts(i64),
    /// Less time than it was given before.
    Shortens(i64),
    /// It is on its way already.
    Pending,
}

impl Transform for Delete<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let old = &existing.object;
            let scope = self.scope;
            check_preconditions(scope, self.name, self.options, old)?;
            let review =
                scope.review(Operation::Delete, self.name, self.options.dry_run, &self.options.object);
            scope.server.config.admission.validate(&review, None, Some(old)).await?;
            if let Some(message) = scope.resource.kind.forbids_delete(old) {
                return Err(ApiError::forbidden(&scope.resource.group_resource, self.name, message));
            }
            let mut new = old.clone();
            let grace = self.grace(old);
            if matches!(grace, Grace::Pending) {
                return Ok(Step::Keep);
            }
            apply_grace(&mut new, &grace);
            set_finalizers(&mut new, self.propagation(old));
            let kept = !object::finalizers(&new).is_empty() || scope.resource.hooks.keeps(&new);
            match grace {
                Grace::Starts(seconds) | Grace::Shortens(seconds) if seconds > 0 => {}
                _ if kept => mark_deleting(&mut new),
                _ => {
                    let also = scope.resource.hooks.before_remove(scope, &new).await?;
                    return Ok(Step::Remove(new, also));
                }
            }
            scope.resource.hooks.on_deleting(&mut new);
            Ok(Step::Write(new, Default::default()))
        })
    }
}

/// Whether the object is the one that is to be deleted, in the form that it is to have.
pub(crate) fn check_preconditions(
    scope: &Scope,
    name: &str,
    options: &DeleteOptions,
    old: &Value,
) -> ApiResult<()> {
    // Upstream names the kind here, where it names the resource everywhere else.
    let kind = &scope.resource.group_kind;
    let kind = GroupResource::new(kind.group.as_str(), kind.kind.as_str());
    let conflict = |message: String| Err(ApiError::conflict(&kind, name, message));
    if let Some(uid) = &options.uid
        && uid != object::uid(old)
    {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            object::uid(old)
        ));
    }
    if let Some(version) = &options.resource_version
        && version != object::resource_version(old)
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            object::resource_version(old)
        ));
    }
    Ok(())
}

impl Delete<'_> {
    fn grace(&self, old: &Value) -> Grace {
        // Negative grace counts as one second, as upstream has it.
        let requested = self.options.grace_period_s.map(|seconds| if seconds < 0 { 1 } else { seconds });
        let Some(seconds) = self.scope.resource.kind.grace_period_s(old, requested) else {
            return Grace::None;
        };
        if object::deletion_timestamp(old).is_none() {
            return Grace::Starts(seconds);
        }
        match (object::deletion_grace_period_seconds(old).unwrap_or(0), requested) {
            (0, _) => Grace::None,
            (given, Some(requested)) if requested < given => Grace::Shortens(requested),
            _ => Grace::Pending,
        }
    }

    /// Explicit options win over finalizers that are there, and those over the kind's default.
    fn propagation(&self, old: &Value) -> Propagation {
        if let Some(propagation) = self.options.propagation {
            return propagation;
        }
        for finalizer in object::finalizers(old) {
            match finalizer {
                ORPHAN_DEPENDENTS => return Propagation::Orphan,
                DELETE_DEPENDENTS => return Propagation::Foreground,
                _ => {}
            }
        }
        match self.scope.resource.kind.default_propagation() {
            "Orphan" => Propagation::Orphan,
            _ => Propagation::Background,
        }
    }
}

fn apply_grace(new: &mut Value, grace: &Grace) {
    let now = time::unix_seconds();
    let (at, seconds) = match *grace {
        Grace::Starts(seconds) => (now + seconds, seconds),
        Grace::Shortens(seconds) => {
            let given = object::deletion_grace_period_seconds(new).unwrap_or(0);
            // A timestamp that cannot be read is replaced by one from now.
            let set = object::deletion_timestamp(new).and_then(|at| timestamps::parse(at).ok());
            (set.map_or(now, |at| at.as_second() - given) + seconds, seconds)
        }
        Grace::None | Grace::Pending => return,
    };
    if matches!(grace, Grace::Starts(_)) {
        bump_generation(new);
    }
    set_deletion(new, at, seconds);
}

fn set_deletion(new: &mut Value, at_s: i64, grace_s: i64) {
    let at = time::Timestamp::from_second(at_s).unwrap_or(time::Timestamp::MAX);
    object::set_metadata(new, "deletionTimestamp", time::rfc3339_seconds(at));
    object::set_metadata(new, "deletionGracePeriodSeconds", grace_s);
}

fn bump_generation(new: &mut Value) {
    let generation = object::generation(new);
    if generation > 0 {
        object::set_generation(new, generation + 1);
    }
}

/// An object that finalizers keep: it is being deleted from now on, without grace.
fn mark_deleting(new: &mut Value) {
    let now = time::unix_seconds();
    let set = object::deletion_timestamp(new).map(timestamps::parse);
    match set {
        Some(Ok(at)) if at.as_second() <= now => object::set_metadata(new, "deletionGracePeriodSeconds", 0),
        Some(_) => set_deletion(new, now, 0),
        None => {
            bump_generation(new);
            set_deletion(new, now, 0);
        }
    }
}

fn set_finalizers(new: &mut Value, propagation: Propagation) {
    let ours = |finalizer: &&str| !matches!(*finalizer, ORPHAN_DEPENDENTS | DELETE_DEPENDENTS);
    let mut finalizers: Vec<String> =
        object::finalizers(new).into_iter().filter(ours).map(str::to_owned).collect();
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN_DEPENDENTS.to_owned()),
        Propagation::Foreground => finalizers.push(DELETE_DEPENDENTS.to_owned()),
        Propagation::Background => {}
    }
    object::set_finalizers(new, &finalizers);
}
