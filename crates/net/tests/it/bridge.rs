//! The pod network: pods reach each other and the outside, and nothing is left behind.

use crate::world::{CLIENT, NODE, call, call_in_vain, world};
use nauplius_link::nft::{Family, Nft, Table};
use nauplius_link::{Rtnl, netns, sysctl};
use nauplius_net::proxy::{Dataplane, Network, NftDataplane, plan};

#[test]
fn pods_reach_each_other_their_node_and_the_outside() {
    let Some(mut world) = world() else { return };
    let (a, b) = (world.pod("a"), world.pod("b"));
    let at_b = (world.pods[b].address, 8080).into();
    world.serve(&world.pods[b].netns, "b", at_b);
    world.serve(&world.client, "outside", (CLIENT, 80).into());
    world.serve(&world.node, "node", (NODE, 81).into());

    let from_a = world.pods[a].address;
    assert_eq!(call(&world.pods[a].netns, at_b), format!("b {from_a}"));
    assert_eq!(call(&world.node, at_b), "b 10.244.0.1");
    assert_eq!(call(&world.pods[a].netns, (NODE, 81).into()), format!("node {from_a}"));
    let outside = (CLIENT, 80).into();
    assert_eq!(call_in_vain(&world.pods[a].netns, outside), "dropped", "the outside knows no way back");

    let network = Network {
        pod_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        masquerade_egress: true,
        ..Network::default()
    };
    let mut dataplane = NftDataplane::open_in(&world.node, "naut", false).unwrap();
    dataplane.apply(&plan(network, [])).unwrap();
    assert_eq!(call(&world.pods[a].netns, (CLIENT, 80).into()), "outside 192.168.50.1");
    assert_eq!(call(&world.pods[a].netns, at_b), format!("b {from_a}"), "pods see each other's addresses");
    dataplane.remove().unwrap();
    dataplane.remove().unwrap();
    let left = Nft::open_in(&world.node).unwrap().tables().unwrap();
    assert!(!left.contains(&Table::new(Family::Ip, "naut")));
}

#[test]
fn attaching_is_repeatable_and_detaching_leaves_nothing() {
    let Some(mut world) = world() else { return };
    let (a, b) = (world.pod("a"), world.pod("b"));
    let first = world.pods[a].address;
    let again = world.network().attach(&world.pods[a].path, "a", "eth0").unwrap();
    assert_eq!(again.address, first);
    assert_eq!(again.mtu, 1400, "as the default route's interface");
    assert!(world.network().check("a").unwrap());
    let inside = Rtnl::open_in(&world.pods[a].netns).unwrap().link("eth0").unwrap().unwrap();
    assert_eq!((inside.mac, inside.mtu), (Some(again.mac), 1400));

    world.reopen();
    assert!(world.network().check("b").unwrap(), "a restart keeps pods");
    assert_eq!(world.network().address_of("b"), Some(world.pods[b].address));

    assert!(world.network().detach("a").unwrap());
    assert!(!world.network().detach("a").unwrap());
    assert!(!world.network().check("a").unwrap());
    let mut node = Rtnl::open_in(&world.node).unwrap();
    assert_eq!(node.link(&again.node_interface).unwrap(), None);
    assert_eq!(world.network().list().len(), 1);

    assert!(
        world.network().attach(std::path::Path::new("/nonexistent"), "c", "eth0").unwrap_err().is_not_found()
    );
    assert!(world.network().attach(&world.pods[a].path, "c", "a-name-that-is-too-long").is_err());
    assert_eq!(world.network().address_of("c"), None, "a failed attempt leaves no address");
    assert_eq!(world.network().retain(|id| id != "b").unwrap(), ["b"]);
    assert!(world.network().list().is_empty());
}

#[test]
fn a_removed_bridge_comes_back_with_its_pods() {
    let Some(mut world) = world() else { return };
    let (a, b) = (world.pod("a"), world.pod("b"));
    let at_b = (world.pods[b].address, 8080).into();
    world.serve(&world.pods[b].netns, "b", at_b);
    let mend = |world: &crate::world::World| world.node.run(|| world.network().mend().unwrap()).unwrap();
    assert!(!mend(&world), "it is there");
    let bridge = world.network().bridge().to_owned();
    Rtnl::open_in(&world.node).unwrap().delete_link(&bridge).unwrap();
    assert!(!world.network().check("a").unwrap());
    assert!(mend(&world));
    assert!(!mend(&world));
    for pod in ["a", "b"] {
        assert!(world.network().check(pod).unwrap(), "{pod} is in the bridge again");
    }
    assert_eq!(call(&world.pods[a].netns, at_b), format!("b {}", world.pods[a].address));
    // A pod that comes before anybody has looked mends it, too.
    Rtnl::open_in(&world.node).unwrap().delete_link(&bridge).unwrap();
    let c = world.pod("c");
    assert_eq!(call(&world.pods[c].netns, at_b), format!("b {}", world.pods[c].address));
}

#[test]
fn deleting_leaves_nothing_behind() {
    let Some(mut world) = world() else { return };
    let forwards = |world: &crate::world::World| {
        world.node.run(|| sysctl::read("net/ipv4/ip_forward").unwrap()).unwrap()
    };
    assert_eq!(forwards(&world), "1");
    let recorded = std::fs::read_dir(&world.spec.settings_dir).map(Iterator::count).unwrap_or(0);
    let a = world.pod("a");
    world.delete();
    world.delete();
    let mut node = Rtnl::open_in(&world.node).unwrap();
    let names: Vec<_> = node.links().unwrap().into_iter().map(|link| link.name).collect();
    assert!(names.iter().all(|name| !name.starts_with("naut")), "{names:?}");
    assert_eq!(Rtnl::open_in(&world.pods[a].netns).unwrap().link("eth0").unwrap(), None);
    assert!(!world.spec.state_dir.exists() && !world.spec.settings_dir.exists());
    // Where forwarding was on before us there was nothing to record and nothing to put back.
    assert_eq!(forwards(&world), if recorded == 0 { "1" } else { "0" });
    assert!(netns::delete(&world.pods[a].path).unwrap());
}
