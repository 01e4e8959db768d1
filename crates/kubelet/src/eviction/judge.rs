//! Which thresholds are met, for how long, and what follows: conditions, and what is to be won back first. Pure.

use super::observe::{Left, Observations};
use super::signal::{Settings, Signal, Threshold};
use super::{Pressure, Shortage};
use nauplius_meta::quantity::{Format, Quantity};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is remembered from look to look. Thresholds go by their place in the settings; times count from the start.
#[derive(Debug, Clone, Default)]
pub struct State {
    first_met: BTreeMap<usize, Duration>,
    acted_on: Vec<usize>,
    seen: BTreeMap<usize, Duration>,
}

/// What is to be won back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    /// Of what.
    pub signal: Signal,
    /// Less than this is too little.
    pub threshold: Quantity,
    /// What is left.
    pub available: Quantity,
    /// Whether there is no time to lose.
    pub is_hard: bool,
}

/// Looks once. `State` remembers.
pub fn judge(
    state: &mut State,
    settings: &Settings,
    observations: &Observations,
    now: Duration,
) -> (Pressure, Option<Short>) {
    let met = met(state, settings, observations);
    state.first_met.retain(|index, _| met.contains(index));
    for index in &met {
        state.first_met.entry(*index).or_insert(now);
        state.seen.insert(*index, now);
    }
    state.seen.retain(|_, at| now.saturating_sub(*at) < settings.transition);
    let lasting = |index: &usize| {
        let grace = settings.thresholds[*index].grace.unwrap_or_default();
        state.first_met.get(index).is_some_and(|first| now.saturating_sub(*first) >= grace)
    };
    state.acted_on = met.into_iter().filter(lasting).collect();
    let short = state.acted_on.iter().filter_map(|index| short(&settings.thresholds[*index], observations));
    // Memory first: without it nothing else can be won back. A hard threshold goes before a soft one.
    let first = short.min_by_key(|short| (short.signal, !short.is_hard));
    (pressure(state, settings), first)
}

/// Those that are met now, and those that were acted on until they are safely past.
fn met(state: &State, settings: &Settings, observations: &Observations) -> Vec<usize> {
    let holds = |index: &usize| {
        let threshold = &settings.thresholds[*index];
        let Some(left) = observations.get(&threshold.signal) else { return false };
        is_met(threshold, left, state.acted_on.contains(index))
    };
    (0..settings.thresholds.len()).filter(holds).collect()
}

fn is_met(threshold: &Threshold, left: &Left, acted_on: bool) -> bool {
    let limit = threshold.limit.of(left.capacity).value();
    let more =
        threshold.min_reclaim.as_ref().filter(|_| acted_on).map_or(0, |more| more.of(left.capacity).value());
    left.available < limit.saturating_add(more)
}

fn short(threshold: &Threshold, observations: &Observations) -> Option<Short> {
    let left = observations.get(&threshold.signal)?;
    Some(Short {
        signal: threshold.signal,
        threshold: threshold.limit.of(left.capacity),
        available: Quantity::new(left.available, Format::BinarySI),
        is_hard: threshold.grace.is_none(),
    })
}

fn pressure(state: &State, settings: &Settings) -> Pressure {
    let seen = |of: fn(Signal) -> bool| state.seen.keys().any(|index| of(settings.thresholds[*index].signal));
    Pressure {
        memory: seen(|signal| signal == Signal::MemoryAvailable),
        disk: seen(Signal::is_disk),
        pid: seen(|signal| signal == Signal::PidAvailable),
    }
}

/// Why the node has its conditions, as of the last look: each signal once.
pub fn shortages(state: &State, settings: &Settings) -> Vec<Shortage> {
    let shortage = |index: &usize| {
        let threshold = &settings.thresholds[*index];
        Shortage {
            condition: threshold.signal.condition(),
            signal: threshold.signal.name(),
            limit: threshold.limit.to_string(),
            lasts: state.first_met.contains_key(index),
            is_hard: threshold.grace.is_none(),
        }
    };
    let mut all: Vec<Shortage> = state.seen.keys().map(shortage).collect();
    // Hard thresholds stand before soft ones.
    all.sort_by_key(|shortage| (shortage.signal, !shortage.lasts));
    all.dedup_by_key(|shortage| shortage.signal);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(
        state: &mut State,
        settings: &Settings,
        memory: i64,
        disk: i64,
        now_s: u64,
    ) -> (String, Option<Signal>) {
        let all = Observations::from([
            (Signal::MemoryAvailable, Left { available: memory << 20, capacity: 1 << 30 }),
            (Signal::NodefsAvailable, Left { available: disk, capacity: 100 }),
        ]);
        let (pressure, short) = judge(state, settings, &all, Duration::from_secs(now_s));
        (pressure.names(), short.map(|short| short.signal))
    }

    #[test]
    fn hard_thresholds_act_at_once_and_conditions_stay_a_while() {
        let (settings, mut state) = (Settings::default(), State::default());
        for (now, memory, disk, pressure, short) in [
            (0, 200, 50, "[]", None),
            (10, 99, 50, "[MemoryPressure]", Some(Signal::MemoryAvailable)),
            (20, 99, 9, "[MemoryPressure DiskPressure]", Some(Signal::MemoryAvailable)),
            (30, 200, 9, "[MemoryPressure DiskPressure]", Some(Signal::NodefsAvailable)),
            (40, 200, 50, "[MemoryPressure DiskPressure]", None),
            (320, 200, 50, "[DiskPressure]", None),
            (330, 200, 50, "[]", None),
        ] {
            assert_eq!(look(&mut state, &settings, memory, disk, now), (pressure.to_owned(), short), "{now}");
        }
    }

    #[test]
    fn soft_thresholds_wait_and_win_back_more() {
        let settings =
            Settings::parse("", "memory.available<300Mi", "memory.available=30s", "memory.available=100Mi")
                .unwrap();
        let mut state = State::default();
        for (now, memory, short) in [
            (0, 299, None),
            (20, 299, None),
            (25, 300, None),
            (30, 299, None),
            (60, 299, Some(Signal::MemoryAvailable)),
            (70, 399, Some(Signal::MemoryAvailable)),
            (80, 400, None),
        ] {
            assert_eq!(look(&mut state, &settings, memory, 50, now).1, short, "{now}");
        }
    }

    #[test]
    fn conditions_have_their_reasons() {
        let settings =
            Settings::parse("nodefs.available<10%", "nodefs.available<20%", "nodefs.available=1m", "")
                .unwrap();
        let mut state = State::default();
        let mut told = |disk: i64, now_s: u64| {
            look(&mut state, &settings, 200, disk, now_s);
            let one = |shortage: Shortage| {
                let Shortage { condition, signal, limit, lasts, is_hard } = shortage;
                format!("{condition} {signal}<{limit} {lasts} {is_hard}")
            };
            shortages(&state, &settings).into_iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(told(50, 0), Vec::<String>::new());
        assert_eq!(told(15, 10), ["DiskPressure nodefs.available<20% true false"]);
        assert_eq!(told(5, 20), ["DiskPressure nodefs.available<10% true true"]);
        assert_eq!(told(15, 30), ["DiskPressure nodefs.available<20% true false"]);
        assert_eq!(told(50, 40), ["DiskPressure nodefs.available<10% false true"]);
        assert_eq!(told(50, 330), Vec::<String>::new());
    }

    #[test]
    fn what_is_short_is_told_in_quantities() {
        let (settings, mut state) = (Settings::default(), State::default());
        let all =
            Observations::from([(Signal::NodefsAvailable, Left { available: 3 << 30, capacity: 50 << 30 })]);
        let (_, short) = judge(&mut state, &settings, &all, Duration::ZERO);
        let short = short.unwrap();
        assert_eq!(
            (short.threshold.to_string().as_str(), short.available.to_string().as_str()),
            ("5Gi", "3Gi")
        );
        assert!(short.is_hard);
    }
}
