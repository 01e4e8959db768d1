//! The whole binary, as a person and their tools use it, and the rules of the house.

mod certificates;
mod cluster;
mod commands;
mod containers;
mod custom;
mod debian;
mod disks;
mod endurance;
mod hooks;
mod house;
mod inside;
mod interrupts;
mod kube_rs;
mod kubectl;
mod normal;
mod python;
mod refusals;
mod state;
mod stops;
mod survival;
mod terminal;
mod three_tier;
mod traces;
mod transcript;
mod volumes;
mod workload;
