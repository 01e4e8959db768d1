//! What a node can run short of, and the thresholds from which on it does, in upstream's notation. Pure.

use nauplius_meta::quantity::{Format, Quantity};
use std::time::Duration;

/// Upstream's defaults for nodes with one disk.
const HARD: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%";
const TRANSITION: Duration = Duration::from_secs(300);
const IMAGES: (i64, i64) = (85, 80);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes that processes can have.
    MemoryAvailable,
    /// Bytes of the disk of the kubelet's files.
    NodefsAvailable,
    /// Its inodes.
    NodefsInodesFree,
    /// Bytes of the disk of images and containers, when it is another one.
    ImagefsAvailable,
    /// Its inodes.
    ImagefsInodesFree,
    /// Process ids.
    PidAvailable,
}

const ALL: [(&str, Signal); 6] = [
    ("memory.available", Signal::MemoryAvailable),
    ("nodefs.available", Signal::NodefsAvailable),
    ("nodefs.inodesFree", Signal::NodefsInodesFree),
    ("imagefs.available", Signal::ImagefsAvailable),
    ("imagefs.inodesFree", Signal::ImagefsInodesFree),
    ("pid.available", Signal::PidAvailable),
];

impl Signal {
    /// What is to be won back, as messages call it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// As flags call it.
    pub fn name(self) -> &'static str {
        // Invariant: all of them are in the list.
        ALL.iter().find(|(_, signal)| *signal == self).map_or("", |(name, _)| name)
    }

    /// The node's condition while it is short of this.
    pub fn condition(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "MemoryPressure",
            Self::PidAvailable => "PIDPressure",
            _ => "DiskPressure",
        }
    }

    /// Whether it is about a disk.
    pub fn is_disk(self) -> bool {
        !matches!(self, Self::MemoryAvailable | Self::PidAvailable)
    }
}

/// An amount, or a part of what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// So much.
    Amount(Quantity),
    /// So many thousandths of a percent.
    MilliPercent(i64),
}

impl Limit {
    /// Of what there is.
    pub fn of(&self, capacity: i64) -> Quantity {
        match self {
            Self::Amount(amount) => amount.clone(),
            Self::MilliPercent(part) => {
                let value = i128::from(capacity) * i128::from(*part) / 100_000;
                Quantity::new(i64::try_from(value).unwrap_or(i64::MAX), Format::BinarySI)
            }
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid eviction threshold value {text:?}");
        let Some(percent) = text.strip_suffix('%') else {
            let amount = Quantity::parse(text).map_err(|_| wrong())?;
            return if amount.sign() < 0 { Err(wrong()) } else { Ok(Self::Amount(amount)) };
        };
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(wrong());
        }
        #[allow(clippy::cast_possible_truncation)] // Checked above.
        Ok(Self::MilliPercent((percent * 1000.0).round() as i64))
    }
}

/// As flags have it.
impl std::fmt::Display for Limit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Amount(amount) => amount.fmt(formatter),
            Self::MilliPercent(part) => {
                let text = format!("{}.{:03}", part / 1000, part % 1000);
                write!(formatter, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

/// From when on the node is short of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// Less than this is too little.
    pub limit: Limit,
    /// How long it may last before something is done: none for a hard threshold.
    pub grace: Option<Duration>,
    /// How much more than the limit is won back, once it was met.
    pub min_reclaim: Option<Limit>,
}

/// How a kubelet keeps its node alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// All thresholds.
    pub thresholds: Vec<Threshold>,
    /// The seconds that a pod gets at most, when a soft threshold ends it.
    pub max_grace_s: i64,
    /// How long a condition stays after its cause has gone.
    pub transition: Duration,
    /// From this part of their disk in use on unused images go, and down to the other, in percent; from a hundred on never.
    pub images: (i64, i64),
}

impl Default for Settings {
    fn default() -> Self {
        // Invariant: the constant is well formed, as a test reads it.
        Self::parse(HARD, "", "", "").unwrap_or(Self {
            thresholds: Vec::new(),
            max_grace_s: 0,
            transition: TRANSITION,
            images: IMAGES,
        })
    }
}

fn pairs(text: &str, separator: char) -> impl Iterator<Item = Result<(Signal, &str), String>> {
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) =
            pair.split_once(separator).ok_or_else(|| format!("invalid eviction threshold {pair:?}"))?;
        let signal = ALL.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal);
        Ok((signal.ok_or_else(|| format!("unsupported eviction signal {name:?}"))?, value))
    })
}

/// `90s`, `1m30s`, as Go reads durations of whole seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid eviction grace period {text:?}");
    let (mut seconds, mut number) = (0_u64, String::new());
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let count: u64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        seconds = seconds.saturating_add(count.saturating_mul(unit));
    }
    if number.is_empty() && !text.is_empty() { Ok(Duration::from_secs(seconds)) } else { Err(wrong()) }
}

impl Settings {
    /// From upstream's flags `--eviction-hard`, `--eviction-soft`, `--eviction-soft-grace-period` and
    /// `--eviction-minimum-reclaim`.
    ///
    /// # Errors
    /// What cannot be read, or a soft threshold without a grace period.
    pub fn parse(hard: &str, soft: &str, graces: &str, reclaims: &str) -> Result<Self, String> {
        let mut thresholds = Vec::new();
        for pair in pairs(hard, '<') {
            let (signal, value) = pair?;
            let limit = Limit::parse(value)?;
            thresholds.push(Threshold { signal, limit, grace: None, min_reclaim: None });
        }
        let graces: Vec<(Signal, &str)> = pairs(graces, '=').collect::<Result<_, _>>()?;
        for pair in pairs(soft, '<') {
            let (signal, value) = pair?;
            let grace = graces.iter().find(|(known, _)| *known == signal);
            let (_, grace) = grace.ok_or_else(|| {
                format!("grace period must be specified for the soft eviction threshold {value:?}")
            })?;
            let grace = Some(duration(grace)?);
            thresholds.push(Threshold { signal, limit: Limit::parse(value)?, grace, min_reclaim: None });
        }
        for pair in pairs(reclaims, '=') {
            let (signal, value) = pair?;
            let limit = Limit::parse(value)?;
            for threshold in thresholds.iter_mut().filter(|threshold| threshold.signal == signal) {
                threshold.min_reclaim = Some(limit.clone());
            }
        }
        Ok(Self { thresholds, max_grace_s: 0, transition: TRANSITION, images: IMAGES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let defaults = Settings::default();
        assert_eq!(defaults.thresholds.len(), 5);
        assert_eq!(defaults.thresholds[1].limit, Limit::MilliPercent(10_000));
        let soft =
            Settings::parse("", "memory.available<1.5Gi", "memory.available=1m30s", "memory.available=500Mi")
                .unwrap();
        let threshold = &soft.thresholds[0];
        assert_eq!(threshold.grace, Some(Duration::from_secs(90)));
        assert_eq!(threshold.min_reclaim.as_ref().unwrap().of(0).to_string(), "500Mi");
        for (hard, soft, graces) in [
            ("memory.available>1Gi", "", ""),
            ("nonsense<1Gi", "", ""),
            ("nodefs.available<110%", "", ""),
            ("memory.available<-1", "", ""),
            ("", "memory.available<1Gi", ""),
            ("", "memory.available<1Gi", "memory.available=soon"),
        ] {
            assert!(Settings::parse(hard, soft, graces, "").is_err(), "{hard}{soft}");
        }
    }

    #[test]
    fn percents_are_of_what_there_is() {
        assert_eq!(Limit::MilliPercent(10_000).of(50 << 30).to_string(), "5Gi");
        assert_eq!(Limit::parse("5.5%").unwrap(), Limit::MilliPercent(5500));
        for text in ["1Gi", "100Mi", "5.5%", "10%", "0%"] {
            assert_eq!(Limit::parse(text).unwrap().to_string(), text);
        }
    }
}
