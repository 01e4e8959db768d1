//! The whole binary, as a person and their tools use it, and the rules of the house.

mod certificates;
mod cluster;
mod commands;
mod containers;
mod custom;
mod debian;
mod endurance;
mod house;
mod kube_rs;
mod kubectl;
mod normal;
mod python;
mod refusals;
mod state;
mod survival;
mod terminal;
mod three_tier;
mod traces;
mod transcript;
