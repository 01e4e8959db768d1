//! How objects change between the versions of a definition: only in name, or by asking a webhook.

use crate::error::ApiResult;
use crate::registry::form::Convert;
use crate::server::ApiServer;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::object;
use serde_json::Value;
use std::sync::Arc;

/// A webhook's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("its conversion webhook cannot be called: {0}")]
pub(super) struct BadClient(pub String);

/// Converts objects of one definition.
pub(super) enum Converter {
    /// The versions differ in name only.
    Name,
    /// A webhook knows.
    Webhook,
}

impl Converter {
    /// The converter that a definition asks for.
    pub(super) fn of(_server: &Arc<ApiServer>, definition: &Value) -> Result<Arc<Self>, BadClient> {
        Ok(Arc::new(match object::get_str(definition, &["spec", "conversion", "strategy"]) {
            "Webhook" => Self::Webhook,
            _ => Self::Name,
        }))
    }

    pub(super) fn is_webhook(&self) -> bool {
        matches!(self, Self::Webhook)
    }
}

impl Convert for Converter {
    fn convert<'a>(
        &'a self,
        mut objects: Vec<Value>,
        api_version: &'a str,
    ) -> BoxFuture<'a, ApiResult<Vec<Value>>> {
        Box::pin(async move {
            match self {
                Self::Name => {
                    for object in &mut objects {
                        object["apiVersion"] = api_version.into();
                    }
                    Ok(objects)
                }
                Self::Webhook => {
                    Err(ApiError::NotImplemented("conversion webhooks are not built yet".to_owned()))
                }
            }
        })
    }
}
