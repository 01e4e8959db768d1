//! The traits over gRPC on a unix socket: a client that implements them and a server that exposes an implementation.
//! It must not know which implementation it carries.

use crate::service::{image_calls, runtime_calls};
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::image_service_server::{ImageService as ImageServer, ImageServiceServer};
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::runtime_service_server::{RuntimeService as RuntimeServer, RuntimeServiceServer};
use crate::v1::*;
use crate::{BoxFuture, Code, ContainerEvents, CriError, ImageService, RuntimeService};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// Largest message in either direction; what upstream's kubelet sets.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

/// Both services of a runtime that listens on a unix socket. It connects when first used and again after a failure.
#[derive(Clone)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Client {
    /// A client for the runtime at `socket`; no connection is made yet.
    ///
    /// # Errors
    /// `InvalidArgument` when the path cannot be part of an address.
    pub fn new(socket: &Path) -> Result<Self, CriError> {
        let address = format!("unix://{}", socket.display());
        let endpoint =
            Endpoint::from_shared(address).map_err(|error| CriError::invalid(error.to_string()))?;
        let channel = endpoint.connect_lazy();
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
            images: ImageServiceClient::new(channel)
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
        })
    }
}

macro_rules! client_runtime {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $response:ident,)*) => {
        impl RuntimeService for Client {
            $(fn $call(&self, request: $request) -> BoxFuture<'_, $response> {
                let mut client = self.runtime.clone();
                Box::pin(async move { Ok(client.$call(request).await?.into_inner()) })
            })*

            fn container_events(&self, request: GetEventsRequest) -> BoxFuture<'_, ContainerEvents> {
                let mut client = self.runtime.clone();
                Box::pin(async move {
                    let events = client.get_container_events(request).await?.into_inner();
                    Ok(events.map(|event| event.map_err(CriError::from)).boxed())
                })
            }
        }
    };
}

macro_rules! client_images {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $response:ident,)*) => {
        impl ImageService for Client {
            $(fn $call(&self, request: $request) -> BoxFuture<'_, $response> {
                let mut client = self.images.clone();
                Box::pin(async move { Ok(client.$call(request).await?.into_inner()) })
            })*
        }
    };
}

runtime_calls!(client_runtime);
image_calls!(client_images);

/// Carries an implementation of a trait into tonic's traits.
struct Exposed<T: ?Sized>(Arc<T>);

macro_rules! server_runtime {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $response:ident,)*) => {
        #[tonic::async_trait]
        impl RuntimeServer for Exposed<dyn RuntimeService> {
            $(async fn $call(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                Ok(Response::new(self.0.$call(request.into_inner()).await?))
            })*

            type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

            async fn get_container_events(
                &self,
                request: Request<GetEventsRequest>,
            ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
                let events = self.0.container_events(request.into_inner()).await?;
                Ok(Response::new(events.map(|event| event.map_err(Status::from)).boxed()))
            }
        }
    };
}

macro_rules! server_images {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $response:ident,)*) => {
        #[tonic::async_trait]
        impl ImageServer for Exposed<dyn ImageService> {
            $(async fn $call(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                Ok(Response::new(self.0.$call(request.into_inner()).await?))
            })*
        }
    };
}

runtime_calls!(server_runtime);
image_calls!(server_images);

/// Serves both services on `listener` until `shutdown` resolves. The caller binds the socket and chooses its mode.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CriError> {
    let runtime = RuntimeServiceServer::new(Exposed(runtime))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let images = ImageServiceServer::new(Exposed(images))
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    Server::builder()
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming_shutdown(incoming(listener), shutdown)
        .await
        .map_err(|error| CriError::new(Code::Unavailable, error.to_string()))
}

fn incoming(listener: UnixListener) -> impl futures_util::Stream<Item = std::io::Result<UnixStream>> {
    futures_util::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    })
}
