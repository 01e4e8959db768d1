//! The ranges of addresses that a backup's objects are of. A cluster that others' objects are put into must have the same: services and
//! pods keep their addresses.

use crate::cli::NewClusterArgs;
use crate::cluster::Obstacle;
use crate::failure::Failure;
use ipnet::Ipv4Net;
use nauplius_store::StoreResult;
use nauplius_store::backup::Backup;
use serde_json::Value;

/// Where the range of services is written.
const SERVICE_RANGE: &[u8] = b"/registry/networking.k8s.io/servicecidrs/kubernetes";
const NODES: &[u8] = b"/registry/nodes/";
/// A range of pods is of this size unless it is told otherwise; a node has a part of it.
const POD_PREFIX: u8 = 16;
const BATCH_ENTRIES: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// What a backup says about addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BackupRanges {
    services: Option<Ipv4Net>,
    /// Each node's part of the range of pods.
    nodes: Vec<Ipv4Net>,
}

impl BackupRanges {
    /// Reads the whole backup.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn of(backup: &Backup) -> StoreResult<Self> {
        let mut found = Self::default();
        for batch in backup.batches(BATCH_ENTRIES, BATCH_BYTES) {
            batch?.entries.iter().for_each(|entry| found.read(&entry.key, &entry.value));
        }
        Ok(found)
    }

    fn read(&mut self, key: &[u8], value: &[u8]) {
        let range = |pointer: &str| {
            let object: Value = serde_json::from_slice(value).ok()?;
            object.pointer(pointer)?.as_str()?.parse::<Ipv4Net>().ok()
        };
        if key == SERVICE_RANGE {
            self.services = range("/spec/cidrs/0");
        } else if key.starts_with(NODES) {
            self.nodes.extend(range("/spec/podCIDR"));
        }
    }

    /// The flags of a cluster that is new, with the backup's ranges where they name none.
    pub fn fill(&self, new: &NewClusterArgs) -> NewClusterArgs {
        let mut new = new.clone();
        new.service_cidr = new.service_cidr.or(self.services);
        new.pod_cidr = new.pod_cidr.or_else(|| self.pods());
        new
    }

    /// The range that all nodes' parts lie in.
    fn pods(&self) -> Option<Ipv4Net> {
        let first = self.nodes.first()?;
        let around = Ipv4Net::new(first.network(), POD_PREFIX.min(first.prefix_len())).ok()?.trunc();
        self.nodes.iter().all(|node| around.contains(node)).then_some(around)
    }

    /// Whether a new cluster can have those of the backup's ranges that no flag names others for.
    ///
    /// # Errors
    /// Who is in the way, and what to do.
    pub fn check_free(
        &self,
        new: &NewClusterArgs,
        obstacle: impl Fn(&Ipv4Net) -> Option<Obstacle>,
    ) -> Result<(), Failure> {
        let services = self.services.filter(|_| new.service_cidr.is_none());
        let pods = self.pods().filter(|_| new.pod_cidr.is_none());
        for (what, wanted) in [("services", services), ("pods", pods)] {
            let Some(wanted) = wanted else { continue };
            let (who, advice) = match obstacle(&wanted) {
                Some(Obstacle::Cluster { name, .. }) => (
                    format!("cluster {name} uses that range"),
                    format!(
                        "`nauplius delete --name {name}` makes room, or restore the backup into that cluster, with --name {name}"
                    ),
                ),
                Some(Obstacle::Machine { address }) => (
                    format!("this machine has the address {address} in that range"),
                    "restore it on another machine, or take that address away first".to_owned(),
                ),
                Some(Obstacle::Services { .. }) | None => continue,
            };
            return Err(Failure::new(format!("the backup's {what} are in {wanted}, and {who}: {advice}")));
        }
        Ok(())
    }

    /// Whether a cluster with these ranges, where they are known, can have the backup's objects.
    ///
    /// # Errors
    /// Which range is another one, and what to do.
    pub fn check(&self, name: &str, services: Option<Ipv4Net>, pods: Option<Ipv4Net>) -> Result<(), Failure> {
        let other = |what: &str, has: Ipv4Net, wanted: Ipv4Net, flag: &str| {
            Err(Failure::new(format!(
                "the backup's {what} are in {wanted} and those of cluster {name} in {has}: restore it into a new cluster, without {flag}"
            )))
        };
        if let (Some(wanted), Some(has)) = (self.services, services)
            && wanted != has
        {
            return other("services", has, wanted, "--service-cidr");
        }
        let Some(has) = pods else { return Ok(()) };
        match self.nodes.iter().find(|node| !has.contains(*node)) {
            Some(wanted) => other("pods", has, *wanted, "--pod-cidr"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn net(range: &str) -> Ipv4Net {
        range.parse().unwrap()
    }

    #[test]
    fn who_is_in_the_way_is_told_with_what_to_do() {
        let ranges = BackupRanges { services: Some(net("10.96.0.0/12")), nodes: vec![net("10.244.0.0/24")] };
        let check = |new: &NewClusterArgs, wanted: &str, obstacle: Obstacle| {
            let checked = ranges.check_free(new, |range| (*range == net(wanted)).then(|| obstacle.clone()));
            checked.map_err(|failure| failure.to_string())
        };
        let none = NewClusterArgs::default();
        let cluster = Obstacle::Cluster { name: "old".to_owned(), range: net("10.96.0.0/12") };
        let told = check(&none, "10.96.0.0/12", cluster.clone()).unwrap_err();
        assert_eq!(
            told,
            "the backup's services are in 10.96.0.0/12, and cluster old uses that range: `nauplius delete --name old` makes room, or restore the backup into that cluster, with --name old"
        );
        let machine = Obstacle::Machine { address: Ipv4Addr::new(10, 244, 7, 7) };
        let told = check(&none, "10.244.0.0/16", machine).unwrap_err();
        assert!(told.starts_with("the backup's pods are in 10.244.0.0/16, and this machine has"), "{told}");
        let wider = NewClusterArgs { pod_cidr: Some(net("10.240.0.0/12")), ..none.clone() };
        assert_eq!(check(&wider, "10.244.0.0/16", cluster.clone()), Ok(()), "the flag has another");
        assert_eq!(check(&none, "10.0.0.0/8", cluster), Ok(()));
    }

    #[test]
    fn a_backup_tells_its_ranges_and_flags_have_the_last_word() {
        let mut ranges = BackupRanges::default();
        ranges.read(SERVICE_RANGE, br#"{"spec":{"cidrs":["10.144.0.0/12"]}}"#);
        ranges.read(b"/registry/nodes/one", br#"{"spec":{"podCIDR":"10.247.0.0/24"}}"#);
        ranges.read(b"/registry/nodes/two", br#"{"spec":{}}"#);
        ranges.read(b"/registry/pods/default/a", b"{}");
        let filled = ranges.fill(&NewClusterArgs::default());
        assert_eq!(filled.service_cidr, Some(net("10.144.0.0/12")));
        assert_eq!(filled.pod_cidr, Some(net("10.247.0.0/16")));
        let given = NewClusterArgs { pod_cidr: Some(net("10.240.0.0/12")), ..NewClusterArgs::default() };
        assert_eq!(ranges.fill(&given).pod_cidr, Some(net("10.240.0.0/12")));
        let check = |services, pods| ranges.check("a", services, pods).map_err(|failure| failure.to_string());
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some(net("10.144.0.0/12")), Some(net("10.247.0.0/16"))), Ok(()));
        assert!(check(Some(net("10.96.0.0/12")), None).unwrap_err().contains("without --service-cidr"));
        assert!(check(None, Some(net("10.244.0.0/16"))).unwrap_err().contains("without --pod-cidr"));
        ranges.nodes.push(net("10.250.0.0/24"));
        assert_eq!(ranges.fill(&NewClusterArgs::default()).pod_cidr, None);
        assert_eq!(BackupRanges::default().fill(&NewClusterArgs::default()).service_cidr, None);
    }
}
