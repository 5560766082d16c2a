//! Packets cut into fragments.

use etherparse::IpFragOffset;

use super::packet::{Body, Packet};

/// The fragments of `packet`, with content cut at these multiples of eight bytes of the datagram's.
///
/// # Panics
/// If it has no bytes there.
#[must_use]
pub fn fragments(packet: &Packet, cuts: &[usize]) -> Vec<Packet> {
    let content = packet.bytes()[packet.ip.header_len()..].to_vec();
    let edges: Vec<_> = [0].iter().chain(cuts).map(|eighths| eighths * 8).chain([content.len()]).collect();
    let pieces = edges.windows(2).map(|edge| {
        assert!(edge[0] < edge[1], "the packet has {} bytes of content, cut at {cuts:?}", content.len());
        let more = edge[1] < content.len();
        fragment(packet, edge[0] / 8, more, &content[edge[0]..edge[1]])
    });
    pieces.collect()
}

/// A fragment of `packet`'s datagram with this content, `offset` times eight bytes from its beginning.
///
/// # Panics
/// If the offset is beyond 13 bits.
#[must_use]
pub fn fragment(packet: &Packet, offset: usize, more: bool, content: &[u8]) -> Packet {
    let protocol = packet.bytes()[9];
    packet.clone().with(|piece| {
        piece.ip.dont_fragment = false;
        piece.ip.more_fragments = more;
        piece.ip.fragment_offset = IpFragOffset::try_new(offset as u16).expect("13 bits");
        piece.body = Body::Raw(protocol, content.to_vec());
    })
}
