//! Address management for one range on one machine: who has which address, kept in one small file per address in a
//! directory that survives a crash. Owners are plain words; what they are is the caller's business.
//!
//! An allocation's file is named by its address and holds its owner. It is written beside, synced and linked into place, so
//! that it is there whole or not at all; a release is an unlink. The next free address is looked for behind the last one
//! handed out, so that an address just released rests as long as possible.

use crate::error::{Context, Error, Result};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const LAST: &str = "last";
const TEMPORARY: &str = ".new";

/// The addresses of one range. One process at a time has it open.
pub struct Ipam {
    range: IpNet,
    dir: PathBuf,
    owners: BTreeMap<IpAddr, String>,
    last: u128,
    // Held, not used: its lock keeps other processes out until this is dropped.
    _lock: File,
}

impl Ipam {
    /// Opens the allocations of `range` in `dir`, which is made if it is missing. Files that are no address of this range are
    /// left alone and ignored (a range that changed leaves its old ones behind until they are removed by hand).
    ///
    /// # Errors
    /// Another process has it open, or the directory cannot be used.
    pub fn open(dir: &Path, range: IpNet) -> Result<Self> {
        std::fs::create_dir_all(dir).at("create directory", dir)?;
        let lock = lock(dir)?;
        let owners = load(dir, range)?;
        let last = last_allocated(dir, range);
        Ok(Self { range: range.trunc(), dir: dir.to_owned(), owners, last, _lock: lock })
    }

    /// The range.
    pub fn range(&self) -> IpNet {
        self.range
    }

    /// The first usable address, which is never handed out.
    pub fn gateway(&self) -> IpAddr {
        self.at(1)
    }

    /// The owner's address: the one it has already, or the next free one.
    ///
    /// # Errors
    /// The range is exhausted, or the file cannot be written.
    pub fn allocate(&mut self, owner: &str) -> Result<IpAddr> {
        if let Some(address) = self.address_of(owner) {
            return Ok(address);
        }
        if owner.is_empty() || owner.contains('\n') {
            return Err(Error::Name { name: owner.to_owned(), reason: "an owner is one line" });
        }
        let offset = self.next_free().ok_or(Error::Exhausted { range: self.range })?;
        let address = self.at(offset);
        self.persist(address, owner)?;
        self.owners.insert(address, owner.to_owned());
        self.last = offset;
        // Only a hint for the next start: an old value costs nothing but the rest of a released address.
        let _ = std::fs::write(self.dir.join(LAST), address.to_string());
        Ok(address)
    }

    /// The address that `owner` has.
    pub fn address_of(&self, owner: &str) -> Option<IpAddr> {
        self.owners.iter().find(|(_, known)| *known == owner).map(|(address, _)| *address)
    }

    /// Gives the owner's address back. None: it had none.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&mut self, owner: &str) -> Result<Option<IpAddr>> {
        let Some(address) = self.address_of(owner) else { return Ok(None) };
        let path = self.dir.join(address.to_string());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at("remove", &path),
            _ => {}
        }
        self.owners.remove(&address);
        Ok(Some(address))
    }

    /// Every allocation, in address order.
    pub fn list(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.owners.iter().map(|(address, owner)| (*address, owner.as_str()))
    }

    /// How many addresses can be handed out in all.
    pub fn capacity(&self) -> u128 {
        self.end().saturating_sub(2)
    }

    /// One behind the last offset that may be used: IPv4 keeps its broadcast address.
    fn end(&self) -> u128 {
        let bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len());
        let size = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        if self.range.addr().is_ipv4() { size.saturating_sub(1) } else { size }
    }

    fn next_free(&self) -> Option<u128> {
        let end = self.end();
        let first = 2;
        let start = if self.last >= first && self.last + 1 < end { self.last + 1 } else { first };
        (start..end).chain(first..start).find(|offset| !self.owners.contains_key(&self.at(*offset)))
    }

    fn at(&self, offset: u128) -> IpAddr {
        match self.range.network() {
            IpAddr::V4(base) => {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits().wrapping_add(offset)))
            }
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(base.to_bits().wrapping_add(offset))),
        }
    }

    fn persist(&self, address: IpAddr, owner: &str) -> Result<()> {
        let path = self.dir.join(address.to_string());
        let beside = self.dir.join(TEMPORARY);
        let mut file = File::create(&beside).at("create", &beside)?;
        writeln!(file, "{owner}").at("write", &beside)?;
        file.sync_all().at("sync", &beside)?;
        std::fs::rename(&beside, &path).at("rename to", &path)?;
        let dir = File::open(&self.dir).at("open", &self.dir)?;
        dir.sync_all().at("sync", &self.dir)
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).at("open", &path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: dir.to_owned() }),
        Err(error) => Err(error).at("lock", &path),
    }
}

fn load(dir: &Path, range: IpNet) -> Result<BTreeMap<IpAddr, String>> {
    let mut owners = BTreeMap::new();
    for entry in std::fs::read_dir(dir).at("read directory", dir)? {
        let path = entry.at("read directory", dir)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(address) = name.parse().ok().filter(|address: &IpAddr| range.contains(address)) else {
            continue;
        };
        let owner = std::fs::read_to_string(&path).at("read", &path)?;
        owners.insert(address, owner.trim_end_matches('\n').to_owned());
    }
    Ok(owners)
}

fn last_allocated(dir: &Path, range: IpNet) -> u128 {
    // A hint: a missing or torn file means to start at the first address.
    let text = std::fs::read_to_string(dir.join(LAST)).unwrap_or_default();
    match (text.trim().parse(), range.network()) {
        (Ok(IpAddr::V4(last)), IpAddr::V4(base)) => u128::from(last.to_bits().saturating_sub(base.to_bits())),
        (Ok(IpAddr::V6(last)), IpAddr::V6(base)) => last.to_bits().saturating_sub(base.to_bits()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(dir: &Path, range: &str) -> Ipam {
        Ipam::open(dir, range.parse().unwrap()).unwrap()
    }

    #[test]
    fn addresses_go_round_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = open(dir.path(), "10.244.0.0/29");
        assert_eq!(ipam.gateway().to_string(), "10.244.0.1");
        assert_eq!(ipam.capacity(), 5);
        let given: Vec<_> = ["a", "b", "c"].map(|owner| ipam.allocate(owner).unwrap().to_string()).into();
        assert_eq!(given, ["10.244.0.2", "10.244.0.3", "10.244.0.4"]);
        assert_eq!(ipam.allocate("b").unwrap().to_string(), "10.244.0.3");
        ipam.release("a").unwrap().unwrap();
        assert_eq!(ipam.release("a").unwrap(), None);
        drop(ipam);
        let mut ipam = open(dir.path(), "10.244.0.0/29");
        assert_eq!(ipam.list().map(|(_, owner)| owner).collect::<Vec<_>>(), ["b", "c"]);
        let given: Vec<_> = ["d", "e", "f"].map(|owner| ipam.allocate(owner).unwrap().to_string()).into();
        assert_eq!(given, ["10.244.0.5", "10.244.0.6", "10.244.0.2"]);
        assert!(matches!(ipam.allocate("g"), Err(Error::Exhausted { .. })));
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "10.244.0.0/24");
        let second = Ipam::open(dir.path(), "10.244.0.0/24".parse().unwrap());
        assert!(matches!(second, Err(Error::InUse { .. })));
        drop(first);
        open(dir.path(), "10.244.0.0/24");
    }

    #[test]
    fn a_torn_write_is_not_an_allocation() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(TEMPORARY), "half").unwrap();
        std::fs::write(dir.path().join(LAST), "10.24").unwrap();
        let mut ipam = open(dir.path(), "fd00:10::/120");
        assert_eq!(ipam.list().count(), 0);
        assert_eq!(ipam.allocate("a").unwrap().to_string(), "fd00:10::2");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn it_behaves_as_a_map(steps in proptest::collection::vec((any::<bool>(), 0u8..8), 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let mut ipam = open(dir.path(), "10.1.0.0/29");
            let mut model: BTreeMap<String, IpAddr> = BTreeMap::new();
            for (allocate, who) in steps {
                let owner = format!("pod{who}");
                if allocate {
                    match ipam.allocate(&owner) {
                        Ok(address) => {
                            prop_assert_eq!(*model.entry(owner).or_insert(address), address);
                        }
                        Err(_) => prop_assert_eq!(model.len(), 5),
                    }
                } else {
                    prop_assert_eq!(ipam.release(&owner).unwrap(), model.remove(&owner));
                }
                let mut taken: Vec<_> = model.values().collect();
                taken.sort();
                taken.dedup();
                prop_assert_eq!(taken.len(), model.len());
            }
        }
    }
}
