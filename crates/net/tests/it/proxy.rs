//! The same truth table on real packets through nftables and on the evaluator.

use crate::world::{CLIENT, NODE, PATIENCE, World, call, call_in_vain, world};
use nauplius_link::{Netns, sysctl};
use nauplius_net::proxy::{
    Dataplane, Endpoint, Evaluator, Network, NftDataplane, Outcome, Packet, Protocol, RuleSet, ServiceName,
    ServicePort, TrafficPolicy, plan,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

const PORT: u16 = 8080;

fn name(name: &str) -> ServiceName {
    ServiceName {
        namespace: "default".into(),
        name: name.into(),
        port_name: "http".into(),
        protocol: Protocol::Tcp,
    }
}

fn service(number: u8, endpoints: &[IpAddr]) -> ServicePort {
    let mut service = ServicePort::new(name(&format!("s{number}")), [10, 96, 0, number].into(), 80);
    let local = |ip: &IpAddr| Endpoint { local: true, ..Endpoint::new(*ip, PORT) };
    service.endpoints = endpoints.iter().map(local).collect();
    service
}

fn network() -> Network {
    Network {
        node: "n".into(),
        pod_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        masquerade_egress: true,
        ..Network::default()
    }
}

/// A node with two serving pods, and both dataplanes.
struct Bench {
    world: World,
    real: NftDataplane,
    fake: Evaluator,
}

fn bench() -> Option<Bench> {
    let mut world = world()?;
    for id in ["a", "b"] {
        let pod = world.pod(id);
        world.serve(&world.pods[pod].netns, id, (world.pods[pod].address, PORT).into());
    }
    let real = NftDataplane::open_in(&world.node, "naut", false).unwrap();
    let fake = Evaluator::new([IpAddr::from(NODE), [10, 244, 0, 1].into(), [127, 0, 0, 1].into()]);
    Some(Bench { world, real, fake })
}

impl Bench {
    fn pod(&self, id: &str) -> &crate::world::Pod {
        self.world.pods.iter().find(|pod| pod.id == id).unwrap()
    }

    fn addresses(&self, ids: &[&str]) -> Vec<IpAddr> {
        ids.iter().map(|id| self.pod(id).address).collect()
    }

    fn apply(&mut self, services: &[ServicePort]) -> RuleSet {
        let rules = plan(network(), services);
        self.real.apply(&rules).unwrap();
        self.fake.apply(&rules).unwrap();
        let (real, fake) = (self.real.observe().unwrap(), self.fake.observe().unwrap());
        assert_eq!(real, fake);
        rules
    }

    fn place(&self, from: &str) -> (&Netns, IpAddr) {
        match from {
            "client" => (&self.world.client, CLIENT.into()),
            "node" => (&self.world.node, NODE.into()),
            pod => (&self.pod(pod).netns, self.pod(pod).address),
        }
    }

    /// `expected` is who may answer, with `!` for an answerer that sees the node instead of the caller; or `refused`, `dropped`.
    fn check(&self, from: &str, to: ([u8; 4], u16), expected: &str) {
        let (netns, source) = self.place(from);
        let destination = SocketAddr::from(to);
        let packet = Packet { source, destination, protocol: Protocol::Tcp };
        let context = format!("{from} to {destination}");
        assert_eq!(self.show(&self.fake.evaluate(&packet)), expected, "the evaluator, {context}");
        let allowed: BTreeSet<_> = expected.split(' ').map(str::to_owned).collect();
        let mut seen = BTreeSet::new();
        // Chance draws the endpoint: with two, 40 calls miss one once in 2^39 runs.
        let calls = if allowed.len() > 1 { 40 } else { 2 };
        let call = if expected == "dropped" { call_in_vain } else { call };
        for _ in 0..calls {
            seen.insert(self.heard(&call(netns, destination), source));
        }
        assert_eq!(seen, allowed, "the kernel, {context}");
    }

    fn show(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Rejected => "refused".into(),
            Outcome::Dropped => "dropped".into(),
            Outcome::Passed { .. } => "passed".into(),
            Outcome::Translated(targets) => {
                let who = |target: &nauplius_net::proxy::Target| {
                    let pod = self.world.pods.iter().find(|pod| pod.address == target.endpoint.ip()).unwrap();
                    format!("{}{}", pod.id, if target.masqueraded { "!" } else { "" })
                };
                targets.iter().map(who).collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn heard(&self, answer: &str, source: IpAddr) -> String {
        match answer.split_once(' ') {
            Some((who, seen)) if seen == source.to_string() => who.to_owned(),
            Some((who, "10.244.0.1")) => format!("{who}!"),
            _ => answer.to_owned(),
        }
    }
}

/// With the br_netfilter module and without it, which is how machines differ.
fn benches() -> impl Iterator<Item = Bench> {
    ["0", "1"].into_iter().filter_map(|on| {
        let bench = bench()?;
        let key = "net/bridge/bridge-nf-call-iptables";
        // Where the module is missing there is only the one way, tested all the same.
        bench
            .world
            .node
            .run(|| {
                sysctl::write(key, on).or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
            })
            .unwrap()
            .unwrap();
        Some(bench)
    })
}

#[test]
fn cluster_ips() {
    benches().for_each(|mut bench| check_cluster_ips(&mut bench));
}

fn check_cluster_ips(bench: &mut Bench) {
    let both = bench.addresses(&["a", "b"]);
    bench.apply(&[service(1, &both), service(2, &both[1..]), service(3, &[])]);
    bench.check("a", ([10, 96, 0, 2], 80), "b");
    bench.check("b", ([10, 96, 0, 2], 80), "b!");
    bench.check("a", ([10, 96, 0, 1], 80), "a! b");
    bench.check("node", ([10, 96, 0, 1], 80), "a! b!");
    bench.check("client", ([10, 96, 0, 2], 80), "b!");
    bench.check("a", ([10, 96, 0, 3], 80), "refused");
    bench.check("node", ([10, 96, 0, 3], 80), "refused");
    bench.check("a", ([10, 96, 0, 1], 81), "refused");
    bench.check("client", ([10, 96, 0, 1], 81), "refused");
}

#[test]
fn node_ports_and_policies() {
    benches().for_each(|mut bench| check_node_ports(&mut bench));
}

fn check_node_ports(bench: &mut Bench) {
    let both = bench.addresses(&["a", "b"]);
    let mut open = service(1, &both[..1]);
    open.node_port = Some(30_001);
    let mut keeping = service(2, &both);
    (keeping.node_port, keeping.external_policy) = (Some(30_002), TrafficPolicy::Local);
    keeping.endpoints[1].local = false;
    let mut elsewhere = service(3, &both[..1]);
    (elsewhere.node_port, elsewhere.external_policy) = (Some(30_003), TrafficPolicy::Local);
    elsewhere.internal_policy = TrafficPolicy::Local;
    elsewhere.endpoints[0].local = false;
    let mut empty = service(4, &[]);
    empty.node_port = Some(30_004);
    bench.apply(&[open, keeping, elsewhere, empty]);

    bench.check("client", (NODE, 30_001), "a!");
    bench.check("b", (NODE, 30_001), "a!");
    bench.check("node", (NODE, 30_001), "a!");
    bench.check("client", (NODE, 30_002), "a");
    bench.check("b", (NODE, 30_002), "a b!");
    bench.check("node", (NODE, 30_002), "a! b!");
    bench.check("client", (NODE, 30_003), "dropped");
    bench.check("b", (NODE, 30_003), "a");
    bench.check("b", ([10, 96, 0, 3], 80), "dropped");
    bench.check("client", (NODE, 30_004), "refused");
    assert_eq!(call(&bench.world.node, ([127, 0, 0, 1], 30_001).into()), "refused", "not on loopback");
}

#[test]
fn external_addresses_and_their_guard() {
    let Some(mut bench) = bench() else { return };
    let a = bench.addresses(&["a"]);
    let mut guarded = service(1, &a);
    guarded.load_balancer_ips = vec![[203, 0, 113, 1].into()];
    guarded.source_ranges = vec!["192.168.50.2/32".parse().unwrap()];
    let mut closed = service(2, &a);
    closed.load_balancer_ips = vec![[203, 0, 113, 2].into()];
    closed.source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    let mut open = service(3, &a);
    open.external_ips = vec![[203, 0, 113, 3].into()];
    bench.apply(&[guarded, closed, open]);
    bench.check("client", ([203, 0, 113, 1], 80), "a!");
    bench.check("b", ([203, 0, 113, 1], 80), "dropped");
    bench.check("client", ([203, 0, 113, 2], 80), "dropped");
    bench.check("client", ([203, 0, 113, 3], 80), "a!");
}

#[test]
fn a_client_sticks_to_its_endpoint() {
    let Some(mut bench) = bench() else { return };
    let mut sticky = service(1, &bench.addresses(&["a", "b"]));
    sticky.affinity_seconds = Some(10_800);
    bench.apply(std::slice::from_ref(&sticky));
    let answers = |bench: &Bench| -> BTreeSet<String> {
        (0..20).map(|_| call(&bench.world.client, ([10, 96, 0, 1], 80).into())).collect()
    };
    let first = answers(&bench);
    assert_eq!(first.len(), 1, "{first:?}");
    // The endpoint goes away; its clients move on and stick again.
    let gone = first.iter().next().unwrap()[..1].to_owned();
    sticky.endpoints.retain(|endpoint| endpoint.ip != bench.pod(&gone).address);
    bench.apply(std::slice::from_ref(&sticky));
    let second = answers(&bench);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_ne!(first, second);
}

#[test]
fn changes_touch_only_what_differs_and_survive_a_stranger() {
    let Some(mut bench) = bench() else { return };
    let both = bench.addresses(&["a", "b"]);
    bench.apply(&[service(1, &both[..1]), service(2, &both)]);
    bench.check("b", ([10, 96, 0, 1], 80), "a");
    bench.apply(&[service(1, &both[1..]), service(2, &both)]);
    bench.check("a", ([10, 96, 0, 1], 80), "b");
    bench.apply(&[service(1, &[]), service(3, &both[..1])]);
    bench.check("b", ([10, 96, 0, 1], 80), "refused");
    bench.check("b", ([10, 96, 0, 3], 80), "a");

    let mut stranger = nauplius_link::nft::Nft::open_in(&bench.world.node).unwrap();
    let table = nauplius_link::nft::Table::new(nauplius_link::nft::Family::Ip, "naut");
    stranger.delete_table(&table).unwrap();
    bench.apply(&[service(1, &both[..1])]);
    bench.check("b", ([10, 96, 0, 1], 80), "a");
    // Without a change, too: it is missed, and the same rules are applied whole.
    assert!(bench.real.is_whole().unwrap());
    stranger.delete_table(&table).unwrap();
    assert!(!bench.real.is_whole().unwrap());
    bench.apply(&[service(1, &both[..1])]);
    bench.check("b", ([10, 96, 0, 1], 80), "a");
    bench.apply(&[]);
    assert_eq!(bench.real.observe().unwrap().served.len(), 0);
}

/// Thousands of services, and one of them changes: only that one's messages are sent.
#[test]
fn many_services() {
    let Some(mut bench) = bench() else { return };
    let mut services: Vec<_> = (0..2000u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let mut service =
                ServicePort::new(name(&format!("s{number}")), [10, 96, 1 + high, low].into(), 80);
            service.endpoints = (1..5).map(|last| Endpoint::new([10, 244, 1, last].into(), PORT)).collect();
            service
        })
        .collect();
    bench.apply(&services);
    assert_eq!(bench.real.observe().unwrap().served.len(), 2000);
    services[7].endpoints = vec![Endpoint::new(bench.pod("a").address, PORT)];
    bench.apply(&services);
    bench.check("b", ([10, 96, 1, 7], 80), "a");
}

/// Asks by UDP from one socket, whose flow the kernel remembers.
fn ask(socket: &UdpSocket, to: ([u8; 4], u16)) -> String {
    socket.send_to(b"?", SocketAddr::from(to)).unwrap();
    let mut buffer = [0; 16];
    match socket.recv(&mut buffer) {
        Ok(length) => String::from_utf8_lossy(&buffer[..length]).into_owned(),
        Err(error) => error.kind().to_string(),
    }
}

#[test]
fn udp_flows_follow_their_service() {
    let Some(mut bench) = bench() else { return };
    let udp = |ids: &[&str], bench: &Bench| {
        let mut service = service(1, &bench.addresses(ids));
        service.name.protocol = Protocol::Udp;
        service.node_port = Some(30_053);
        service
    };
    for id in ["a", "b"] {
        let address = bench.pod(id).address;
        let socket = bench.pod(id).netns.run(|| UdpSocket::bind((address, PORT)).unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                // A caller that went away is its own business.
                let _ = socket.send_to(id.as_bytes(), from);
            }
        });
    }
    let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
    let (inside, outside) = (bench.pod("b").netns.run(bind).unwrap(), bench.world.client.run(bind).unwrap());
    for socket in [&inside, &outside] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    for endpoint in ["a", "b", "a"] {
        let rules = [udp(&[endpoint], &bench)];
        bench.apply(&rules);
        assert_eq!(ask(&inside, ([10, 96, 0, 1], 80)), endpoint);
        assert_eq!(ask(&outside, (NODE, 30_053)), endpoint);
    }
}
