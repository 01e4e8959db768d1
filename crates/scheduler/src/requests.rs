//! Amounts as the scheduler adds them: whole numbers, CPU in thousandths.

use nauplius_kinds::Pod;
use nauplius_kinds::api::Quantity as TypedQuantity;
use nauplius_meta::quantity::Quantity;
use std::collections::BTreeMap;

/// What upstream assumes for scoring when a container asks for nothing: 0.1 CPU and 200 MB.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// An amount of every resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of node-local storage.
    pub ephemeral_storage: i64,
    /// Everything else, by name.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    /// From parsed quantities.
    pub fn of<'a>(quantities: impl IntoIterator<Item = (&'a String, &'a Quantity)>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities {
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => {
                    amounts.others.insert(name.clone(), quantity.value());
                }
            }
        }
        amounts
    }

    /// From a node's list. A quantity that does not parse counts as nothing there: the API server has validated it.
    pub fn of_list(list: Option<&BTreeMap<String, TypedQuantity>>) -> Self {
        let parsed: BTreeMap<String, Quantity> = list
            .into_iter()
            .flatten()
            .filter_map(|(name, quantity)| Some((name.clone(), Quantity::parse(&quantity.0).ok()?)))
            .collect();
        Self::of(&parsed)
    }

    /// What a pod requests.
    pub fn of_pod(pod: &Pod) -> Self {
        Self::of(&nauplius_kinds::pod::requests(pod))
    }

    /// Whether all of it is within `all`.
    pub fn fit(&self, all: &Self) -> bool {
        let within = |(name, amount): (&String, &i64)| *amount <= all.others.get(name).copied().unwrap_or(0);
        self.milli_cpu <= all.milli_cpu
            && self.memory <= all.memory
            && self.ephemeral_storage <= all.ephemeral_storage
            && self.others.iter().all(within)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, 1);
    }

    /// Takes `other` away.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, -1);
    }

    fn combine(&mut self, other: &Self, sign: i64) {
        self.milli_cpu += sign * other.milli_cpu;
        self.memory += sign * other.memory;
        self.ephemeral_storage += sign * other.ephemeral_storage;
        for (name, amount) in &other.others {
            *self.others.entry(name.clone()).or_insert(0) += sign * amount;
        }
    }

    /// With what scoring assumes for pods that ask for nothing.
    pub fn at_least_default(&self) -> Self {
        let mut amounts = self.clone();
        if amounts.milli_cpu == 0 {
            amounts.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if amounts.memory == 0 {
            amounts.memory = DEFAULT_MEMORY;
        }
        amounts
    }
}
