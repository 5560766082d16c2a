//! What one internal host may take of a NAT gateway. How sessions are counted stands in [`nat_common::host`].

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
use nat_common::{
    claim::Place,
    config::slot,
    drop::DropReason,
    flow::{ENDING, FlowEntry4, FlowKey4, OUTSIDE, holds_flow},
    host::{self, Counted, Limits, Record, mark},
    mapping,
    pool::MAX_GATEWAYS,
};

use crate::{
    interface,
    maps::{HOSTS, LIMITS},
    stop::{Reply, Stop},
    table,
    words::MapWords,
};

/// How often a record is looked up that is being removed, or made by another CPU.
const PATIENCE: u32 = 16;
/// The kernel's answer to an insert under a key that is there.
const EEXIST: i32 = -17;

/// Admits a new session of this outbound key through a NAT gateway, counted from 1, that limits hosts; its mark.
#[inline(always)]
pub fn admit(outbound: &FlowKey4, gateway: u16, generation: u32) -> Result<u8, Stop> {
    let answer = host_admit(outbound, gateway.into(), generation);
    match DropReason::from_number(answer as u32) {
        Some(reason) => Err(Stop::Reply(Reply::Prohibited(reason))),
        None => Ok((answer >> 32) as u8),
    }
}

/// A drop reason's number, or one beyond them and the mark in the upper half. Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn host_admit(outbound: *const FlowKey4, gateway: u32, generation: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(outbound) = (unsafe { outbound.as_ref() }) else { return DropReason::NotConfigured as u64 };
    let number = gateway.wrapping_sub(1);
    let Some(limits) = limits(number, generation) else { return DropReason::NotConfigured as u64 };
    match take(outbound, number, limits) {
        Ok(records) => u64::from(DropReason::COUNT) | u64::from(mark::new(records, number)) << 32,
        Err(reason) => reason as u64,
    }
}

/// Counts a session where the limits say, or nowhere.
#[inline(always)]
fn take(outbound: &FlowKey4, number: u32, limits: &Limits) -> Result<u8, DropReason> {
    let records = limits.records();
    if records & mark::HOST != 0 {
        refusal(count(&host::host_key(outbound, number), limits.sessions), DropReason::HostSessionLimit)?;
    }
    if records & mark::REMOTE != 0 {
        let counted = count(&host::remote_key(outbound, number), limits.sessions_per_remote);
        if let Err(reason) = refusal(counted, DropReason::HostPortLimit) {
            release(outbound, mark::new(records & mark::HOST, number));
            return Err(reason);
        }
    }
    if limits.interval != 0 && !take_turn(&host::host_key(outbound, number), limits) {
        release(outbound, mark::new(records, number));
        return Err(DropReason::HostRateLimit);
    }
    Ok(records)
}

#[inline(always)]
fn refusal(counted: u64, over: DropReason) -> Result<(), DropReason> {
    match counted {
        YES => Ok(()),
        OVER => Err(over),
        _ => Err(DropReason::TableFull),
    }
}

#[inline(always)]
fn take_turn(key: &FlowKey4, limits: &Limits) -> bool {
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    record(key).is_some_and(|record| host::take_turn(record, now, limits))
}

#[inline(always)]
fn limits(number: u32, generation: u32) -> Option<&'static Limits> {
    if number >= MAX_GATEWAYS {
        return None;
    }
    LIMITS.get(slot(generation) * MAX_GATEWAYS + number)
}

#[inline(always)]
fn record(key: &FlowKey4) -> Option<MapWords> {
    HOSTS.get_ptr_mut(key).map(|record| MapWords::new(record.cast()))
}

const YES: u64 = 0;
const OVER: u64 = 1;
const FULL: u64 = 2;

#[inline(always)]
fn count(key: &FlowKey4, limit: u32) -> u64 {
    host_count(key, limit)
}

/// Counts a session in the record of `key`, and makes that if there is none. Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn host_count(key: *const FlowKey4, limit: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(&key) = (unsafe { key.as_ref() }) else { return FULL };
    let mut left = PATIENCE;
    while left > 0 {
        left -= 1;
        let Some(record) = record(&key) else {
            match HOSTS.insert(key, Record { key, due: 0, sessions: 1 }, BPF_NOEXIST.into()) {
                Ok(()) => return YES,
                Err(EEXIST) => continue,
                Err(_) => return FULL,
            }
        };
        match host::count(record, key.words(), limit) {
            Counted::Yes => return YES,
            Counted::Over => return OVER,
            Counted::Gone => {}
            Counted::Elsewhere => take_out(record),
        }
    }
    FULL
}

/// Takes a session out of a record. A dead one is removed; until it is, nobody makes another in its place.
#[inline(always)]
fn take_out(record: MapWords) {
    if !host::take_out(record) {
        return;
    }
    let [addresses, rest] = host::key_of(record);
    let key = FlowKey4 {
        source: addresses as u32,
        destination: (addresses >> 32) as u32,
        source_port: rest as u16,
        destination_port: (rest >> 16) as u16,
        protocol: (rest >> 32) as u8,
        zone: (rest >> 40) as u8,
        spare: [0; 2],
    };
    let _ = HOSTS.remove(key);
}

/// Takes a session out of the records that its mark names.
#[inline(always)]
pub fn release(outbound: &FlowKey4, mark: u8) {
    if mark != 0 {
        host_release(outbound, mark.into());
    }
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn host_release(outbound: *const FlowKey4, mark: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(outbound) = (unsafe { outbound.as_ref() }) else { return 0 };
    let (mark, gateway) = (mark as u8, mark & u32::from(mark::GATEWAY));
    if mark & mark::HOST != 0
        && let Some(record) = record(&host::host_key(outbound, gateway))
    {
        take_out(record);
    }
    if mark & mark::REMOTE != 0
        && let Some(record) = record(&host::remote_key(outbound, gateway))
    {
        take_out(record);
    }
    0
}

/// Takes the mark of a session that ends, for [`release`].
#[inline(always)]
pub fn take_mark(outbound: *mut FlowEntry4) -> u8 {
    host::take_mark(words_of(outbound))
}

/// Has the session whose outbound flow stands at `place` counted where the configuration in force says.
#[inline(always)]
pub fn recount(place: Place, generation: u32) {
    host_recount(place, generation);
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn host_recount(place: u32, generation: u32) -> u64 {
    let Some(entry) = table::at(place) else { return 0 };
    // SAFETY: map values stay readable while the program runs.
    let (key, address) = unsafe { ((*entry).key(), (*entry).address) };
    if key.zone == OUTSIDE || mapping::is_mapping(key.protocol) || !lives(entry) {
        return 0;
    }
    let number = interface::gateway_of(address, generation).unwrap_or(MAX_GATEWAYS);
    let wanted = limits(number, generation).map_or(0, |limits| mark::new(limits.records(), number));
    let flow = words_of(entry);
    let before = host::mark_of(flow);
    if wanted == before {
        return 0;
    }
    // First into the new records, so that the session is never out of all.
    let wanted = enter(&key, wanted);
    if !host::replace_mark(flow, key.words(), before, wanted) {
        release(&key, wanted);
        return 0;
    }
    release(&key, before);
    // Whoever ends it meanwhile has taken the mark before it stood there, or finds it: see `age::release`.
    if !lives(entry) && host::replace_mark(flow, key.words(), wanted, 0) {
        release(&key, wanted);
    }
    0
}

/// Counts a session in the records of `mark`, whatever the limits; the mark of those that had room for it.
#[inline(always)]
fn enter(key: &FlowKey4, mark: u8) -> u8 {
    let gateway = u32::from(mark & mark::GATEWAY);
    let mut records = 0;
    if mark & mark::HOST != 0 && count(&host::host_key(key, gateway), 0) == YES {
        records |= mark::HOST;
    }
    if mark & mark::REMOTE != 0 && count(&host::remote_key(key, gateway), 0) == YES {
        records |= mark::REMOTE;
    }
    mark::new(records, gateway)
}

#[inline(always)]
fn lives(entry: *mut FlowEntry4) -> bool {
    // SAFETY: a word of a map value.
    let generation = unsafe { (&raw const (*entry).generation).read_volatile() };
    holds_flow(generation) && generation != ENDING
}

#[inline(always)]
fn words_of(entry: *mut FlowEntry4) -> MapWords {
    MapWords::new(entry.cast())
}
