//! The data plane as user space sees it: loading, attaching, and typed maps. Only this module knows aya.

mod applied;
mod apply;
mod attach;
mod batch;
mod count;
mod driver;
mod error;
mod filter;
mod hook;
mod link;
mod load;
mod log;
mod maps;
mod pins;
mod qdisc;
mod queue;
mod rig;
mod sessions;
mod table;

pub use applied::{Applied, AppliedInterface, LiveChanges};
pub use count::Count;
pub use driver::Driver;
pub use error::DatapathError;
pub use hook::{Choice, Hook, TcAttach, choices, native_xdp_carries, tc_hook};
pub use load::{Datapath, EventRing, LoadOptions};
pub use log::forward_log;
pub use maps::Maps;
pub use pins::{Lock, Pins};
pub use queue::QueueDriver;
pub use rig::{LINES, Link, Redirect, Rig, map_memory};
pub use sessions::{Flow, Session, milliseconds, now};
