//! What translation changes in the bytes of a packet.

use std::net::Ipv4Addr;

use crate::datapath::Side;

use super::{
    packet::{Datagram, IPV4},
    session::Endpoint,
    wire::{add, carried, put, put_address, sum, word},
};

/// Where a header keeps its checksum, by the packet's protocol.
pub const fn checksum_at(protocol: u8) -> usize {
    match protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    }
}

/// Changes an IP header, and carries its checksum along.
fn header(frame: &mut [u8], ip: usize, length: usize, change: impl FnOnce(&mut [u8])) {
    let around = |header: &[u8]| add(sum(&header[..10]), sum(&header[12..]));
    let header = &mut frame[ip..ip + length];
    let before = around(header);
    change(header);
    let after = around(header);
    let checksum = carried(word(header, 10), before, after);
    put(header, 10, checksum);
}

/// Lowers the TTL.
pub fn lower_ttl(frame: &mut [u8], datagram: &Datagram) {
    header(frame, datagram.ip, datagram.transport - datagram.ip, |header| header[8] -= 1);
}

/// Gives the packet another identification.
pub fn identification(frame: &mut [u8], datagram: &Datagram, new: u16) {
    header(frame, datagram.ip, datagram.transport - datagram.ip, |header| put(header, 4, new));
}

/// Replaces an address of the IP header.
pub fn replace_address(frame: &mut [u8], datagram: &Datagram, outward: bool, new: Ipv4Addr) {
    let at = if outward { 12 } else { 16 };
    header(frame, datagram.ip, datagram.transport - datagram.ip, |header| put_address(header, at, new));
}

/// What the transport checksum covers, summed up: without itself, and for TCP and UDP with the addresses.
fn covered(frame: &[u8], datagram: &Datagram) -> u16 {
    let body = &frame[datagram.transport..datagram.end];
    let at = checksum_at(datagram.protocol);
    let own = add(sum(&body[..at]), sum(&body[at + 2..]));
    if datagram.protocol == 1 { own } else { add(own, sum(&frame[datagram.ip + 12..datagram.ip + IPV4])) }
}

/// Replaces the source endpoint of a packet that goes out, or the destination of one that comes in, and lowers its TTL.
pub fn endpoint(frame: &mut [u8], datagram: &Datagram, outward: bool, (address, port): Endpoint) {
    let before = covered(frame, datagram);
    replace_address(frame, datagram, outward, address);
    let port_at = match (datagram.protocol, outward) {
        (1, _) => 4,
        (_, true) => 0,
        (_, false) => 2,
    };
    put(frame, datagram.transport + port_at, port);
    let after = covered(frame, datagram);
    let at = datagram.transport + checksum_at(datagram.protocol);
    let old = word(frame, at);
    put(frame, at, transport_sum(datagram.protocol, old, before, after));
}

/// A transport checksum after what it covers has changed: UDP has a value for "none", and another for zero (RFC 768).
pub fn transport_sum(protocol: u8, old: u16, before: u16, after: u16) -> u16 {
    if protocol == 17 && old == 0 {
        return 0;
    }
    match carried(old, before, after) {
        0 if protocol == 17 => 0xffff,
        new => new,
    }
}

/// The right transport checksum, whatever stands there.
pub fn right_sum(frame: &[u8], datagram: &Datagram) -> u16 {
    let length = (datagram.end - datagram.transport) as u16;
    !add(add(covered(frame, datagram), u16::from(datagram.protocol)), length)
}

/// Has a frame leave by this interface to this MAC address.
pub fn hop(frame: &mut [u8], side: Side, to: [u8; 6]) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&side.mac());
}
