//! A NAT in plain Rust, to check the data plane against: written from the RFCs and from what natgw documents, without a
//! line of natgw's own code. It is slow, stands in one thread, and keeps no more than it must.
//!
//! A NAT may choose any free port, so the model is shown what left the data plane: where a session opens, it checks that
//! the choice was one it may make, and goes on with it.

mod error;
mod forward;
mod fragment;
mod mapping;
mod mutation;
mod nat;
mod open;
mod packet;
mod reply;
mod rewrite;
mod session;
mod wire;
mod world;

pub use mutation::Mutation;
pub use nat::{Answer, Model};
pub use session::{Phase, Protocol, Summary};
pub use wire::{add, carried, put, sum, word};
pub use world::{Acl, ElasticIp, Filtering, Rule, Subnet, Target, Timeouts, World};
