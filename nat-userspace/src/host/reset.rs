//! Resets for both ends of a TCP session that has ended for being idle (RFC 5382 §5).

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, OwnedFd},
};

use nat_common::{checksum::fold, event::Expired, flow::Hop, protocol};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Bytes of an IPv4 or a TCP header without options.
const HEADER: usize = 20;
/// What stands in front of an IPv4 packet, and of one in a VLAN.
const ETHERTYPE: [u8; 2] = [0x08, 0x00];
const VLAN: [u8; 2] = [0x81, 0x00];
/// TTL of packets that start here.
const TTL: u8 = 64;
/// RST and nothing else, in the TCP header's flags.
const RST: u8 = 0x04;

/// A socket that sends whole frames.
#[derive(Debug)]
pub struct Resets(OwnedFd);

impl Resets {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As the kernel answers; it asks for `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        // No protocol: it receives nothing.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// Sends each end of `session` a RST with the sequence number that it expects next, as the other end would.
    ///
    /// # Errors
    /// As the kernel answers; the other end has got its RST all the same.
    pub fn send(&self, session: &Expired) -> io::Result<()> {
        let [to_remote, to_host] = frames(session);
        let sent = [(&session.hops[0], to_remote), (&session.hops[1], to_host)]
            .map(|(hop, frame)| self.send_frame(hop.ifindex(), &frame));
        sent.into_iter().collect()
    }

    fn send_frame(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let destination = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_IP as u16).to_be(),
            sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        // SAFETY: both pointers are to live values of the lengths given, which the call only reads.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const destination).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// One end of a connection, as in packets.
#[derive(Clone, Copy)]
struct End {
    address: [u8; 4],
    port: [u8; 2],
}

/// The frames to the remote and to the internal host.
fn frames(session: &Expired) -> [Vec<u8>; 2] {
    let end = |address: u32, port: u16| End { address: address.to_ne_bytes(), port: port.to_ne_bytes() };
    let key = &session.key;
    let host = end(key.source, key.source_port);
    let external = end(session.address, session.port);
    let remote = end(key.destination, key.destination_port);
    let [to_remote, to_host] = session.sequences;
    [frame(&session.hops[0], external, remote, to_remote), frame(&session.hops[1], remote, host, to_host)]
}

fn frame(hop: &Hop, source: End, destination: End, sequence: u32) -> Vec<u8> {
    let mut frame = [hop.destination, hop.source].concat();
    if hop.vlan() != 0 {
        frame.extend(VLAN);
        frame.extend(hop.vlan().to_be_bytes());
    }
    frame.extend(ETHERTYPE);
    frame.extend(ip(source.address, destination.address));
    frame.extend(tcp(source, destination, sequence));
    frame
}

fn ip(source: [u8; 4], destination: [u8; 4]) -> [u8; HEADER] {
    let mut ip = [0; HEADER];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(2 * HEADER as u16).to_be_bytes());
    // Not to be fragmented.
    ip[6] = 0x40;
    ip[8] = TTL;
    ip[9] = protocol::TCP;
    ip[12..16].copy_from_slice(&source);
    ip[16..].copy_from_slice(&destination);
    let checksum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&checksum);
    ip
}

fn tcp(source: End, destination: End, sequence: u32) -> [u8; HEADER] {
    let mut tcp = [0; HEADER];
    tcp[..2].copy_from_slice(&source.port);
    tcp[2..4].copy_from_slice(&destination.port);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12] = (HEADER as u8 / 4) << 4;
    tcp[13] = RST;
    let pseudo = [0, protocol::TCP, 0, HEADER as u8];
    let checksum = checksum(&[&source.address, &destination.address, &pseudo, &tcp]);
    tcp[16..18].copy_from_slice(&checksum);
    tcp
}

/// The Internet checksum of parts of even length, as it stands in a packet.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let pairs = parts.iter().flat_map(|part| part.chunks_exact(2));
    let sum: u32 = pairs.map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use nat_common::flow::{FlowKey4, raw};

    use super::*;

    fn session() -> Expired {
        Expired {
            address: raw([203, 0, 113, 10].into()),
            port: 1_024_u16.to_be(),
            key: FlowKey4 {
                source: raw([10, 0, 1, 5].into()),
                destination: raw([192, 0, 2, 80].into()),
                source_port: 40_000_u16.to_be(),
                destination_port: 443_u16.to_be(),
                protocol: protocol::TCP,
                zone: 1,
                spare: [0; 2],
            },
            hops: [
                Hop { destination: [1; 6], source: [2; 6], device: 7 },
                Hop { destination: [3; 6], source: [4; 6], device: 100 << 20 | 8 },
            ],
            sequences: [0x0102_0304, 0x0506_0708],
            ..Expired::default()
        }
    }

    #[test]
    fn each_end_gets_a_reset_from_the_other_with_the_sequence_number_that_it_expects() {
        let [to_remote, to_host] = frames(&session());
        assert_eq!(to_remote[..14], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]);
        assert_eq!(to_remote[26..34], [203, 0, 113, 10, 192, 0, 2, 80]);
        assert_eq!(to_remote[34..48], [4, 0, 1, 187, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 4]);
        assert_eq!(to_host[..18], [3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 0x81, 0, 0, 100, 8, 0]);
        assert_eq!(to_host[30..38], [192, 0, 2, 80, 10, 0, 1, 5]);
        assert_eq!(to_host[38..52], [1, 187, 0x9c, 0x40, 5, 6, 7, 8, 0, 0, 0, 0, 0x50, 4]);
    }

    /// Computed by hand: the words of header and pseudo-header added up, folded and inverted.
    #[test]
    fn the_checksums_are_those_of_the_rfcs() {
        let [to_remote, _] = frames(&session());
        // 4500 + 0028 + 4000 + 4006 + cb00 + 710a + c000 + 0250 = 2c388 -> c38a -> 3c75
        assert_eq!(to_remote[24..26], [0x3c, 0x75]);
        // cb00 + 710a + c000 + 0250 + 0006 + 0014 + 0400 + 01bb + 0102 + 0304 + 5004 = 2583a -> 583c -> a7c3
        // (cb00 + 710a + c000 + 0250 = 1fe5a; + 001a = 1fe74; + 05bb = 2042f; + 0406 = 20835; + 5004 = 25839 -> 583b)
        assert_eq!(to_remote[50..52], [0xa7, 0xc4]);
    }
}
