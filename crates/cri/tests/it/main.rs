//! Both adapters against each other: what goes in at the client comes out at the implementation, errors and streams
//! included.

use futures_util::StreamExt as _;
use nauplius_cri::v1::*;
use nauplius_cri::{BoxFuture, Code, ContainerEvents, CriError, ImageService, RuntimeService, grpc};
use std::sync::Arc;

struct OneImage;

impl ImageService for OneImage {
    fn list_images(&self, _: ListImagesRequest) -> BoxFuture<'_, ListImagesResponse> {
        let image = Image { id: "sha256:1".to_owned(), size: 7, ..Default::default() };
        Box::pin(async { Ok(ListImagesResponse { images: vec![image] }) })
    }

    fn image_status(&self, _: ImageStatusRequest) -> BoxFuture<'_, ImageStatusResponse> {
        Box::pin(async { Ok(ImageStatusResponse::default()) })
    }

    fn pull_image(&self, request: PullImageRequest) -> BoxFuture<'_, PullImageResponse> {
        let name = request.image.unwrap_or_default().image;
        Box::pin(async move { Err(CriError::not_found(format!("{name}: not found"))) })
    }

    fn remove_image(&self, _: RemoveImageRequest) -> BoxFuture<'_, RemoveImageResponse> {
        Box::pin(async { Ok(RemoveImageResponse {}) })
    }

    fn image_fs_info(&self, _: ImageFsInfoRequest) -> BoxFuture<'_, ImageFsInfoResponse> {
        Box::pin(async { Ok(ImageFsInfoResponse::default()) })
    }
}

#[tokio::test]
async fn a_call_crosses_the_socket_and_so_does_its_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cri.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let client = grpc::Client::new(&socket).unwrap();
    let server = nauplius_base::task::spawn(
        "cri",
        grpc::serve(listener, Arc::new(client.clone()), Arc::new(OneImage), async {
            stopped.await.ok(); // A dropped sender also ends the test's server.
        }),
    );
    let listed = client.list_images(ListImagesRequest::default()).await.unwrap();
    assert_eq!(listed.images[0].id, "sha256:1");
    let image = ImageSpec { image: "nosuch:1".to_owned(), ..Default::default() };
    let error =
        client.pull_image(PullImageRequest { image: Some(image), ..Default::default() }).await.unwrap_err();
    assert_eq!(error, CriError::new(Code::NotFound, "nosuch:1: not found"));
    drop(client);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_runtime_that_is_not_there_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let client = grpc::Client::new(&dir.path().join("nothing.sock")).unwrap();
    let error = client.version(VersionRequest::default()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    let events: Result<ContainerEvents, _> = client.container_events(GetEventsRequest {}).await;
    assert!(events.is_err());
    let empty: ContainerEvents = futures_util::stream::empty().boxed();
    assert_eq!(empty.count().await, 0);
}
