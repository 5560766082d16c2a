//! Frames of every kind, most of them damaged: what invariants have to hold against.

use std::net::Ipv4Addr;

use natgw_tests::datapath::{
    Side::{External, Internal, InternalB, Unconfigured},
    *,
};

use crate::random::Random;

/// An endless mix of frames, the same in every run.
pub struct Traffic {
    random: Random,
}

impl Traffic {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed) }
    }

    /// The next frame, and where it arrives.
    pub fn next(&mut self) -> (Side, Vec<u8>) {
        let packet = self.packet();
        let mut frame = packet.frame();
        let (mut side, _) = Side::of(packet.ip.source.into());
        if self.random.below(12) == 0 {
            side = self.pick(&[Internal, InternalB, External, Unconfigured]);
        }
        match self.random.below(4) {
            0 => self.damage(&mut frame, packet.l3(), true),
            1 => self.damage(&mut frame, packet.l3(), false),
            _ => {}
        }
        if self.random.below(8) == 0 {
            frame.truncate(14 + self.random.below(frame.len() - 13));
        }
        (side, frame)
    }

    fn packet(&mut self) -> Packet {
        let host = self.pick(&[HOST, SECOND_HOST, HOST_B, HOST_VLAN]);
        let remote =
            self.pick(&[REMOTE, REMOTE_2, STRANGER, NEIGHBOUR, UNREACHABLE, WRONG_WAY, HOST, HOST_B]);
        let elastic_ip = self.pick(&[ELASTIC_IP, ELASTIC_IP, ELASTIC_IP, EXTERNAL_ADDRESS, HOST]);
        let (port, remote_port) = (5000 + self.random.below(4) as u16, 50 + self.random.below(4) as u16);
        let lent = PORT + self.random.below(16) as u16;
        let bits = if self.random.below(2) == 0 { flags::SYN } else { self.random.below(32) as u8 };
        let (from_host, from_remote) = match self.random.below(3) {
            0 => (udp(host, port, remote, remote_port), udp(remote, remote_port, elastic_ip, lent)),
            1 => {
                (tcp(host, port, remote, remote_port, bits), tcp(remote, remote_port, elastic_ip, lent, bits))
            }
            _ => (echo_request(host, port, remote), echo_reply(remote, lent, elastic_ip)),
        };
        let ttl = self.pick(&[0, 1, 2, 64, 64, 64, 64, 64, 64, 255]);
        let packet = match self.random.below(6) {
            0 => self.error(host, remote, from_remote.destination(host, port)),
            1 => self.error(self_or(remote), elastic_ip, from_host.source(elastic_ip, lent)),
            2 | 3 => from_host,
            _ => from_remote,
        };
        packet.ttl(ttl)
    }

    /// An ICMP error about `quoted`, sometimes one about such an error.
    fn error(&mut self, source: Ipv4Addr, destination: Ipv4Addr, quoted: Packet) -> Packet {
        let (kind, code) = (self.pick(&[3, 3, 11, 12, 5]), self.random.below(6) as u8);
        let length = 8 + self.random.below(30);
        icmp_error(source, destination, kind, code, quoted.quote(length))
    }

    /// Changes a few bytes; the IP header's checksum is right afterwards if `sound`.
    fn damage(&mut self, frame: &mut [u8], l3: usize, sound: bool) {
        for _ in 0..=self.random.below(3) {
            let place = self.random.below(frame.len());
            frame[place] = self.random.next() as u8;
        }
        let end = l3 + usize::from(frame[l3] & 0x0f) * 4;
        if sound && end >= l3 + 20 && end <= frame.len() {
            fix_ip_checksum(frame, l3);
        }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())]
    }
}

/// A router outside: the remote itself, or any other where the remote is no outside address.
fn self_or(remote: Ipv4Addr) -> Ipv4Addr {
    if is_internal(remote) { STRANGER } else { remote }
}

/// Whether an address belongs to the VPC.
pub fn is_internal(address: Ipv4Addr) -> bool {
    address.octets()[..2] == [10, 0]
}

/// The source and destination of the IPv4 header at `offset`, if there is one.
pub fn addresses(frame: &[u8], offset: usize) -> Option<[Ipv4Addr; 2]> {
    let header = frame.get(offset..offset + 20)?;
    (header[0] >> 4 == 4)
        .then(|| [12, 16].map(|at| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])))
}

/// The offset of an untagged or tagged frame's IPv4 header.
pub fn ipv4_offset(frame: &[u8]) -> Option<usize> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(14),
        [0x81, 0x00] if frame.get(16..18)? == [0x08, 0x00] => Some(18),
        _ => None,
    }
}
