//! Ports of the node that lead to pods: from outside, from the node, from pods, and over loopback.

use crate::world::{CLIENT, NODE, PATIENCE, SILENCE, World, call, call_in_vain, world};
use nauplius_link::nft::{Family, Nft, Table};
use nauplius_link::{Netns, sysctl};
use nauplius_net::host_ports::{HostPort, HostPortError, HostPorts};
use nauplius_net::proxy::Protocol;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const PORT: u16 = 8080;
const TABLE: &str = "naut-host-ports";
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn port(protocol: Protocol, host_ip: Option<[u8; 4]>, host_port: u16) -> HostPort {
    HostPort { protocol, host_ip: host_ip.map(IpAddr::from), host_port, container_port: PORT }
}

/// Each call opens anew, as a server does that was killed meanwhile.
fn on_node<T: Send>(world: &World, work: impl FnOnce(&mut HostPorts) -> T + Send) -> T {
    let bridge = world.network().bridge();
    world.node.run(|| work(&mut HostPorts::open(TABLE, bridge).unwrap())).unwrap()
}

fn serving(world: &mut World, id: &str) -> (IpAddr, usize) {
    let pod = world.pod(id);
    let address = world.pods[pod].address;
    world.serve(&world.pods[pod].netns, id, (address, PORT).into());
    (address, pod)
}

fn table_is_there(world: &World) -> bool {
    Nft::open_in(&world.node).unwrap().tables().unwrap().contains(&Table::new(Family::Ip, TABLE))
}

#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    let Some(mut world) = world() else { return };
    let ((a, at_a), (b, at_b)) = (serving(&mut world, "a"), serving(&mut world, "b"));
    on_node(&world, |ports| {
        ports.add(a, &[port(Protocol::Tcp, None, 80)]).unwrap();
        // The same port of one address is another port.
        ports.add(b, &[port(Protocol::Tcp, Some(LOOPBACK), 80), port(Protocol::Tcp, None, 81)]).unwrap();
    });
    let (client, node) = (IpAddr::from(CLIENT), IpAddr::from(NODE));
    for (from, to, expected) in [
        (&world.client, (NODE, 80), format!("a {client}")),
        (&world.client, (NODE, 81), format!("b {client}")),
        (&world.node, (NODE, 80), format!("a {node}")),
        (&world.node, (LOOPBACK, 80), "b 10.244.0.1".to_owned()),
        (&world.node, (LOOPBACK, 81), "b 10.244.0.1".to_owned()),
        (&world.pods[at_b].netns, (NODE, 80), format!("a {b}")),
        (&world.pods[at_a].netns, (NODE, 80), "a 10.244.0.1".to_owned()),
        (&world.client, (NODE, 82), "refused".to_owned()),
    ] {
        let to: SocketAddr = to.into();
        assert_eq!(call(from, to), expected, "{to}");
    }
    let again = on_node(&world, |ports| ports.add(b, &[port(Protocol::Tcp, None, 80)]));
    assert!(matches!(again, Err(HostPortError::Taken { port: 80, pod, .. }) if pod == a), "{again:?}");
    assert_eq!(call(&world.client, (NODE, 81).into()), format!("b {client}"), "a refusal changes nothing");

    on_node(&world, |ports| ports.remove(a)).unwrap();
    assert_eq!(call(&world.client, (NODE, 80).into()), "refused");
    assert_eq!(call(&world.client, (NODE, 81).into()), format!("b {client}"));
    on_node(&world, |ports| ports.remove(b)).unwrap();
    on_node(&world, |ports| ports.remove(b)).unwrap();
    assert!(!table_is_there(&world));
}

#[test]
fn pods_do_not_reach_the_nodes_loopback() {
    let Some(mut world) = world() else { return };
    let (a, at_a) = serving(&mut world, "a");
    let bridge = world.network().bridge().to_owned();
    let routed = |world: &World| {
        let key = format!("net/ipv4/conf/{bridge}/route_localnet");
        world.node.run(|| sysctl::read(&key).unwrap()).unwrap()
    };
    world.serve(&world.node, "secret", (LOOPBACK, 9000).into());
    on_node(&world, |ports| ports.add(a, &[port(Protocol::Tcp, None, 80)])).unwrap();
    assert_eq!(routed(&world), "1");
    // The pod has to be made to send such a packet at all.
    world.pods[at_a].netns.run(|| sysctl::write("net/ipv4/conf/eth0/route_localnet", "1")).unwrap().unwrap();
    assert_eq!(call(&world.pods[at_a].netns, (NODE, 9000).into()), "refused");
    let spoofed = world.pods[at_a].netns.run(|| {
        use nauplius_link::route::Route;
        let mut rtnl = nauplius_link::Rtnl::open().unwrap();
        let eth0 = rtnl.link("eth0").unwrap().unwrap().index;
        rtnl.replace_route(&Route::via("127.9.0.0/16".parse().unwrap(), [10, 244, 0, 1].into(), eth0))
    });
    spoofed.unwrap().unwrap();
    assert_eq!(call_in_vain(&world.pods[at_a].netns, ([127, 9, 0, 1], 9000).into()), "dropped");
    nauplius_link::Rtnl::open_in(&world.node).unwrap().delete_link(&bridge).unwrap();
    world.node.run(|| world.network().mend().unwrap()).unwrap();
    on_node(&world, |ports| ports.mend()).unwrap();
    assert_eq!(routed(&world), "1");
    on_node(&world, |ports| ports.remove(a)).unwrap();
    assert_eq!(routed(&world), "0");
}

fn ask(from: &Netns, to: ([u8; 4], u16), limit: Duration) -> Option<Vec<u8>> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:5555").unwrap();
        socket.set_read_timeout(Some(limit)).unwrap();
        socket.send_to(b"?", SocketAddr::from(to)).unwrap();
        let mut buffer = [0; 16];
        // Silence is an answer, too.
        socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
    })
    .unwrap()
}

/// Answers one question with the pod's name.
fn answer_once(world: &World, pod: usize) -> std::thread::JoinHandle<()> {
    let (address, name) = (world.pods[pod].address, world.pods[pod].id.clone());
    let socket = world.pods[pod].netns.run(|| UdpSocket::bind((address, PORT)).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(name.as_bytes(), from).unwrap();
        }
    })
}

#[test]
fn udp_flows_follow_the_port() {
    let Some(mut world) = world() else { return };
    let pods = [world.pod("a"), world.pod("b")];
    let port = [port(Protocol::Udp, None, 53)];
    // A flow from the very same socket address as those that come later.
    assert_eq!(ask(&world.client, (NODE, 53), SILENCE), None);
    for pod in pods {
        let address = world.pods[pod].address;
        on_node(&world, |ports| ports.add(address, &port)).unwrap();
        let answering = answer_once(&world, pod);
        let answer = ask(&world.client, (NODE, 53), PATIENCE);
        assert_eq!(answer, Some(world.pods[pod].id.clone().into_bytes()));
        answering.join().unwrap();
        on_node(&world, |ports| ports.remove(address)).unwrap();
    }
    assert_eq!(ask(&world.client, (NODE, 53), SILENCE), None);
    assert!(!table_is_there(&world));
}
