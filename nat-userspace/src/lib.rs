//! The parts of natgw that run in user space.

pub mod host;
