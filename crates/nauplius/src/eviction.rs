//! From when on the node is short of something, in upstream's flags; and what holds without them. What comes of it is the kubelet's.

use crate::cli::EvictionArgs;
use crate::failure::Failure;
use nauplius_kubelet::{EvictionSettings, Shortage};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A machine that is not the cluster's alone is no good measure in percent: other things fill its disk, and images that somebody
/// has loaded stay until there is no room at all. See decision 0008.
const HARD: &str = "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%";
const IMAGES: (i64, i64) = (100, 80);

/// What a cluster was told. What is not said is as without flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Eviction {
    hard: Option<String>,
    soft: Option<String>,
    soft_grace_period: Option<String>,
    minimum_reclaim: Option<String>,
}

impl Eviction {
    /// Of the flags; `None` when there is none.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn of(args: &EvictionArgs) -> Result<Option<Self>, Failure> {
        let told = Self {
            hard: args.eviction_hard.clone(),
            soft: args.eviction_soft.clone(),
            soft_grace_period: args.eviction_soft_grace_period.clone(),
            minimum_reclaim: args.eviction_minimum_reclaim.clone(),
        };
        if told == Self::default() {
            return Ok(None);
        }
        told.settings().map_err(|why| Failure::new(format!("the eviction flags cannot be used: {why}")))?;
        Ok(Some(told))
    }

    /// As the kubelet takes them.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn settings(&self) -> Result<EvictionSettings, String> {
        let text = |told: &Option<String>| told.clone().unwrap_or_default();
        let settings = EvictionSettings::parse(
            self.hard.as_deref().unwrap_or(HARD),
            &text(&self.soft),
            &text(&self.soft_grace_period),
            &text(&self.minimum_reclaim),
        )?;
        Ok(EvictionSettings { images: IMAGES, ..settings })
    }
}

impl std::fmt::Display for Eviction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [
            ("--eviction-hard", &self.hard),
            ("--eviction-soft", &self.soft),
            ("--eviction-soft-grace-period", &self.soft_grace_period),
            ("--eviction-minimum-reclaim", &self.minimum_reclaim),
        ];
        let told = all.iter().filter_map(|(flag, told)| Some(format!("{flag}={}", told.as_ref()?)));
        formatter.write_str(&told.collect::<Vec<_>>().join(" "))
    }
}

/// What a person is told of a shortage: its cause, what comes of it, and what to do.
pub fn tell(shortage: &Shortage, data_dir: &Path) -> String {
    let (what, remedy) = match shortage.condition {
        "MemoryPressure" => ("the machine's memory is".to_owned(), "free some"),
        "PIDPressure" => ("the machine's process ids are".to_owned(), "end some processes"),
        _ => (format!("the disk of {} is", data_dir.display()), "free space"),
    };
    let Shortage { signal, limit, .. } = shortage;
    if !shortage.lasts {
        return format!(
            "{what} no longer short, but {signal} was below {limit} less than 5 minutes ago: it takes that long until pods are scheduled again"
        );
    }
    let flag = if shortage.is_hard { "--eviction-hard" } else { "--eviction-soft" };
    format!(
        "{what} short: {signal} is below {limit}, so no pod will be scheduled; {remedy}, or make the cluster with another {flag}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_are_told_with_what_to_do() {
        let disk = Shortage {
            condition: "DiskPressure",
            signal: "nodefs.available",
            limit: "1Gi".to_owned(),
            lasts: true,
            is_hard: true,
        };
        let memory = Shortage {
            condition: "MemoryPressure",
            signal: "memory.available",
            limit: "5%".to_owned(),
            is_hard: false,
            ..disk.clone()
        };
        let over = Shortage { lasts: false, ..disk.clone() };
        for (shortage, expected) in [
            (
                disk,
                "the disk of /d is short: nodefs.available is below 1Gi, so no pod will be scheduled; free space, or make the cluster with another --eviction-hard",
            ),
            (
                memory,
                "the machine's memory is short: memory.available is below 5%, so no pod will be scheduled; free some, or make the cluster with another --eviction-soft",
            ),
            (
                over,
                "the disk of /d is no longer short, but nodefs.available was below 1Gi less than 5 minutes ago: it takes that long until pods are scheduled again",
            ),
        ] {
            assert_eq!(tell(&shortage, Path::new("/d")), expected);
        }
    }

    #[test]
    fn flags_take_the_place_of_what_holds_without_them() {
        let without = Eviction::default().settings().unwrap();
        assert_eq!((without.thresholds.len(), without.images), (3, (100, 80)));
        let of = |args: &EvictionArgs| Eviction::of(args);
        assert_eq!(of(&EvictionArgs::default()).unwrap(), None);
        let args = EvictionArgs {
            eviction_hard: Some("nodefs.available<5%".to_owned()),
            eviction_soft: Some("memory.available<1Gi".to_owned()),
            eviction_soft_grace_period: Some("memory.available=1m30s".to_owned()),
            ..EvictionArgs::default()
        };
        let told = of(&args).unwrap().unwrap();
        assert_eq!(told.settings().unwrap().thresholds.len(), 2);
        assert_eq!(
            told.to_string(),
            "--eviction-hard=nodefs.available<5% --eviction-soft=memory.available<1Gi --eviction-soft-grace-period=memory.available=1m30s"
        );
        let refused = of(&EvictionArgs { eviction_soft_grace_period: None, ..args }).unwrap_err().to_string();
        assert!(
            refused.contains("grace period must be specified for the soft eviction threshold"),
            "{refused}"
        );
        let wrong = EvictionArgs { eviction_hard: Some("disk<1".to_owned()), ..EvictionArgs::default() };
        let refused = of(&wrong).unwrap_err().to_string();
        assert_eq!(refused, "the eviction flags cannot be used: unsupported eviction signal \"disk\"");
    }
}
