//! A conversion webhook over TLS: `spec.host` and `spec.port` of v1 are `spec.address` of v2.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use nauplius_pki::{Authority, LeafRequest, TlsParts};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub struct Webhook {
    pub port: u16,
    pub ca_bundle: String,
    pub calls: Arc<AtomicUsize>,
    /// Objects that were converted.
    pub objects: Arc<AtomicUsize>,
}

fn convert(object: &Value, api_version: &str) -> Value {
    let mut object = object.clone();
    let spec = &object["spec"];
    object["spec"] = if api_version.ends_with("/v2") {
        json!({"address": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())})
    } else {
        let (host, port) = spec["address"].as_str().unwrap().split_once(':').unwrap();
        json!({"host": host, "port": port})
    };
    object["apiVersion"] = api_version.into();
    object
}

fn answer(review: &Value) -> Value {
    let request = &review["request"];
    let version = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let uid = &request["uid"];
    let response = if objects.iter().any(|object| object["metadata"]["labels"]["break"] == "yes") {
        json!({"uid": uid, "result": {"status": "Failure", "message": "told to break"}})
    } else {
        let converted: Vec<_> = objects.iter().map(|object| convert(object, version)).collect();
        json!({"uid": uid, "result": {"status": "Success"}, "convertedObjects": converted})
    };
    json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response})
}

async fn serve(
    calls: Arc<AtomicUsize>,
    objects: Arc<AtomicUsize>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().to_string(), "/convert?timeout=30s");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    calls.fetch_add(1, Ordering::Relaxed);
    let review: Value = serde_json::from_slice(&body).unwrap();
    objects.fetch_add(review["request"]["objects"].as_array().map_or(0, Vec::len), Ordering::Relaxed);
    let answer = Full::new(Bytes::from(answer(&review).to_string()));
    Ok(Response::builder().header("content-type", "application/json").body(answer).unwrap())
}

pub async fn start() -> Webhook {
    use base64::Engine as _;
    let authority = Authority::create("webhooks").unwrap();
    let request =
        LeafRequest::server("hook", vec!["hook.n.svc".to_owned()], vec!["127.0.0.1".parse().unwrap()]);
    let issued = authority.issue(&request).unwrap();
    let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(parts.chain, parts.key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (calls, objects) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&calls), Arc::clone(&objects));
    nauplius_base::task::spawn("webhook", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, (calls, objects)) = (acceptor.clone(), counted.clone());
            nauplius_base::task::spawn("webhook connection", async move {
                // A client that does not trust us goes away.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(move |request| {
                    serve(Arc::clone(&calls), Arc::clone(&objects), request)
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let ca_bundle = base64::engine::general_purpose::STANDARD.encode(authority.certificate_pem());
    Webhook { port, ca_bundle, calls, objects }
}
