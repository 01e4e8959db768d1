//! Real packets: a client behind one link, a server behind another, and a router between them that translates.

use crate::netns;
use nauplius_link::conntrack::{Conntrack, UDP};
use nauplius_link::nft::{
    Batch, Chain, ChainKind, Element, Expr, Family, Field, Hook, Key, MapData, MetaKey, NatKind, Nft,
    PayloadBase, Reg, Rule, Set, SetRef, Table,
};
use nauplius_link::route::{Address, LinkChange, Route, VethEnd, VethSpec};
use nauplius_link::{Netns, Rtnl, sysctl};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const SERVICE: [u8; 4] = [10, 96, 0, 1];
const R0: Reg = Reg::word(0);

/// client (10.1.0.2) - router - server (10.2.0.2, 10.2.0.3)
struct Topology {
    client: Netns,
    router: Netns,
    server: Netns,
}

fn topology() -> Option<Topology> {
    let topology = Topology { client: netns()?, router: netns()?, server: netns()? };
    for (number, end) in [(1, &topology.client), (2, &topology.server)] {
        connect(&topology.router, end, number);
    }
    topology.router.run(|| sysctl::write("net/ipv4/ip_forward", "1").unwrap()).unwrap();
    let mut server = Rtnl::open_in(&topology.server).unwrap();
    let eth0 = server.link("eth0").unwrap().unwrap().index;
    server.add_address(&Address::new(eth0, "10.2.0.3/24".parse().unwrap())).unwrap();
    Some(topology)
}

fn connect(router: &Netns, end: &Netns, number: u8) {
    let mut near = Rtnl::open_in(router).unwrap();
    let name = format!("veth{number}");
    let spec = VethSpec {
        near: VethEnd { name: &name, ..VethEnd::default() },
        up: true,
        far: VethEnd { name: "eth0", ..VethEnd::default() },
        far_netns: Some(end.as_fd()),
        master: None,
    };
    let link = near.create_veth(&spec).unwrap();
    let address = |last| format!("10.{number}.0.{last}/24").parse().unwrap();
    near.add_address(&Address::new(link.index, address(1))).unwrap();
    let mut far = Rtnl::open_in(end).unwrap();
    for up in ["lo", "eth0"] {
        let index = far.link(up).unwrap().unwrap().index;
        far.change_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    }
    let index = far.link("eth0").unwrap().unwrap().index;
    far.add_address(&Address::new(index, address(2))).unwrap();
    far.add_route(&Route::default_via([10, number, 0, 1].into(), index)).unwrap();
}

fn targets() -> Set {
    let to = MapData::Fields(vec![Field::Ipv4, Field::Port]);
    Set::map("targets", [Field::Ipv4, Field::Proto, Field::Port], to)
}

fn target(protocol: u8, to: SocketAddr) -> Element {
    let key = Key::new().ip(SERVICE.into()).proto(protocol).port(80);
    Element::value(key, Key::new().ip(to.ip()).port(to.port()))
}

fn translate(router: &Netns, elements: &[Element]) -> Nft {
    let mut nft = Nft::open_in(router).unwrap();
    let mut batch = Batch::new(Table::new(Family::Ip, "test"));
    batch.add_table();
    batch.add_chain(&Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, -100));
    batch.add_set(&targets());
    batch.add_elements(&targets(), elements);
    let rule = Rule::new([
        Expr::Payload { base: PayloadBase::Network, offset: 16, len: 4, dreg: R0 },
        Expr::Meta { key: MetaKey::L4Proto, dreg: R0.after(1) },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: R0.after(2) },
        Expr::Lookup { set: SetRef::Named("targets".into()), sreg: R0, dreg: Some(R0), inverted: false },
        Expr::Nat {
            kind: NatKind::Destination,
            ipv6: false,
            address: Some(R0),
            port: Some(R0.after(1)),
            flags: 0,
        },
    ]);
    batch.add_rule("prerouting", &rule);
    batch.commit(&mut nft).unwrap();
    nft
}

#[test]
fn a_connection_goes_through_a_map_of_destinations() {
    let Some(Topology { client, router, server }) = topology() else { return };
    let listener = server.run(|| TcpListener::bind("10.2.0.2:8080").unwrap()).unwrap();
    translate(&router, &[target(6, "10.2.0.2:8080".parse().unwrap())]);
    let answering = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        from
    });
    let mut heard = String::new();
    client
        .run(|| {
            let mut stream = TcpStream::connect_timeout(&(SERVICE, 80).into(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_string(&mut heard).unwrap();
        })
        .unwrap();
    assert_eq!(heard, "hello");
    assert_eq!(answering.join().unwrap().ip(), IpAddr::from([10, 1, 0, 2]));
}

fn ask(from: &UdpSocket) -> String {
    from.send_to(b"?", (IpAddr::from(SERVICE), 80)).unwrap();
    let mut buffer = [0; 16];
    let length = from.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Answers with its own address until the socket hears nothing for a while.
fn answer(server: &Netns, address: &'static str) -> std::thread::JoinHandle<()> {
    let socket = server.run(|| UdpSocket::bind((address, 53)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(address.as_bytes(), from).unwrap();
        }
    })
}

#[test]
fn a_udp_flow_moves_when_its_entry_is_forgotten() {
    let Some(Topology { client, router, server }) = topology() else { return };
    let answering = [answer(&server, "10.2.0.2"), answer(&server, "10.2.0.3")];
    let old = target(UDP, "10.2.0.2:53".parse().unwrap());
    let mut nft = translate(&router, std::slice::from_ref(&old));
    let socket = client.run(|| UdpSocket::bind("10.1.0.2:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&socket), "10.2.0.2");

    let mut batch = Batch::new(Table::new(Family::Ip, "test"));
    batch.delete_elements(&targets(), &[old]);
    batch.add_elements(&targets(), &[target(UDP, "10.2.0.3:53".parse().unwrap())]);
    batch.commit(&mut nft).unwrap();
    assert_eq!(ask(&socket), "10.2.0.2", "a tracked flow keeps its way");

    let mut conntrack = Conntrack::open_in(&router).unwrap();
    let stale = |flow: &nauplius_link::conntrack::Flow| {
        flow.protocol == UDP
            && flow.original.destination == (SERVICE, 80).into()
            && flow.reply.source == "10.2.0.2:53".parse().unwrap()
    };
    assert_eq!(conntrack.delete(false, stale).unwrap(), 1);
    assert_eq!(conntrack.delete(false, stale).unwrap(), 0);
    assert_eq!(ask(&socket), "10.2.0.3");
    for thread in answering {
        thread.join().unwrap();
    }
}
