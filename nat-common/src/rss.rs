//! `RSS`: how the device of an external interface spreads what it receives over its queues.
//!
//! The device takes a Toeplitz hash of a packet's addresses and ports, and the hash's low bits choose an entry of its
//! table of queues. The hash is linear: that of a tuple is the exclusive or of what each part of the tuple contributes.
//! So a search for a port computes the other parts once, and has the queue of a port by four look-ups.

use bytemuck::{Pod, Zeroable};

use crate::protocol;

/// Devices that one configuration can describe.
pub const MAX_DEVICES: u32 = 16;
/// Entries of the longest table of queues.
pub const MAX_ENTRIES: usize = 2_048;
/// Bytes of the key that the hash of an IPv4 packet's addresses and ports takes.
pub const KEY_BYTES: usize = INPUT_BYTES + 4;

/// Two addresses and two ports.
const INPUT_BYTES: usize = 12;
const NIBBLES: usize = INPUT_BYTES * 2;

/// Value of `RSS`: what the device does with an answer, which comes from the remote to the Elastic IP.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Rss {
    /// The protocols whose ports the device hashes: [`Rss::TCP`], [`Rss::UDP`].
    pub protocols: u32,
    /// The bits of the hash that choose an entry of `queues`.
    mask: u32,
    /// What each four bits of the tuple contribute to the hash, by their place and value.
    words: [[u32; 16]; NIBBLES],
    /// The queues.
    queues: [u16; MAX_ENTRIES],
}

impl Rss {
    /// Ports of TCP are hashed.
    pub const TCP: u32 = 1;
    /// Ports of UDP are hashed.
    pub const UDP: u32 = 2;

    /// A device with this key and table of queues, and these `protocols`.
    ///
    /// `None` unless the key has at least [`KEY_BYTES`] and the table a power of two of entries, at most
    /// [`MAX_ENTRIES`].
    #[must_use]
    pub fn new(key: &[u8], queues: &[u16], protocols: u32) -> Option<Self> {
        if key.len() < KEY_BYTES || queues.len() > MAX_ENTRIES || !queues.len().is_power_of_two() {
            return None;
        }
        let mut rss = Self { protocols, mask: queues.len() as u32 - 1, ..Self::zeroed() };
        rss.queues[..queues.len()].copy_from_slice(queues);
        for (place, words) in rss.words.iter_mut().enumerate() {
            for (value, word) in words.iter_mut().enumerate() {
                let mut input = [0; INPUT_BYTES];
                input[place / 2] = if place % 2 == 0 { (value as u8) << 4 } else { value as u8 };
                *word = toeplitz(key, &input);
            }
        }
        Some(rss)
    }

    /// Whether the device hashes the ports of this IP protocol.
    #[inline(always)]
    #[must_use]
    pub const fn hashes(&self, protocol: u8) -> bool {
        match protocol {
            protocol::TCP => self.protocols & Self::TCP != 0,
            protocol::UDP => self.protocols & Self::UDP != 0,
            _ => false,
        }
    }

    /// What the remote contributes; network order.
    #[inline(always)]
    #[must_use]
    pub const fn remote(&self, address: u32, port: u16) -> u32 {
        self.long(0, u32::from_be(address)) ^ self.short(16, u16::from_be(port))
    }

    /// What the Elastic IP contributes; network order.
    #[inline(always)]
    #[must_use]
    pub const fn elastic_ip(&self, address: u32) -> u32 {
        self.long(8, u32::from_be(address))
    }

    /// What a port of the Elastic IP contributes; host order.
    #[inline(always)]
    #[must_use]
    pub const fn port(&self, port: u16) -> u32 {
        self.short(20, port)
    }

    /// The queue of packets with this hash.
    #[inline(always)]
    #[must_use]
    pub const fn queue(&self, hash: u32) -> u16 {
        self.queues[(hash & self.mask) as usize & (MAX_ENTRIES - 1)]
    }

    #[inline(always)]
    const fn long(&self, place: usize, value: u32) -> u32 {
        self.short(place, (value >> 16) as u16) ^ self.short(place + 4, value as u16)
    }

    #[inline(always)]
    const fn short(&self, place: usize, value: u16) -> u32 {
        let value = value as usize;
        self.words[place][value >> 12]
            ^ self.words[place + 1][value >> 8 & 15]
            ^ self.words[place + 2][value >> 4 & 15]
            ^ self.words[place + 3][value & 15]
    }
}

/// The Toeplitz hash of `input`, bit by bit: every bit that is set contributes the 32 bits of the key from its own
/// place on. Beyond its end the key is zero.
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |place: usize| key.get(place / 8).is_some_and(|byte| byte << (place % 8) & 0x80 != 0);
    let mut window = (0..32).fold(0, |window, place| window << 1 | u32::from(bit(place)));
    let mut hash = 0;
    for place in 0..input.len() * 8 {
        if input[place / 8] << (place % 8) & 0x80 != 0 {
            hash ^= window;
        }
        window = window << 1 | u32::from(bit(place + 32));
    }
    hash
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddrV4};

    use super::*;
    use crate::flow::raw;

    /// The key of the verification suite (Microsoft, "Verifying the RSS Hash Calculation").
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Source, destination, hash of the addresses, hash with the ports.
    const VECTORS: [(&str, &str, u32, u32); 5] = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x5d18_09c5, 0x10e8_28a2),
    ];

    fn input(source: SocketAddrV4, destination: SocketAddrV4) -> [u8; INPUT_BYTES] {
        let mut input = [0; INPUT_BYTES];
        input[..4].copy_from_slice(&source.ip().octets());
        input[4..8].copy_from_slice(&destination.ip().octets());
        input[8..10].copy_from_slice(&source.port().to_be_bytes());
        input[10..].copy_from_slice(&destination.port().to_be_bytes());
        input
    }

    /// The hash as the data plane puts it together.
    fn split(rss: &Rss, remote: SocketAddrV4, external: SocketAddrV4) -> u32 {
        rss.remote(raw(*remote.ip()), remote.port().to_be())
            ^ rss.elastic_ip(raw(*external.ip()))
            ^ rss.port(external.port())
    }

    #[test]
    fn the_hash_is_that_of_microsofts_verification_suite() {
        for (source, destination, of_addresses, with_ports) in VECTORS {
            let input = input(source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(toeplitz(&KEY, &input[..8]), of_addresses, "{source} to {destination}");
            assert_eq!(toeplitz(&KEY, &input), with_ports, "{source} to {destination}");
        }
    }

    #[test]
    fn the_parts_of_a_tuple_make_the_hash_of_the_verification_suite() {
        let rss = Rss::new(&KEY, &[0], Rss::TCP).unwrap();
        for (source, destination, _, with_ports) in VECTORS {
            assert_eq!(
                split(&rss, source.parse().unwrap(), destination.parse().unwrap()),
                with_ports,
                "{source}"
            );
        }
    }

    #[test]
    fn the_parts_make_the_plain_hash_for_any_key_and_tuple() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as u32
        };
        for _ in 0..50 {
            let mut key = [0; 52];
            key.iter_mut().for_each(|byte| *byte = random() as u8);
            let rss = Rss::new(&key, &[0; 128], Rss::UDP).unwrap();
            for _ in 0..200 {
                let [remote, external] =
                    [(); 2].map(|()| SocketAddrV4::new(Ipv4Addr::from_bits(random()), random() as u16));
                assert_eq!(split(&rss, remote, external), toeplitz(&key, &input(remote, external)));
            }
        }
    }

    #[test]
    fn the_low_bits_of_the_hash_choose_the_queue() {
        let rss = Rss::new(&KEY, &[7, 6, 5, 4], Rss::TCP).unwrap();
        assert_eq!([0, 1, 2, 3, 0xffff_fff4].map(|hash| rss.queue(hash)), [7, 6, 5, 4, 7]);
    }

    #[test]
    fn only_protocols_whose_ports_are_hashed_have_a_preference() {
        let rss = Rss::new(&KEY, &[0], Rss::TCP).unwrap();
        assert_eq!([6, 17, 1].map(|protocol| rss.hashes(protocol)), [true, false, false]);
    }

    #[test]
    fn a_key_or_a_table_that_does_not_fit_describes_no_device() {
        let too_long = [0; MAX_ENTRIES * 2];
        assert!(Rss::new(&KEY[..KEY_BYTES], &too_long[..MAX_ENTRIES], 0).is_some());
        assert!(Rss::new(&KEY[..KEY_BYTES - 1], &[0], 0).is_none());
        for table in [&too_long[..], &[0; 3], &[]] {
            assert!(Rss::new(&KEY, table, 0).is_none(), "{}", table.len());
        }
    }
}
