//! `proxy` of pods, services and nodes: which backend is asked, what it is asked, and what comes back.

use crate::network::{World, http_1, over_tls, pod_on_node, server_tls, world_with};
use crate::support::Fixture;
use bytes::Bytes;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nauplius_apiserver::proxy::Dial;
use nauplius_base::task::spawn;
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const PAGE: &str = "<a href=\"/next\">next</a><img src=/i.png><a href=\"http://elsewhere/x\">away</a>";

/// Leads every address to one server of the test and remembers which was wanted; port 1 is closed.
struct Lead {
    plain: SocketAddr,
    secured: SocketAddr,
    wanted: Mutex<Vec<SocketAddr>>,
}

impl Dial for Lead {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        self.wanted.lock().unwrap().push(address);
        match address.port() {
            1 => Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into()))),
            443 => Box::pin(TcpStream::connect(self.secured)),
            // A kubelet is where its node says.
            _ if address.ip().is_loopback() => Box::pin(TcpStream::connect(address)),
            _ => Box::pin(TcpStream::connect(self.plain)),
        }
    }
}

/// Tells what it was asked, or what the path wants.
async fn backend(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = Response::builder();
    let answer = match path.as_str() {
        "/redirect" => answer.status(302).header("location", "/elsewhere/?a=b").body(Full::default()),
        "/page" => answer.header("content-type", "text/html; charset=utf-8").body(Full::from(PAGE)),
        "/packed" => {
            let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(PAGE.as_bytes()).unwrap();
            let headers = [("content-type", "text/html"), ("content-encoding", "gzip")];
            let answer = headers.into_iter().fold(answer, |answer, (name, value)| answer.header(name, value));
            answer.body(Full::from(packed.finish().unwrap()))
        }
        "/teapot" => answer
            .status(418)
            .header("x-own", "1")
            .header("access-control-allow-origin", "*")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .body(Full::from("short and stout")),
        "/upgrade" if request.headers().contains_key(header::UPGRADE) => {
            let upgraded = hyper::upgrade::on(&mut request);
            spawn("echo", async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                let mut read = [0; 5];
                io.read_exact(&mut read).await.unwrap();
                io.write_all(&read).await.unwrap();
            });
            let answer = answer.status(101).header("connection", "Upgrade").header("upgrade", "websocket");
            answer.body(Full::default())
        }
        _ => {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let headers: serde_json::Map<String, Value> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                .collect();
            let told = json!({
                "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers,
                "body": String::from_utf8_lossy(&body),
            });
            answer.header("content-type", "application/json").body(Full::from(told.to_string()))
        }
    };
    Ok(answer.unwrap())
}

async fn serve_backend(acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn("backend", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            spawn("backend connection", async move {
                let http = hyper::server::conn::http1::Builder::new();
                // Clients hang up as they like.
                let _ended = match acceptor {
                    None => {
                        let io = TokioIo::new(stream);
                        http.serve_connection(io, service_fn(backend)).with_upgrades().await
                    }
                    Some(acceptor) => {
                        let io = TokioIo::new(acceptor.accept(stream).await.unwrap());
                        http.serve_connection(io, service_fn(backend)).with_upgrades().await
                    }
                };
            });
        }
    });
    address
}

/// A TLS server with a certificate that nobody trusts.
async fn secured_backend() -> SocketAddr {
    let authority = nauplius_pki::Authority::create("nobody's").unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(server_tls(&authority));
    serve_backend(Some(TlsAcceptor::from(Arc::new(config)))).await
}

struct Setting {
    world: World,
    lead: Arc<Lead>,
    admin: Fixture,
}

/// A pod at 10.1.0.1 with a service in front of it, and a node.
async fn setting() -> Setting {
    let lead = Arc::new(Lead {
        plain: serve_backend(None).await,
        secured: secured_backend().await,
        wanted: Mutex::default(),
    });
    let backends = Arc::clone(&lead);
    let world = world_with(|config| config.backends = backends).await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    pod_on_node(&world, &admin).await;
    let mut pod = admin.get("/api/v1/namespaces/default/pods/p").await.expect(200);
    pod["status"]["podIP"] = "10.1.0.1".into();
    pod["status"]["podIPs"] = json!([{"ip": "10.1.0.1"}]);
    admin.put("/api/v1/namespaces/default/pods/p/status", &pod).await.expect(200);
    for name in ["s", "empty", "stray"] {
        let ports = json!([{"name": "web", "port": 80}, {"name": "closed", "port": 81}]);
        let service = json!({"metadata": {"name": name}, "spec": {"ports": ports}});
        admin.post("/api/v1/namespaces/default/services", &service).await.expect(201);
    }
    let target = |name: &str| json!({"kind": "Pod", "namespace": "default", "name": name});
    let ports = json!([{"name": "web", "port": 8080}, {"name": "closed", "port": 1}]);
    for (name, addresses) in [
        ("s", json!([{"ip": "10.1.0.1", "targetRef": target("p")}])),
        ("stray", json!([{"ip": "10.9.9.9", "targetRef": target("p")}, {"ip": "10.1.0.1"}])),
    ] {
        let endpoints =
            json!({"metadata": {"name": name}, "subsets": [{"addresses": addresses, "ports": ports}]});
        admin.post("/api/v1/namespaces/default/endpoints", &endpoints).await.expect(201);
    }
    let empty = json!({"metadata": {"name": "empty"}});
    admin.post("/api/v1/namespaces/default/endpoints", &empty).await.expect(201);
    Setting { world, lead, admin }
}

impl Setting {
    async fn told(&self, method: Method, path: &str, body: &str) -> Value {
        let headers = [("x-mine", "1"), ("authorization", "Bearer secret"), ("x-forwarded-for", "192.0.2.1")];
        let body = body.to_owned();
        self.admin.with_headers(method, &format!("/api/v1/{path}"), &headers, body).await.expect(200)
    }

    fn wanted(&self) -> String {
        self.lead.wanted.lock().unwrap().last().unwrap().to_string()
    }
}

#[tokio::test]
async fn backends_are_asked_what_the_client_asked() {
    let setting = setting().await;
    let pod = "namespaces/default/pods/p/proxy";
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let told = setting.told(method.clone(), &format!("{pod}/a%20b/c/?x=%2F&y"), "hello").await;
        assert_eq!(told["method"], method.as_str());
        assert_eq!(told["target"], "/a%20b/c/?x=%2F&y");
        assert_eq!(told["body"], "hello", "{method}");
    }
    assert_eq!(setting.wanted(), "10.1.0.1:80");
    let told = setting.told(Method::GET, &format!("{pod}/"), "").await;
    let headers = &told["headers"];
    assert_eq!((&told["target"], &headers["x-mine"]), (&json!("/"), &json!("1")));
    assert_eq!(headers["x-forwarded-uri"], format!("/api/v1/{pod}/"));
    assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 127.0.0.1");
    assert_eq!(headers["authorization"], Value::Null);
    let head = setting.admin.with_headers(Method::HEAD, &format!("/api/v1/{pod}/x"), &[], "").await;
    assert_eq!((head.code.as_u16(), head.bytes.len()), (200, 0));

    setting.told(Method::GET, "namespaces/default/pods/p:8081/proxy/", "").await;
    assert_eq!(setting.wanted(), "10.1.0.1:8081");
    setting.told(Method::GET, "namespaces/default/pods/https:p:443/proxy/", "").await;
    assert_eq!(setting.wanted(), "10.1.0.1:443");
    for service in ["s:80", "s:web", "http:s:web"] {
        let path = format!("namespaces/default/services/{service}/proxy/x");
        assert_eq!(setting.told(Method::GET, &path, "").await["target"], "/x");
        assert_eq!(setting.wanted(), "10.1.0.1:8080", "{service}");
    }
    setting.world.group.shut_down();
}

#[tokio::test]
async fn answers_lead_through_the_proxy_again() {
    let setting = setting().await;
    let root = "/api/v1/namespaces/default/services/s:web/proxy";
    let get = |path: &str| {
        let path = format!("{root}{path}");
        let admin = &setting.admin;
        async move { admin.get(&path).await }
    };
    let slash = get("?a=b").await;
    assert_eq!(slash.code.as_u16(), 301);
    assert_eq!(slash.headers["location"], format!("{root}/?a=b"));
    let redirect = get("/redirect").await;
    assert_eq!(redirect.code.as_u16(), 302);
    assert_eq!(redirect.headers["location"], format!("{root}/elsewhere/?a=b"));
    let expected = PAGE.replace("/next", &format!("{root}/next"));
    let expected = expected.replace("src=/i.png", &format!("src=\"{root}/i.png\""));
    let page = get("/page").await;
    assert_eq!(String::from_utf8_lossy(&page.bytes), expected);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let mut plain = String::new();
    GzDecoder::new(&get("/packed").await.bytes[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, expected);
    let teapot = get("/teapot").await;
    assert_eq!((teapot.code.as_u16(), &teapot.bytes[..]), (418, &b"short and stout"[..]));
    assert!(teapot.headers.contains_key("x-own") && teapot.headers.contains_key("audit-id"));
    for gone in ["access-control-allow-origin", "x-hop"] {
        assert!(!teapot.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_said() {
    let setting = setting().await;
    for (path, expected) in [
        ("namespaces/default/services/empty/proxy/", "503 no endpoints available for service \"empty\""),
        ("namespaces/default/services/s/proxy/", "503 no endpoints available for service \"s\""),
        (
            "namespaces/default/services/stray:web/proxy/",
            "503 no endpoints available for service \"stray:web\"",
        ),
        ("namespaces/default/services/s:99/proxy/", "503 no service port 99 found for service \"s\""),
        ("namespaces/default/services/none/proxy/", "404 services \"none\" not found"),
        ("namespaces/default/services/ftp:s:80/proxy/", "400 invalid service request \"ftp:s:80\""),
        ("namespaces/default/pods/none:1/proxy/", "404 pods \"none\" not found"),
        ("namespaces/default/pods/a:b:c:d/proxy/", "400 invalid pod request \"a:b:c:d\""),
        (
            "namespaces/default/pods/p:1/proxy/",
            "503 error trying to reach service: dial tcp 10.1.0.1:1: connect: connection refused",
        ),
        ("nodes/none/proxy/", "404 nodes \"none\" not found"),
        ("nodes/n:99/proxy/", "400 address not allowed"),
        ("nodes/x:n:99/proxy/", "400 invalid node request \"x:n:99\""),
    ] {
        assert_eq!(setting.admin.get(&format!("/api/v1/{path}")).await.refusal(), expected, "{path}");
    }
    let nobody = over_tls(&setting.world, None);
    let refused = nobody.get("/api/v1/namespaces/default/pods/p/proxy/").await;
    assert_eq!(
        refused.refusal(),
        "403 pods \"p\" is forbidden: User \"system:anonymous\" cannot get resource \"pods/proxy\" in API group \"\" \
         in the namespace \"default\""
    );
}

#[tokio::test]
async fn nodes_are_asked_at_their_kubelet() {
    let setting = setting().await;
    let path = "/api/v1/nodes/n/proxy/containerLogs/default/p/c?tailLines=1";
    let log = setting.admin.get(path).await;
    assert_eq!(String::from_utf8_lossy(&log.bytes), "asked /containerLogs/default/p/c?tailLines=1\n");
    let path = format!("/api/v1/nodes/n:{}/proxy/containerLogs/x", setting.world.kubelet.port());
    assert_eq!(&setting.admin.get(&path).await.bytes[..], b"asked /containerLogs/x\n");
}

#[tokio::test]
async fn upgraded_connections_are_passed_on() {
    let setting = setting().await;
    let mut sender = http_1(&setting.world).await;
    let ask = |path: &str| {
        let request = Request::get(format!("/api/v1/namespaces/default/pods/p/proxy{path}"));
        let request = request.header(header::HOST, "server").header(header::CONNECTION, "Upgrade");
        request.header(header::UPGRADE, "websocket").body(Empty::<Bytes>::new()).unwrap()
    };
    let refused = sender.send_request(ask("/other")).await.unwrap();
    assert_eq!(refused.status(), 500);
    let status = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&status).contains("invalid upgrade response: status code 200"));
    let response = sender.send_request(ask("/upgrade")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    io.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}
