//! The components against a scripted API: objects that come and go turn into rules and answers.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nauplius_base::task::{self, CancellationToken};
use nauplius_client::Client;
use nauplius_client::transport::{Body, BoxError, Transport, TransportError, full};
use nauplius_net::dns::{Forwarder, Resolver, ZoneSpec};
use nauplius_net::proxy::{Dataplane, Error, Network, Observed, RuleSet};
use nauplius_net::{ClusterDns, Proxy, ProxyConfig};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{broadcast, watch};

const PATIENCE: Duration = Duration::from_secs(20);

/// Lists what it holds and streams what changes, for every resource alike.
struct FakeApi {
    lists: Mutex<HashMap<String, Vec<Value>>>,
    events: broadcast::Sender<(String, Value)>,
    selectors: Mutex<Vec<String>>,
}

impl FakeApi {
    fn new() -> Arc<Self> {
        let events = broadcast::Sender::new(64);
        Arc::new(Self { lists: Mutex::default(), events, selectors: Mutex::default() })
    }

    fn put(&self, plural: &str, object: Value) {
        self.lists.lock().unwrap().entry(plural.to_owned()).or_default().push(object.clone());
        // Nobody may be watching yet; then the list has it.
        let _ = self.events.send((plural.to_owned(), json!({"type": "ADDED", "object": object})));
    }

    fn change(&self, plural: &str, object: Value) {
        let _ = self.events.send((plural.to_owned(), json!({"type": "MODIFIED", "object": object})));
    }

    fn list(&self, plural: &str) -> Body {
        let items = self.lists.lock().unwrap().get(plural).cloned().unwrap_or_default();
        let list =
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        full(list.to_string())
    }

    fn watch(&self, plural: String) -> Body {
        let events = stream::unfold((self.events.subscribe(), plural), |(mut events, plural)| async move {
            loop {
                let (about, event) = events.recv().await.ok()?;
                if about == plural {
                    let line = Bytes::from(format!("{event}\n"));
                    return Some((Ok::<_, BoxError>(Frame::data(line)), (events, plural)));
                }
            }
        });
        StreamBody::new(events.boxed()).boxed_unsync()
    }
}

struct Shared(Arc<FakeApi>);

impl Transport for Shared {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let uri = request.uri();
        let plural = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = uri.query().unwrap_or_default().to_owned();
        self.0.selectors.lock().unwrap().push(format!("{plural}?{query}"));
        let body = if query.contains("watch=1") { self.0.watch(plural) } else { self.0.list(&plural) };
        async move { Ok(Response::new(body)) }.boxed()
    }
}

fn client(api: &Arc<FakeApi>) -> Client {
    Client::new(Arc::new(Shared(Arc::clone(api))), "test")
}

fn service(health: u16) -> Value {
    json!({"metadata": {"name": "web", "namespace": "default", "resourceVersion": "2"}, "spec": {
        "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "type": "NodePort",
        "externalTrafficPolicy": "Local", "healthCheckNodePort": health, "sessionAffinity": "ClientIP",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]}})
}

fn slice(version: u32, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "nodeName": "n", "conditions": {"ready": true}}))
        .collect();
    json!({"metadata": {"name": "web-x", "namespace": "default", "resourceVersion": version.to_string(),
            "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

/// Publishes what it is given; fails the first time.
struct Recorder {
    rules: watch::Sender<Option<RuleSet>>,
    failures: u32,
}

impl Dataplane for Recorder {
    fn apply(&mut self, rules: &RuleSet) -> Result<(), Error> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(Error::Link(nauplius_link::Error::Malformed { request: "a test" }));
        }
        self.rules.send_replace(Some(rules.clone()));
        Ok(())
    }

    fn is_whole(&mut self) -> Result<bool, Error> {
        Ok(true)
    }

    fn observe(&mut self) -> Result<Observed, Error> {
        Ok(Observed::default())
    }

    fn remove(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

async fn ask_health(port: u16) -> String {
    let mut stream = TcpStream::connect(std::net::SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_proxy_follows_the_api() {
    let api = FakeApi::new();
    api.put("nodes", json!({"metadata": {"name": "n", "resourceVersion": "1", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    // A port that is free now.
    let health = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    api.put("services", service(health));
    let network = Network { node: "n".into(), ..Network::default() };
    let proxy = Proxy::new(&client(&api), ProxyConfig { network, ipv6: false });
    let mut applied = proxy.applied();
    let (rules, mut seen) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let dataplane = Box::new(Recorder { rules, failures: 1 });
    let running = task::spawn("proxy", proxy.run(dataplane, shutdown.clone()));

    let addresses = |rules: &Option<RuleSet>| {
        let service = rules.as_ref().and_then(|rules| rules.services.values().next());
        service.map(|service| {
            service.endpoints().into_iter().map(|address| address.to_string()).collect::<Vec<_>>()
        })
    };
    let mut wait = async |expected: &[&str]| {
        let reached = seen.wait_for(|rules| addresses(rules).is_some_and(|found| found == expected));
        tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap().clone().unwrap()
    };
    let rules = wait(&[]).await;
    assert_eq!(rules.network.zone, "z");
    let planned = rules.services.values().next().unwrap();
    assert_eq!(
        (planned.node_port, planned.affinity_seconds, planned.keep_source),
        (Some(30_080), Some(10_800), true)
    );
    assert!(ask_health(health).await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    api.put("endpointslices", slice(3, &["10.244.0.5"]));
    wait(&["10.244.0.5:8080"]).await;
    api.change("endpointslices", slice(4, &["10.244.0.6", "10.244.0.7"]));
    wait(&["10.244.0.6:8080", "10.244.0.7:8080"]).await;
    tokio::time::timeout(PATIENCE, applied.wait_for(|times| *times >= 3)).await.unwrap().unwrap();
    let answer = ask_health(health).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"localEndpoints\": 2,"),
        "{answer}"
    );
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let selectors = api.selectors.lock().unwrap().join(" ");
    assert!(selectors.contains("fieldSelector=metadata.name%3Dn"), "{selectors}");
}

#[tokio::test]
async fn dns_follows_the_api() {
    let api = FakeApi::new();
    api.put("namespaces", json!({"metadata": {"name": "default", "resourceVersion": "1"}}));
    let dns = ClusterDns::new(&client(&api), ZoneSpec::default());
    let mut zone = dns.zone();
    let resolver = Arc::new(Resolver::new(dns.zone(), Forwarder::new(Vec::new())));
    let server = crate::dns::free().await;
    let address = server.addresses().unwrap()[0];
    assert!(!resolver.is_ready());
    let shutdown = CancellationToken::new();
    let running = task::spawn("dns", dns.run(server, Arc::clone(&resolver), shutdown.clone()));
    tokio::time::timeout(PATIENCE, zone.wait_for(|zone| zone.is_ready())).await.unwrap().unwrap();
    api.put("services", service(0));
    let mut packet =
        b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\x07default\x03svc\x07cluster\x05local\0\0\x01\0\x01".to_vec();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = [0; 512];
    let answered = async {
        loop {
            packet[1] = packet[1].wrapping_add(1);
            socket.send_to(&packet, address).await.unwrap();
            let length = socket.recv(&mut answer).await.unwrap();
            if answer[3] & 0x0f == 0 {
                return answer[length - 4..length].to_vec();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, answered).await.unwrap(), [10, 96, 0, 20]);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
