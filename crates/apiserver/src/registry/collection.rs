//! DELETE of a collection: lists what is selected, then deletes each object with its own preconditions. The answer is that list.

use super::Scope;
use super::delete::{delete_object, read_options};
use super::list::{read, reply};
use super::page::Page;
use super::selection::Selection;
use crate::error::ApiResult;
use crate::respond::Reply;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;

pub(super) async fn delete(scope: &Scope, body: Body) -> ApiResult<Reply> {
    if !scope.resource.hooks.deletes_collections() {
        return Err(scope.not_allowed());
    }
    let selection = Selection::of(&scope.call, &*scope.resource.kind)?;
    let page = Page::of(&scope.call.query)?;
    let options = read_options(scope, body).await?;
    // The answer is the list as it was, so it has to be read to its end once it is begun.
    let seat = scope.server.in_flight.large_list().await;
    let items = read(scope, &selection, &page).await?;
    let mut doomed = items.clone();
    while let Some(entry) = doomed.next().await? {
        match delete_object(scope, entry.name(), &options).await {
            // Others were faster.
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    reply(scope, &selection, &page, items, Some(seat)).await
}
