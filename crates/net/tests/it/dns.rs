//! Cluster DNS over real sockets, read by an independent implementation of the message format.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nauplius_base::task::CancellationToken;
use nauplius_net::dns::{
    EndpointRecord, Forwarder, PortRecord, Resolver, Server, ServiceKind, ServiceRecord, Zone, ZoneSpec,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

fn port(name: &str, port: u16) -> PortRecord {
    PortRecord { name: name.into(), protocol: "tcp".into(), port }
}

fn service(name: &str, kind: ServiceKind, ports: Vec<PortRecord>) -> ServiceRecord {
    ServiceRecord { namespace: "default".into(), name: name.into(), kind, ports, endpoints: Vec::new() }
}

fn endpoint(last: u8, hostname: Option<&str>) -> EndpointRecord {
    let (address, hostname) = ([10, 244, 0, last].into(), hostname.map(str::to_owned));
    EndpointRecord { address, hostname, ports: vec![port("http", 8080)] }
}

fn spec() -> ZoneSpec {
    ZoneSpec { server_addresses: vec![[10, 96, 0, 10].into()], ..ZoneSpec::default() }
}

fn zone() -> Zone {
    let web = ServiceKind::ClusterIp(vec![[10, 96, 0, 20].into(), "fd00::20".parse().unwrap()]);
    let mut web = service("web", web, vec![port("http", 80), port("admin", 81)]);
    web.endpoints = vec![endpoint(5, None)];
    let mut set = service("set", ServiceKind::Headless, vec![port("http", 8080)]);
    set.endpoints = vec![endpoint(7, Some("set-0")), endpoint(8, None)];
    let external = |name, target: &str| service(name, ServiceKind::ExternalName(target.into()), Vec::new());
    let mut large = service("large", ServiceKind::Headless, Vec::new());
    let crowd =
        |last| EndpointRecord { address: [10, 244, 1, last].into(), hostname: None, ports: Vec::new() };
    large.endpoints = (0..100).map(crowd).collect();
    let services = [
        web,
        set,
        large,
        service("empty", ServiceKind::Headless, vec![port("http", 80)]),
        external("outside", "example.test"),
        external("inside", "web.default.svc.cluster.local"),
        external("circle", "circle.default.svc.cluster.local"),
        external("address", "192.0.2.1"),
    ];
    Zone::build(&spec(), 7, ["default".to_owned(), "bare".to_owned()], services)
}

/// A server with an upstream that knows two names, and counts what it is asked.
struct Fixture {
    address: SocketAddr,
    resolver: Arc<Resolver>,
    zone: watch::Sender<Arc<Zone>>,
    asked: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn upstream(asked: Arc<AtomicUsize>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    nauplius_base::task::spawn("upstream", async move {
        let mut packet = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let query = Message::from_vec(&packet[..length]).unwrap();
            let name = query.queries[0].name().to_ascii().to_ascii_lowercase();
            if query.queries[0].query_type() == RecordType::HINFO {
                continue;
            }
            asked.fetch_add(1, Ordering::Relaxed);
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            answer.add_query(query.queries[0].clone());
            answer.metadata.recursion_desired = query.metadata.recursion_desired;
            answer.metadata.recursion_available = true;
            match name.as_str() {
                "example.test." => {
                    let owner = query.queries[0].name().clone();
                    answer.add_answer(Record::from_rdata(owner, 60, RData::A(A::new(192, 0, 2, 80))));
                }
                "silent.test." => continue,
                _ => answer.metadata.response_code = hickory_proto::op::ResponseCode::NXDomain,
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

async fn fixture() -> Fixture {
    let asked = Arc::new(AtomicUsize::new(0));
    let forwarder = Forwarder::new(vec![upstream(Arc::clone(&asked)).await]);
    serve(free().await, forwarder, asked)
}

/// At a port that is free for UDP and TCP alike: the system chooses one for UDP, and somebody may have it for TCP.
pub async fn free() -> Server {
    for _ in 0..100 {
        match Server::bind(&["127.0.0.1:0".parse().unwrap()]).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => return bound.unwrap(),
        }
    }
    panic!("no port is free for both");
}

fn serve(server: Server, forwarder: Forwarder, asked: Arc<AtomicUsize>) -> Fixture {
    let (zone, receiver) = watch::channel(Arc::new(zone()));
    let resolver = Arc::new(Resolver::new(receiver, forwarder));
    let address = server.addresses().unwrap()[0];
    let shutdown = CancellationToken::new();
    nauplius_base::task::spawn("dns", server.run(Arc::clone(&resolver), shutdown.clone()));
    Fixture { address, resolver, zone, asked, shutdown }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4321, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

impl Fixture {
    async fn udp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(packet, self.address).await.unwrap();
        let mut answer = vec![0; 65_535];
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await.ok()?.unwrap();
        answer.truncate(length);
        Some(answer)
    }

    async fn ask(&self, message: &Message) -> Message {
        Message::from_vec(&self.udp(&message.to_vec().unwrap()).await.unwrap()).unwrap()
    }

    /// `expected`: the verdict, then the records of the answer, sorted, as `name type data`.
    async fn check(&self, name: &str, kind: RecordType, expected: &[&str]) {
        let answer = self.ask(&question(name, kind)).await;
        assert_eq!(answer.metadata.id, 4321);
        assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
        assert_eq!(answer.queries[0].name().to_ascii(), name, "the question comes back as it was spelled");
        let mut lines: Vec<_> = answer.answers.iter().map(line).collect();
        lines.sort();
        lines.insert(0, answer.metadata.response_code.to_string());
        assert_eq!(lines, expected, "{name} {kind}");
        if answer.answers.is_empty() && answer.metadata.authoritative {
            let soa = answer.authorities.iter().map(line).collect::<Vec<_>>();
            let expected =
                "cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5";
            assert_eq!(soa, [expected], "a negative answer says how long it holds");
            assert_eq!(answer.authorities[0].ttl, 5);
        }
    }
}

fn line(record: &Record) -> String {
    format!("{} {} {}", record.name, record.record_type(), record.data)
}

const OK: &str = "No Error";
const NX: &str = "Non-Existent Domain";

#[tokio::test]
async fn services() {
    let dns = fixture().await;
    let web = "web.default.svc.cluster.local.";
    dns.check(web, RecordType::A, &[OK, &format!("{web} A 10.96.0.20")]).await;
    dns.check(web, RecordType::AAAA, &[OK, &format!("{web} AAAA fd00::20")]).await;
    dns.check(
        "WEB.Default.svc.Cluster.local.",
        RecordType::A,
        &[OK, "WEB.Default.svc.Cluster.local. A 10.96.0.20"],
    )
    .await;
    dns.check(web, RecordType::TXT, &[OK]).await;
    dns.check("nobody.default.svc.cluster.local.", RecordType::A, &[NX]).await;
    dns.check("web.nowhere.svc.cluster.local.", RecordType::A, &[NX]).await;
    dns.check("bare.svc.cluster.local.", RecordType::A, &[OK]).await;
    dns.check("svc.cluster.local.", RecordType::A, &[OK]).await;
    dns.check("cluster.local.", RecordType::A, &[OK]).await;
    dns.check("example.test.cluster.local.", RecordType::A, &[NX]).await;
    let srv = "_http._tcp.web.default.svc.cluster.local.";
    dns.check(srv, RecordType::SRV, &[OK, &format!("{srv} SRV 0 100 80 {web}")]).await;
    dns.check("_http._udp.web.default.svc.cluster.local.", RecordType::SRV, &[NX]).await;
    let all = [format!("{web} SRV 0 50 80 {web}"), format!("{web} SRV 0 50 81 {web}")];
    dns.check(web, RecordType::SRV, &[OK, &all[0], &all[1]]).await;
    let glue =
        dns.ask(&question(srv, RecordType::SRV)).await.additionals.iter().map(line).collect::<Vec<_>>();
    assert_eq!(glue, [format!("{web} A 10.96.0.20"), format!("{web} AAAA fd00::20")]);
    dns.check(
        "10-244-0-5.web.default.svc.cluster.local.",
        RecordType::A,
        &[OK, "10-244-0-5.web.default.svc.cluster.local. A 10.244.0.5"],
    )
    .await;
}

#[tokio::test]
async fn headless_services_and_pods() {
    let dns = fixture().await;
    let set = "set.default.svc.cluster.local.";
    let both = [format!("{set} A 10.244.0.7"), format!("{set} A 10.244.0.8")];
    dns.check(set, RecordType::A, &[OK, &both[0], &both[1]]).await;
    dns.check(set, RecordType::AAAA, &[OK]).await;
    dns.check(&format!("set-0.{set}"), RecordType::A, &[OK, &format!("set-0.{set} A 10.244.0.7")]).await;
    dns.check(&format!("10-244-0-8.{set}"), RecordType::A, &[OK, &format!("10-244-0-8.{set} A 10.244.0.8")])
        .await;
    dns.check(&format!("set-9.{set}"), RecordType::A, &[NX]).await;
    let srv = [
        format!("_http._tcp.{set} SRV 0 50 8080 10-244-0-8.{set}"),
        format!("_http._tcp.{set} SRV 0 50 8080 set-0.{set}"),
    ];
    dns.check(&format!("_http._tcp.{set}"), RecordType::SRV, &[OK, &srv[0], &srv[1]]).await;
    dns.check("empty.default.svc.cluster.local.", RecordType::A, &[NX]).await;
    let pod = "10-244-0-99.default.pod.cluster.local.";
    dns.check(pod, RecordType::A, &[OK, &format!("{pod} A 10.244.0.99")]).await;
    dns.check("10-244-0-99.nowhere.pod.cluster.local.", RecordType::A, &[NX]).await;
    dns.check("10-244-0.default.pod.cluster.local.", RecordType::A, &[NX]).await;
    dns.check(
        "fd00--5.default.pod.cluster.local.",
        RecordType::AAAA,
        &[OK, "fd00--5.default.pod.cluster.local. AAAA fd00::5"],
    )
    .await;
}

#[tokio::test]
async fn the_zone_itself_and_reverse_names() {
    let dns = fixture().await;
    let version = "dns-version.cluster.local.";
    dns.check(version, RecordType::TXT, &[OK, &format!("{version} TXT 1.1.0")]).await;
    dns.check("cluster.local.", RecordType::NS, &[OK, "cluster.local. NS ns.dns.cluster.local."]).await;
    dns.check("ns.dns.cluster.local.", RecordType::A, &[OK, "ns.dns.cluster.local. A 10.96.0.10"]).await;
    let soa = "cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5";
    dns.check("cluster.local.", RecordType::SOA, &[OK, soa]).await;
    let reverse = "20.0.96.10.in-addr.arpa.";
    dns.check(reverse, RecordType::PTR, &[OK, &format!("{reverse} PTR web.default.svc.cluster.local.")])
        .await;
    let six = "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";
    dns.check(six, RecordType::PTR, &[OK, &format!("{six} PTR web.default.svc.cluster.local.")]).await;
    let pod = "7.0.244.10.in-addr.arpa.";
    dns.check(pod, RecordType::PTR, &[OK, &format!("{pod} PTR set-0.set.default.svc.cluster.local.")]).await;
    // Not ours: passed on.
    dns.check("1.2.0.192.in-addr.arpa.", RecordType::PTR, &[NX]).await;
    assert_eq!(dns.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn external_names() {
    let dns = fixture().await;
    let (outside, inside) = ("outside.default.svc.cluster.local.", "inside.default.svc.cluster.local.");
    let alias = format!("{outside} CNAME example.test.");
    dns.check(outside, RecordType::A, &[OK, "example.test. A 192.0.2.80", &alias]).await;
    dns.check(outside, RecordType::CNAME, &[OK, &alias]).await;
    let web = "web.default.svc.cluster.local.";
    dns.check(inside, RecordType::A, &[OK, &format!("{inside} CNAME {web}"), &format!("{web} A 10.96.0.20")])
        .await;
    dns.check("address.default.svc.cluster.local.", RecordType::A, &[NX]).await;
    let circle = dns.ask(&question("circle.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(circle.metadata.response_code.to_string(), "Server Failure");
}

#[tokio::test]
async fn other_names_are_passed_on_and_kept() {
    let dns = fixture().await;
    dns.check("example.test.", RecordType::A, &[OK, "example.test. A 192.0.2.80"]).await;
    dns.check("Example.TEST.", RecordType::A, &[OK, "Example.TEST. A 192.0.2.80"]).await;
    assert_eq!(dns.asked.load(Ordering::Relaxed), 1, "the second came from the cache");
    dns.check("nothing.test.", RecordType::A, &[NX]).await;
    let counters = dns.resolver.counters().snapshot();
    assert_eq!((counters.udp_queries, counters.cache_hits, counters.forwarded), (3, 1, 2));
}

#[tokio::test]
async fn without_an_upstream_other_names_fail_and_ours_do_not() {
    let server = free().await;
    let dns = serve(server, Forwarder::new(Vec::new()), Arc::default());
    dns.check("example.test.", RecordType::A, &["Server Failure"]).await;
    dns.check(
        "web.default.svc.cluster.local.",
        RecordType::AAAA,
        &[OK, "web.default.svc.cluster.local. AAAA fd00::20"],
    )
    .await;
    dns.zone.send_replace(Arc::new(Zone::unready(&spec())));
    assert!(!dns.resolver.is_ready());
    let answer = dns.ask(&question("web.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code.to_string(), "Server Failure");
}

#[tokio::test]
async fn an_upstream_that_is_ourselves_is_left_out() {
    let server = free().await;
    let own = server.addresses().unwrap();
    let dns = serve(server, Forwarder::new(own.clone()), Arc::default());
    tokio::time::timeout(PATIENCE, async {
        while dns.resolver.forwarder().looped().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(dns.resolver.forwarder().looped(), own);
    dns.check("example.test.", RecordType::A, &["Server Failure"]).await;
}

#[tokio::test]
async fn answers_that_do_not_fit_are_cut_and_whole_by_tcp() {
    let dns = fixture().await;
    let name = "large.default.svc.cluster.local.";
    let mut message = question(name, RecordType::A);
    let plain = dns.udp(&message.to_vec().unwrap()).await.unwrap();
    let answer = Message::from_vec(&plain).unwrap();
    assert!(plain.len() <= 512 && answer.metadata.truncation && !answer.answers.is_empty());

    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    let larger = dns.udp(&message.to_vec().unwrap()).await.unwrap();
    let answer = Message::from_vec(&larger).unwrap();
    assert!(larger.len() > 1100 && larger.len() <= 1232 && answer.metadata.truncation);
    assert_eq!(answer.edns.as_ref().unwrap().max_payload(), 1232);

    let mut stream = TcpStream::connect(dns.address).await.unwrap();
    for _ in 0..2 {
        let packet = message.to_vec().unwrap();
        stream.write_u16(u16::try_from(packet.len()).unwrap()).await.unwrap();
        stream.write_all(&packet).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert!(!answer.metadata.truncation);
        assert_eq!(answer.answers.len(), 100);
    }
    let first = |message: Message| message.answers[0].data.to_string();
    let (one, two) = (dns.ask(&message).await, dns.ask(&message).await);
    assert_ne!(first(one), first(two), "each answer starts elsewhere");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_answers_are_ignored() {
    let dns = fixture().await;
    let good = question("web.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    let verdict = |answer: Vec<u8>| (answer[..2].to_vec(), answer[2] & 0x80, answer[3] & 0x0f);
    let cut = dns.udp(&good[..20]).await.unwrap();
    assert_eq!(verdict(cut), (good[..2].to_vec(), 0x80, 1));
    let mut update = good.clone();
    update[2] |= 5 << 3;
    assert_eq!(verdict(dns.udp(&update).await.unwrap()).2, 4);
    let mut version = question("web.default.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(9);
    version.set_edns(edns);
    let answer = dns.ask(&version).await;
    assert_eq!(answer.edns.unwrap().rcode_high(), 1);
    dns.check("web.default.svc.cluster.local.", RecordType::AXFR, &["Query Refused"]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = good.clone();
    answer[2] |= 0x80;
    for silent in [&answer[..], &good[..5], &[]] {
        socket.send_to(silent, dns.address).await.unwrap();
    }
    socket.send_to(&good, dns.address).await.unwrap();
    let mut heard = [0; 512];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut heard)).await.unwrap().unwrap();
    assert_eq!(
        Message::from_vec(&heard[..length]).unwrap().answers.len(),
        1,
        "the first answer is to the good query"
    );
    let malformed = dns.resolver.counters().snapshot().malformed;
    assert!(malformed >= 4, "{malformed}");
}

#[tokio::test]
async fn binding_twice_is_an_error() {
    let dns = fixture().await;
    assert!(Server::bind(&[dns.address]).await.is_err());
    let elsewhere: IpAddr = [192, 0, 2, 1].into();
    assert!(Server::bind(&[SocketAddr::new(elsewhere, 0)]).await.is_err());
}
