//! A node with its pod network, some pods and a client outside, each in a namespace that ends with the test.

use nauplius_link::route::{Address, LinkChange, Route, VethEnd, VethSpec};
use nauplius_link::{Netns, Rtnl, netns};
use nauplius_net::bridge::{self, PodNetwork, PodNetworkSpec};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The node's address on the outside network; the client is next to it.
pub const NODE: [u8; 4] = [192, 168, 50, 1];
pub const CLIENT: [u8; 4] = [192, 168, 50, 2];
/// How long an answer may take: a machine with other work takes its time.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing is heard of what is dropped. A machine that is slow makes this no shorter, so only what should be dropped is asked so.
pub const SILENCE: Duration = Duration::from_millis(400);

pub struct Pod {
    pub id: String,
    pub netns: Netns,
    pub path: PathBuf,
    pub address: IpAddr,
}

pub struct World {
    pub node: Netns,
    pub client: Netns,
    pub network: Option<PodNetwork>,
    pub spec: PodNetworkSpec,
    pub pods: Vec<Pod>,
    dir: tempfile::TempDir,
    stop: Arc<AtomicBool>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for path in netns::list(&self.dir.path().join("netns")).unwrap_or_default() {
            let _ = netns::delete(&path);
        }
    }
}

/// None where the machine does not let us make namespaces.
pub fn world() -> Option<World> {
    let node = match Netns::unnamed() {
        Ok(node) => node,
        Err(error) => {
            println!("SKIP: network namespaces are needed: {error}");
            return None;
        }
    };
    let client = Netns::unnamed().unwrap();
    connect(&node, &client);
    let dir = tempfile::tempdir().unwrap();
    let spec = PodNetworkSpec {
        prefix: "naut".into(),
        pod_range: "10.244.0.0/24".parse().unwrap(),
        service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
        mtu: None,
        state_dir: dir.path().join("ipam"),
        settings_dir: dir.path().join("settings"),
    };
    let network = node.run(|| PodNetwork::open(&spec).unwrap()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    Some(World { node, client, network: Some(network), spec, pods: Vec::new(), dir, stop })
}

fn up(rtnl: &mut Rtnl, name: &str) -> u32 {
    let index = rtnl.link(name).unwrap().unwrap().index;
    rtnl.change_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

fn connect(node: &Netns, client: &Netns) {
    let mut near = Rtnl::open_in(node).unwrap();
    up(&mut near, "lo");
    let link = near
        .create_veth(&VethSpec {
            near: VethEnd { name: "eth0", mtu: Some(1400), ..VethEnd::default() },
            up: true,
            far: VethEnd { name: "eth0", mtu: Some(1400), ..VethEnd::default() },
            far_netns: Some(client.as_fd()),
            master: None,
        })
        .unwrap();
    near.add_address(&Address::new(link.index, "192.168.50.1/24".parse().unwrap())).unwrap();
    near.add_route(&Route::default_via(CLIENT.into(), link.index)).unwrap();
    let mut far = Rtnl::open_in(client).unwrap();
    up(&mut far, "lo");
    let eth0 = up(&mut far, "eth0");
    far.add_address(&Address::new(eth0, "192.168.50.2/24".parse().unwrap())).unwrap();
    // The client knows the way to services only by this node, and no way to pods.
    let services = "10.96.0.0/16".parse().unwrap();
    far.add_route(&Route::via(services, NODE.into(), eth0)).unwrap();
    far.add_route(&Route::via("203.0.113.0/24".parse().unwrap(), NODE.into(), eth0)).unwrap();
}

impl World {
    pub fn network(&self) -> &PodNetwork {
        self.network.as_ref().unwrap()
    }

    pub fn reopen(&mut self) {
        self.network = None;
        self.network = Some(self.node.run(|| PodNetwork::open(&self.spec).unwrap()).unwrap());
    }

    pub fn delete(&mut self) {
        self.network = None;
        self.node.run(|| bridge::delete(&self.spec).unwrap()).unwrap();
    }

    /// A pod, attached.
    pub fn pod(&mut self, id: &str) -> usize {
        let path = self.dir.path().join("netns").join(id);
        let netns = Netns::create(&path).unwrap();
        let attachment = self.node.run(|| self.network().attach(&path, id, "eth0").unwrap()).unwrap();
        self.pods.push(Pod { id: id.into(), netns, path, address: attachment.address });
        self.pods.len() - 1
    }

    /// Answers every connection at `address` with `name` and the caller's address, until the world ends.
    pub fn serve(&self, netns: &Netns, name: &str, address: SocketAddr) {
        let listener = netns.run(|| TcpListener::bind(address).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, name) = (Arc::clone(&self.stop), name.to_owned());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A caller that went away is its own business.
                    Ok((mut stream, from)) => drop(write!(stream, "{name} {}", from.ip())),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
    }
}

/// What is at the other end, as seen from `netns`: who answers and whom it sees; or how it fails.
pub fn call(netns: &Netns, to: SocketAddr) -> String {
    call_within(netns, to, PATIENCE)
}

/// The same of what should be dropped: nobody waits for an answer for long.
pub fn call_in_vain(netns: &Netns, to: SocketAddr) -> String {
    call_within(netns, to, SILENCE)
}

fn call_within(netns: &Netns, to: SocketAddr, limit: Duration) -> String {
    let connect = || match TcpStream::connect_timeout(&to, limit) {
        Ok(stream) => listen(stream),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
        Err(error) if error.kind() == ErrorKind::TimedOut => "dropped".to_owned(),
        Err(error) => error.to_string(),
    };
    netns.run(connect).unwrap()
}

fn listen(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map(|_| answer).unwrap_or_else(|error| error.to_string())
}
