//! Bursts: packets are sent ahead with a mark and translated as they leave, when the kernel has collected up to sixteen.
//!
//! A translation waits for its flow's cache line, and each packet's program ends before the next one's begins. Where the
//! table is larger than the processor's cache, those waits are nearly all of the time. Whoever has sixteen packets at once
//! asks for sixteen lines at once.

use nat_common::{
    burst::{Lead, MARK, NOTED, Reach},
    flow::{FlowKey4, OUTSIDE},
    protocol,
};

use crate::{
    assembly::bound,
    count,
    header::{self, Ipv4Words, ethertype},
    maps::{AHEAD, DEVICES, LEADS, Noted, REACH},
    packet::{Packet, Place},
    table,
};

/// Bytes of the headers that say which flow a packet belongs to.
const HEADERS: usize = header::ETHERNET + header::IPV4 + 4;
const ETHERTYPE: usize = header::ETHERNET - 2;
/// The bit of a MAC address that stands for a group of hosts.
const GROUP: u8 = 1;
/// Version 4 and no options.
const PLAIN: u8 = 0x45;

/// Fetches the flows with these numbers, as far as there are so many.
macro_rules! fetch_each {
    ($ahead:ident, $noted:ident, $($number:literal)*) => {
        $(
            if $noted <= $number {
                return;
            }
            let Noted { group, home } = $ahead.flows[$number];
            table::fetch_pair(group, home);
        )*
    };
}

/// Sends a packet ahead if all that is known of its kind leaves by one device: the verdict.
///
/// It is left as it is but for its mark. All checks come later: what does not look like a packet of a session is not
/// sent, but what is sent need not be one.
#[inline(always)]
pub fn ahead<P: Packet>(packet: &P) -> Option<u32> {
    let lead = LEADS.get(packet.ingress()).filter(|lead| lead.device != 0)?;
    let frame = packet.place::<HEADERS>(0)?;
    let key = key(packet, frame, lead)?;
    let noted = AHEAD.get_ptr_mut(0)?;
    let verdict = DEVICES.redirect(lead.device, 0).ok()?;
    // SAFETY: the entry is this CPU's own.
    unsafe {
        let count = (*noted).count;
        let (group, home) = table::home(&key);
        *(&raw mut (*noted).flows)
            .cast::<Noted>()
            .wrapping_add(bound::<{ NOTED as i32 - 1 }>(count as usize)) = Noted { group, home };
        (*noted).count = count + 1;
    }
    frame.set(ETHERTYPE, MARK);
    Some(verdict)
}

/// The key of a packet that may be sent ahead.
#[inline(always)]
fn key<P: Packet>(packet: &P, frame: Place, lead: &Lead) -> Option<FlowKey4> {
    let ip: Ipv4Words = frame.get(header::ETHERNET);
    let length = ip.total_length();
    // The host has a part in what is for groups, whatever the address says.
    let plain = frame.get::<u8>(0) & GROUP == 0
        && frame.get::<u16>(ETHERTYPE) == ethertype::IPV4
        && ip.version_and_length() == PLAIN
        && !ip.is_fragment()
        && ip.ttl() > 1
        && matches!(ip.protocol(), protocol::TCP | protocol::UDP)
        && length <= lead.mtu
        && packet.reaches(header::ETHERNET + usize::from(length));
    if !plain || !reaches(ip.destination(), lead.zone) {
        return None;
    }
    let ports: [u16; 2] = frame.get(header::ETHERNET + header::IPV4);
    Some(FlowKey4 {
        source: ip.source(),
        destination: ip.destination(),
        source_port: ports[0],
        destination_port: ports[1],
        protocol: ip.protocol(),
        zone: lead.zone,
        spare: [0; 2],
    })
}

/// Whether packets of `zone` to this destination (network order) leave where nearly all do.
#[inline(always)]
fn reaches(destination: u32, zone: u8) -> bool {
    let Some(reach) = REACH.get(0) else { return false };
    if zone == OUTSIDE {
        Reach::holds(&reach.inbound, Reach::place(destination))
    } else {
        Reach::holds(&reach.outbound, Reach::half(destination))
    }
}

/// Has the processor fetch the flows of all packets that were sent ahead since the last call.
#[inline(always)]
pub fn fetch() {
    let Some(ahead) = AHEAD.get_ptr_mut(0) else { return };
    // SAFETY: the entry is this CPU's own.
    let ahead = unsafe { &mut *ahead };
    let noted = ahead.count;
    if noted == 0 {
        return;
    }
    ahead.count = 0;
    count::count(|counters| counters.sent_ahead += noted);
    // Not in a loop: the processor, which sees some five hundred instructions ahead, is to see all loads at once. The
    // kernel collects sixteen packets, and the next one has been noted by then.
    fetch_each!(ahead, noted, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
}

/// Takes the mark off a packet that was sent ahead; false if it has none.
#[inline(always)]
pub fn take_mark<P: Packet>(packet: &P) -> bool {
    let Some(frame) = packet.place::<{ header::ETHERNET }>(0) else { return false };
    if frame.get::<u16>(ETHERTYPE) != MARK {
        return false;
    }
    frame.set(ETHERTYPE, ethertype::IPV4);
    true
}
