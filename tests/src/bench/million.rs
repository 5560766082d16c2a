//! What a million sessions cost beside their packets: memory, and the time of an ageing pass.

use anyhow::{Context, Result};
use nat_common::rig::pattern;
use nat_userspace::datapath::{Datapath, LoadOptions, Pins, Programs, Rig, map_memory};

use crate::bench::cpu::Core;
use crate::bench::gateway::{Gateway, Kind};
use crate::bench::packets::{Road, Traffic};

/// The maps that are the larger the more sessions there is room for. `STREAMS` is so too, but only where both ends learn
/// of a session's expiry.
const GROWING: [&str; 4] = ["FLOWS4", "BUSY", "PORTS4", "HOSTS"];

/// The number of sessions.
pub const SESSIONS: u32 = 1_000_000;

/// Memory and ageing of natgw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Bytes of kernel memory per session.
    pub bytes_per_session: f64,
    /// CPU milliseconds of a pass over all sessions.
    pub ageing_ms: f64,
}

/// Opens a million sessions through natgw and measures both.
///
/// # Errors
/// When natgw does not start or not all sessions are opened.
pub fn measure(rig: &mut Rig, core: &Core) -> Result<Figures> {
    let kind = Kind::NatgwXdp;
    let gateway = Gateway::start(&kind, rig, SESSIONS)?;
    let traffic = Traffic { pattern: pattern::SPREAD, sessions: SESSIONS, length: 46, packets: 0 };
    Road::new(&gateway, &kind, rig, core)?.open(traffic)?;
    let natgw = gateway.natgw().context("natgw is no gateway")?;
    let pins = Pins::new(natgw.pins());
    // A second handle on the pinned state, as a restarted controller has it.
    let options = LoadOptions {
        max_sessions: 0,
        max_fragmented_datagrams: 16_384,
        log_level: 0,
        programs: Programs::Xdp,
        bursts: false,
        resets_at_expiry: false,
    };
    let mut datapath = Datapath::pinned(&options, &pins)?;
    let bytes = GROWING.iter().map(|map| map_memory(&pins, map)).sum::<Result<u64, _>>()?;
    let sessions = datapath.maps.max_sessions()?;
    let before = Core::thread()?;
    datapath.age(false, 0)?;
    let ageing = Core::thread()?.saturating_sub(before);
    let left = datapath.maps.session_count()?;
    anyhow::ensure!(left >= u64::from(SESSIONS), "only {left} of {SESSIONS} sessions live");
    drop(datapath);
    gateway.stop()?;
    Ok(Figures {
        bytes_per_session: bytes as f64 / f64::from(sessions),
        ageing_ms: ageing.as_secs_f64() * 1e3,
    })
}
