//! Namespaces that are kept by a file, and settings that are put back.

use crate::netns;
use nauplius_link::{Netns, Rtnl, netns as namespaces, sysctl};
use std::path::PathBuf;

/// Unmounts whatever the test left, also when it fails.
struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = namespaces::delete(&self.0);
    }
}

#[test]
fn a_named_namespace_lives_until_it_is_deleted() {
    if netns().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ns/one");
    let _held = Held(path.clone());
    std::fs::create_dir_all(dir.path().join("ns")).unwrap();
    std::fs::write(dir.path().join("ns/plain-file"), "").unwrap();

    let created = Netns::create(&path).unwrap();
    created.run(|| Rtnl::open().unwrap().create_bridge(&bridge("inside")).unwrap()).unwrap();
    drop(created);
    assert!(Netns::create(&path).unwrap_err().is_exists());
    assert_eq!(namespaces::list(&dir.path().join("ns")).unwrap(), std::slice::from_ref(&path));

    let opened = Netns::open(&path).unwrap();
    assert!(Rtnl::open_in(&opened).unwrap().link("inside").unwrap().is_some());
    assert!(Rtnl::open().unwrap().link("inside").unwrap().is_none(), "this thread stayed outside");

    assert!(namespaces::delete(&path).unwrap());
    assert!(!namespaces::delete(&path).unwrap());
    assert!(Netns::open(&path).unwrap_err().is_not_found());
    assert!(Netns::open(&dir.path().join("ns/plain-file")).unwrap_err().is_not_found());
    assert!(namespaces::list(&dir.path().join("none")).unwrap().is_empty());
}

fn bridge(name: &str) -> nauplius_link::route::BridgeSpec<'_> {
    nauplius_link::route::BridgeSpec { name, mac: None, mtu: None }
}

#[test]
fn settings_are_recorded_and_restored() {
    let Some(netns) = netns() else { return };
    netns
        .run(|| {
            let key = "net/ipv4/ip_forward";
            let old = sysctl::read(key).unwrap();
            let new = if old == "1" { "0" } else { "1" };
            let record = sysctl::set(key, new).unwrap().unwrap();
            assert_eq!(record.to_string(), format!("{key}={old}"));
            assert_eq!(sysctl::read(key).unwrap(), new);
            assert_eq!(sysctl::set(key, new).unwrap(), None);
            record.restore().unwrap();
            assert_eq!(sysctl::read(key).unwrap(), old);
            "net/ipv4/conf/gone/rp_filter=1".parse::<sysctl::Record>().unwrap().restore().unwrap();
        })
        .unwrap();
}

#[test]
fn a_panic_inside_comes_out() {
    let Some(netns) = netns() else { return };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| netns.run(|| panic!("inside"))));
    assert!(caught.is_err());
}
