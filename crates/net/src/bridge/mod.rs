//! The pod network of one node: a bridge with the gateway's address, and for every sandbox a veth pair into it with an address from
//! the node's range. It knows container ids and namespace paths, no container runtime.
//!
//! Pods get their address as a host address (/32 or /128) with the gateway as the way to everything. So every packet between pods
//! is routed and passes the node's rules and connection tracking: a service whose endpoint is on the caller's own node
//! works without the br_netfilter module, which a fresh machine may lack. Where that module is there it bridges a
//! translated packet instead of routing it, if need be out of the port that it came in by: so ports are in hairpin mode.

mod names;
mod restore;

pub use names::{bridge as bridge_name, interface_prefix};

use ipnet::IpNet;
use nauplius_link::ipam::Ipam;
use nauplius_link::route::{
    Address, BridgePort, BridgeSpec, Link, LinkChange, Mac, Route, VethEnd, VethSpec,
};
use nauplius_link::{Error, Netns, Result, Rtnl, sysctl};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The mark on every bridge of ours, whichever cluster's.
const ALIAS: &str = "nauplius pod network";
const MTU_DEFAULT: u32 = 1500;
/// See the head of this file.
const HAIRPIN: BridgePort = BridgePort { hairpin: Some(true), isolated: None };

/// How the pod network of a node is to be.
#[derive(Debug, Clone)]
pub struct PodNetworkSpec {
    /// What interface names start with; see [`interface_prefix`].
    pub prefix: String,
    /// The range that this node's pods have their addresses from.
    pub pod_range: IpNet,
    /// The ranges of services, routed to the bridge so that they can be reached without a default route too.
    pub service_ranges: Vec<IpNet>,
    /// The largest packet; None takes that of the default route's interface.
    pub mtu: Option<u32>,
    /// Where the addresses are kept. Belongs to this network alone.
    pub state_dir: PathBuf,
    /// Where settings of the machine are kept as they were. Shared by all clusters of the machine.
    pub settings_dir: PathBuf,
}

/// What a sandbox got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pod's address.
    pub address: IpAddr,
    /// Its way out.
    pub gateway: IpAddr,
    /// Its interface's hardware address.
    pub mac: Mac,
    /// The largest packet.
    pub mtu: u32,
    /// The other end, on the node.
    pub node_interface: String,
}

/// An address that is in use, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The sandbox.
    pub container_id: String,
    /// Its address.
    pub address: IpAddr,
    /// The node's end of its interface.
    pub node_interface: String,
}

struct State {
    rtnl: Rtnl,
    ipam: Ipam,
    bridge: Link,
}

/// The pod network of this node, in the network namespace that it was opened in.
pub struct PodNetwork {
    spec: PodNetworkSpec,
    name: String,
    gateway: IpAddr,
    // Netlink and the allocations are one step; it is short and never held across an await.
    state: Mutex<State>,
}

impl PodNetwork {
    /// Brings the bridge, its address, routes and settings to what `spec` says, keeping pods that are attached already.
    ///
    /// # Errors
    /// The kernel refuses, or another process has the addresses open.
    pub fn open(spec: &PodNetworkSpec) -> Result<Self> {
        let mut rtnl = Rtnl::open()?;
        let ipam = Ipam::open(&spec.state_dir, spec.pod_range)?;
        let gateway = ipam.gateway();
        let bridge = prepare(&mut rtnl, spec, gateway)?;
        let name = bridge.name.clone();
        Ok(Self { spec: spec.clone(), name, gateway, state: Mutex::new(State { rtnl, ipam, bridge }) })
    }

    /// The bridge's name.
    pub fn bridge(&self) -> &str {
        &self.name
    }

    /// Makes the bridge anew when somebody has removed it, and puts the pods' interfaces back into it. They have kept their addresses and
    /// routes, and the bridge gets the hardware address that they know. True: it was gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mend(&self) -> Result<bool> {
        self.mend_locked(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn mend_locked(&self, state: &mut State) -> Result<bool> {
        let found = state.rtnl.link(&self.name)?;
        if found.is_some_and(|link| link.index == state.bridge.index) {
            return Ok(false);
        }
        state.bridge = prepare(&mut state.rtnl, &self.spec, self.gateway)?;
        let pods: Vec<IpAddr> = state.ipam.list().map(|(address, _)| address).collect();
        for address in pods {
            // One whose interface is gone as well has nothing to put back.
            if let Some(link) = state.rtnl.link(&names::veth(&self.spec.prefix, address))? {
                let join =
                    LinkChange { master: Some(state.bridge.index), up: Some(true), ..LinkChange::default() };
                state.rtnl.change_link(link.index, &join)?;
                state.rtnl.set_bridge_port(link.index, HAIRPIN)?;
            }
        }
        Ok(true)
    }

    /// The bridge's address: the pods' gateway, and an address of this node that is there whatever its other links do.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Gives the sandbox an interface `interface` in the namespace at `netns`, with an address, its routes, and loopback up.
    /// Doing it again makes the interface anew with the same address.
    ///
    /// # Errors
    /// No address is free, or the kernel refuses; then nothing is left of the attempt.
    pub fn attach(&self, netns: &Path, container_id: &str, interface: &str) -> Result<Attachment> {
        let netns = Netns::open(netns)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.mend_locked(&mut state)?;
        let address = state.ipam.allocate(container_id)?;
        let attached = self.connect(&mut state, &netns, container_id, interface, address);
        if attached.is_err() {
            // The first error is the one that tells; what cannot be undone now goes with the next detach.
            let _ = self.disconnect(&mut state, container_id);
        }
        attached
    }

    fn connect(
        &self,
        state: &mut State,
        netns: &Netns,
        container_id: &str,
        interface: &str,
        address: IpAddr,
    ) -> Result<Attachment> {
        let node_interface = names::veth(&self.spec.prefix, address);
        let State { rtnl, bridge, .. } = state;
        let (mac, mtu) = (names::mac(address), bridge.mtu);
        rtnl.delete_link(&node_interface)?;
        let near = rtnl.create_veth(&VethSpec {
            near: VethEnd { name: &node_interface, mac: None, mtu: Some(mtu) },
            up: true,
            far: VethEnd { name: interface, mac: Some(mac), mtu: Some(mtu) },
            far_netns: Some(netns.as_fd()),
            master: Some(bridge.index),
        })?;
        rtnl.change_link(near.index, &LinkChange { alias: Some(container_id), ..LinkChange::default() })?;
        rtnl.set_bridge_port(near.index, HAIRPIN)?;
        netns.run(|| configure(interface, address, self.gateway))??;
        Ok(Attachment { address, gateway: self.gateway, mac, mtu, node_interface })
    }

    /// Takes the sandbox's interface and address away. False: it had none.
    ///
    /// # Errors
    /// The kernel or the file system refuses.
    pub fn detach(&self, container_id: &str) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.disconnect(&mut state, container_id)
    }

    fn disconnect(&self, state: &mut State, container_id: &str) -> Result<bool> {
        let Some(address) = state.ipam.address_of(container_id) else { return Ok(false) };
        state.rtnl.delete_link(&names::veth(&self.spec.prefix, address))?;
        state.ipam.release(container_id)?;
        Ok(true)
    }

    /// The sandbox's address.
    pub fn address_of(&self, container_id: &str) -> Option<IpAddr> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ipam.address_of(container_id)
    }

    /// Whether the sandbox has an address and its interface is up and in the bridge.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn check(&self, container_id: &str) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = state.ipam.address_of(container_id) else { return Ok(false) };
        let link = state.rtnl.link(&names::veth(&self.spec.prefix, address))?;
        Ok(link.is_some_and(|link| {
            link.up && link.master == Some(state.bridge.index) && link.alias == container_id
        }))
    }

    /// Everyone who has an address.
    pub fn list(&self) -> Vec<Attached> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = state.ipam.list().map(|(address, container_id)| Attached {
            container_id: container_id.to_owned(),
            address,
            node_interface: names::veth(&self.spec.prefix, address),
        });
        attached.collect()
    }

    /// Detaches every sandbox for which `is_live` does not hold, and deletes ports of the bridge that belong to none. Returns
    /// the sandboxes detached.
    ///
    /// # Errors
    /// The kernel or the file system refuses.
    pub fn retain(&self, is_live: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let gone: Vec<_> = self.list().into_iter().map(|attached| attached.container_id).collect();
        let gone: Vec<_> = gone.into_iter().filter(|container_id| !is_live(container_id)).collect();
        for container_id in &gone {
            self.detach(container_id)?;
        }
        let known: Vec<_> = self.list().into_iter().map(|attached| attached.node_interface).collect();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { rtnl, bridge, .. } = &mut *state;
        for port in ports(rtnl, bridge)?.iter().filter(|port| !known.contains(&port.name)) {
            rtnl.delete_link(&port.name)?;
        }
        Ok(gone)
    }
}

/// Deletes the bridge, every interface in it, the addresses, and, when no other cluster's network is left on the machine, puts
/// the machine's settings back. What is gone already is fine.
///
/// # Errors
/// The kernel or the file system refuses.
pub fn delete(spec: &PodNetworkSpec) -> Result<()> {
    let mut rtnl = Rtnl::open()?;
    if let Some(bridge) = rtnl.link(&names::bridge(&spec.prefix))? {
        for port in ports(&mut rtnl, &bridge)? {
            rtnl.delete_link(&port.name)?;
        }
        rtnl.delete_link(&bridge.name)?;
    }
    restore::remove_dir(&spec.state_dir)?;
    if rtnl.links()?.iter().any(|link| link.alias == ALIAS) {
        return Ok(());
    }
    restore::restore(&spec.settings_dir)
}

fn ports(rtnl: &mut Rtnl, bridge: &Link) -> Result<Vec<Link>> {
    Ok(rtnl.links()?.into_iter().filter(|link| link.master == Some(bridge.index)).collect())
}

/// The bridge with its address, routes and settings.
fn prepare(rtnl: &mut Rtnl, spec: &PodNetworkSpec, gateway: IpAddr) -> Result<Link> {
    let bridge = ensure_bridge(rtnl, spec, gateway)?;
    let address = IpNet::new(gateway, spec.pod_range.prefix_len()).map_err(|_| Error::Name {
        name: spec.pod_range.to_string(),
        reason: "the range's prefix does not fit its family",
    })?;
    drop_other_addresses(rtnl, &bridge, address)?;
    rtnl.replace_address(&Address::new(bridge.index, address))?;
    for range in &spec.service_ranges {
        let source = rtnl.primary_address(range.addr().is_ipv6())?;
        rtnl.replace_route(&Route { source, ..Route::direct(*range, bridge.index) })?;
    }
    settings(spec, &bridge, gateway.is_ipv6())?;
    Ok(bridge)
}

fn ensure_bridge(rtnl: &mut Rtnl, spec: &PodNetworkSpec, gateway: IpAddr) -> Result<Link> {
    let name = names::bridge(&spec.prefix);
    let mtu = match spec.mtu {
        Some(mtu) => mtu,
        None => rtnl.default_route(gateway.is_ipv6())?.map_or(MTU_DEFAULT, |route| route.link.mtu),
    };
    let mac = names::mac(gateway);
    let bridge = match rtnl.link(&name)? {
        Some(bridge) if bridge.kind.as_deref() == Some("bridge") => bridge,
        Some(_) => return Err(Error::Name { name, reason: "another interface has the pod bridge's name" }),
        None => rtnl.create_bridge(&BridgeSpec { name: &name, mac: Some(mac), mtu: Some(mtu) })?,
    };
    let change = LinkChange {
        up: Some(true),
        mac: Some(mac),
        mtu: Some(mtu),
        alias: Some(ALIAS),
        ..LinkChange::default()
    };
    rtnl.change_link(bridge.index, &change)?;
    Ok(Link { mtu, mac: Some(mac), ..bridge })
}

/// A bridge that is left from another range would answer for two gateways.
fn drop_other_addresses(rtnl: &mut Rtnl, bridge: &Link, wanted: IpNet) -> Result<()> {
    let link_local = |address: &Address| match address.address.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    for address in rtnl.addresses_of(bridge.index)? {
        if address.address != wanted && !link_local(&address) {
            rtnl.delete_address(bridge.index, address.address)?;
        }
    }
    Ok(())
}

fn settings(spec: &PodNetworkSpec, bridge: &Link, ipv6: bool) -> Result<()> {
    let forward = if ipv6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" };
    restore::set(&spec.settings_dir, forward, "1")?;
    if !ipv6 {
        // Pods on one bridge are to send to the gateway, which would tell them of a shorter way each time. The kernel
        // sends redirects if the interface or `all` says so; other interfaces have their own setting, so they go on as
        // before. The bridge's own setting goes with it.
        restore::set(&spec.settings_dir, "net/ipv4/conf/all/send_redirects", "0")?;
        sysctl::write(&format!("net/ipv4/conf/{}/send_redirects", bridge.name), "0")?;
    }
    Ok(())
}

/// Inside the pod's namespace: its interface and loopback up, its address, and its routes.
fn configure(interface: &str, address: IpAddr, gateway: IpAddr) -> Result<()> {
    let mut rtnl = Rtnl::open()?;
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    for name in ["lo", interface] {
        if let Some(link) = rtnl.link(name)? {
            rtnl.change_link(link.index, &up)?;
        }
    }
    if address.is_ipv4() {
        // All packets go by the gateway, also to neighbours on the same bridge.
        for place in ["all", interface] {
            sysctl::write(&format!("net/ipv4/conf/{place}/accept_redirects"), "0")?;
        }
    }
    let Some(link) = rtnl.link(interface)? else {
        return Err(Error::Name { name: interface.to_owned(), reason: "the pod's interface is gone" });
    };
    rtnl.replace_address(&Address::new(link.index, IpNet::from(address)))?;
    rtnl.replace_route(&Route::direct(IpNet::from(gateway), link.index))?;
    rtnl.replace_route(&Route::default_via(gateway, link.index))
}
