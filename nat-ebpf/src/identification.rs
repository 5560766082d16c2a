//! IPv4 identification: what tells the fragments of one datagram from those of another.
//!
//! Hosts number their datagrams each for itself; behind one Elastic IP two of them would use a number toward one remote at
//! the same time, and the remote would join fragments that do not belong together (RFC 6864 §5.3.1, RFC 6269 §11). So
//! the gateway numbers what leaves and may be fragmented.

use nat_common::table::Probe;

use crate::{
    assembly::fetch_add,
    maps::{IDENTIFICATIONS, MAX_IDENTIFICATIONS},
    table,
};

/// The identification, network order, of the next datagram of `protocol` from `elastic_ip` to `remote` (both network
/// order). It is the first of `count` in a row, none of which comes again before 65,536 others have been taken.
#[inline(always)]
pub fn next(elastic_ip: u32, remote: u32, protocol: u8, count: u32) -> u16 {
    identification_next(elastic_ip, remote, protocol.into(), count) as u16
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn identification_next(elastic_ip: u32, remote: u32, protocol: u32, count: u32) -> u64 {
    // Such words are no flow's: its third and fourth number are not both zero where there is a zone.
    let words = [u64::from(elastic_ip) | u64::from(remote) << 32, u64::from(protocol) << 48];
    let probe: Probe = table::first_probe(words);
    // A count that many pairs share, and where it begins for this one: its remote learns little of what the others do.
    let Some(counter) = IDENTIFICATIONS.get_ptr_mut(probe.group(MAX_IDENTIFICATIONS)) else { return 0 };
    let begin = (probe.tag() >> 32) as u16;
    let taken = fetch_add(counter, count.into()) as u16;
    begin.wrapping_add(taken).to_be().into()
}
