//! The whole binary, as a person and their tools use it, and the rules of the house.

mod cluster;
mod house;
mod kubectl;
mod survival;
