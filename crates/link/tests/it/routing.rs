//! Links, addresses and routes.

use crate::netns;
use nauplius_link::Rtnl;
use nauplius_link::route::{Address, BridgePort, BridgeSpec, LinkChange, Mac, Route, VethEnd, VethSpec};
use std::os::fd::AsFd;

const MAC: Mac = Mac([0x0a, 0x58, 10, 1, 0, 1]);

#[test]
fn a_bridge_with_a_veth_into_another_namespace() {
    let (Some(host), Some(pod)) = (netns(), netns()) else { return };
    let mut rtnl = Rtnl::open_in(&host).unwrap();
    let bridge = rtnl.create_bridge(&BridgeSpec { name: "br0", mac: Some(MAC), mtu: Some(1400) }).unwrap();
    assert_eq!(
        (bridge.kind.as_deref(), bridge.mac, bridge.mtu, bridge.up),
        (Some("bridge"), Some(MAC), 1400, true)
    );

    let spec = VethSpec {
        near: VethEnd { name: "veth-a", mtu: Some(1400), ..VethEnd::default() },
        up: true,
        far: VethEnd { name: "eth0", mac: Some(Mac([2, 0, 0, 0, 0, 9])), mtu: Some(1400) },
        far_netns: Some(pod.as_fd()),
        master: Some(bridge.index),
    };
    let near = rtnl.create_veth(&spec).unwrap();
    assert_eq!((near.master, near.up, near.mtu), (Some(bridge.index), true, 1400));
    assert!(rtnl.create_veth(&spec).unwrap_err().is_exists());

    let mut inside = Rtnl::open_in(&pod).unwrap();
    let far = inside.link("eth0").unwrap().unwrap();
    assert_eq!((far.mac, far.up, far.peer), (Some(Mac([2, 0, 0, 0, 0, 9])), false, Some(near.index)));
    assert_eq!(near.peer, Some(far.index));
    assert_eq!(inside.link_by_index(far.index).unwrap().unwrap(), far);

    rtnl.set_bridge_port(near.index, BridgePort { hairpin: Some(true), isolated: Some(true) }).unwrap();
    assert!(rtnl.set_bridge_port(bridge.index, BridgePort::default()).is_err());
    let change = LinkChange { alias: Some("what it is for"), mtu: Some(1300), ..LinkChange::default() };
    rtnl.change_link(near.index, &change).unwrap();
    rtnl.change_link(near.index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
    rtnl.change_link(
        near.index,
        &LinkChange { name: Some("veth-b"), master: Some(0), ..LinkChange::default() },
    )
    .unwrap();
    let near = rtnl.link("veth-b").unwrap().unwrap();
    assert_eq!((near.alias.as_str(), near.mtu, near.up, near.master), ("what it is for", 1300, false, None));

    assert!(rtnl.delete_link("veth-b").unwrap());
    assert!(!rtnl.delete_link("veth-b").unwrap());
    assert_eq!(inside.link("eth0").unwrap(), None);
    assert!(rtnl.links().unwrap().iter().any(|link| link.name == "lo" && link.loopback));
}

#[test]
fn names_are_checked_before_the_kernel_sees_them() {
    let Some(host) = netns() else { return };
    let mut rtnl = Rtnl::open_in(&host).unwrap();
    for name in ["", "sixteen-bytes-xx", "a/b", "a b", ".."] {
        assert!(rtnl.create_bridge(&BridgeSpec { name, mac: None, mtu: None }).is_err(), "{name}");
    }
    let error = rtnl
        .create_bridge(&BridgeSpec { name: "br0", mac: Some(Mac([1, 0, 0, 0, 0, 1])), mtu: None })
        .unwrap_err();
    assert!(error.to_string().starts_with("create link br0: "), "{error}");
}

#[test]
fn addresses_and_routes() {
    let Some(host) = netns() else { return };
    let mut rtnl = Rtnl::open_in(&host).unwrap();
    assert_eq!(rtnl.default_route(false).unwrap(), None);
    assert_eq!(rtnl.primary_address(false).unwrap(), None);
    let bridge = rtnl.create_bridge(&BridgeSpec { name: "br0", mac: None, mtu: None }).unwrap();

    for text in ["10.1.0.1/24", "fd00:1::1/64"] {
        let address = Address::new(bridge.index, text.parse().unwrap());
        rtnl.add_address(&address).unwrap();
        assert!(rtnl.add_address(&address).unwrap_err().is_exists());
        rtnl.replace_address(&address).unwrap();
        assert!(rtnl.addresses_of(bridge.index).unwrap().contains(&address), "{text}");
    }
    assert_eq!(rtnl.primary_address(false).unwrap(), Some([10, 1, 0, 1].into()));
    assert_eq!(rtnl.primary_address(true).unwrap(), "fd00:1::1".parse().ok());

    let default = Route::default_via([10, 1, 0, 254].into(), bridge.index);
    rtnl.add_route(&default).unwrap();
    assert!(rtnl.add_route(&default).unwrap_err().is_exists());
    let found = rtnl.default_route(false).unwrap().unwrap();
    assert_eq!((found.link.name.as_str(), found.gateway), ("br0", Some([10, 1, 0, 254].into())));
    let other = Route::default_via([10, 1, 0, 253].into(), bridge.index);
    rtnl.replace_route(&other).unwrap();
    assert_eq!(rtnl.default_route(false).unwrap().unwrap().gateway, Some([10, 1, 0, 253].into()));
    assert!(rtnl.delete_route(&other).unwrap());
    assert!(!rtnl.delete_route(&other).unwrap());

    let far = Route::via("10.9.0.0/16".parse().unwrap(), [172, 16, 0, 1].into(), bridge.index);
    let error = rtnl.add_route(&far).unwrap_err();
    assert!(error.to_string().contains("gateway"), "the kernel's own words are kept: {error}");
    rtnl.add_route(&Route { on_link: true, ..far.clone() }).unwrap();
    let six = Route::direct("fd00:2::/64".parse().unwrap(), bridge.index);
    rtnl.add_route(&six).unwrap();
    let destinations: Vec<_> = rtnl.routes().unwrap().into_iter().map(|route| route.destination).collect();
    assert!(destinations.contains(&far.destination) && destinations.contains(&six.destination));

    assert!(rtnl.delete_address(bridge.index, "10.1.0.1/24".parse().unwrap()).unwrap());
    assert!(!rtnl.delete_address(bridge.index, "10.1.0.1/24".parse().unwrap()).unwrap());
}
