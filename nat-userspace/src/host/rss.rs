//! What a device tells of its receive-side scaling, through the ioctl of ethtool: the netlink crates do not speak of it.

use std::{
    mem,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_GRXFH`, `ETHTOOL_GRSSH` of `linux/ethtool.h`.
const GET_FIELDS: u32 = 0x29;
const GET_RSS: u32 = 0x46;
/// `TCP_V4_FLOW`, `UDP_V4_FLOW`.
const TCP_FLOW: u32 = 1;
const UDP_FLOW: u32 = 2;
/// `RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 | RXH_L4_B_2_3`.
const ADDRESSES_AND_PORTS: u64 = 0xf << 4;
/// `ETH_RSS_HASH_TOP`.
const TOEPLITZ: u8 = 1;
/// 32-bit words of `struct ethtool_rxfh` before its table and key.
const HEAD: usize = 6;

/// How a device spreads what it receives over its queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRss {
    /// Whether its hash function is Toeplitz.
    pub toeplitz: bool,
    /// Whether it makes source and destination alike before it hashes them.
    pub symmetric: bool,
    /// The key of the hash; empty if the driver does not tell.
    pub key: Vec<u8>,
    /// The queue for each value of the hash's low bits; empty if the driver does not tell.
    pub table: Vec<u32>,
    /// Whether addresses and ports of TCP are hashed, and nothing else.
    pub tcp_ports: bool,
    /// The same of UDP.
    pub udp_ports: bool,
}

/// Asks the driver of `device`; `None` if it does not answer.
pub(super) fn read(device: &str) -> Option<HostRss> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut request = vec![0; HEAD];
    request[0] = GET_RSS;
    ask(&socket, device, &mut request)?;
    let (entries, key) = (request[2], request[3]);
    request.resize(HEAD + entries as usize + (key as usize).div_ceil(4), 0);
    request[4] = 0;
    ask(&socket, device, &mut request)?;
    let mut rss = decode(&request)?;
    rss.tcp_ports = fields(&socket, device, TCP_FLOW) == Some(ADDRESSES_AND_PORTS);
    rss.udp_ports = fields(&socket, device, UDP_FLOW) == Some(ADDRESSES_AND_PORTS);
    Some(rss)
}

/// Reads a `struct ethtool_rxfh`.
fn decode(answer: &[u32]) -> Option<HostRss> {
    let (entries, key) = (answer.get(2)?, answer.get(3)?);
    let [function, transform, ..] = answer.get(4)?.to_ne_bytes();
    let (table, rest) = answer.get(HEAD..)?.split_at_checked(*entries as usize)?;
    Some(HostRss {
        toeplitz: function == TOEPLITZ,
        symmetric: transform != 0,
        key: bytemuck::cast_slice(rest).get(..*key as usize)?.to_vec(),
        table: table.to_vec(),
        ..HostRss::default()
    })
}

/// What the device hashes of packets of this `flow`, as a mask of `RXH_*`.
fn fields(socket: &OwnedFd, device: &str, flow: u32) -> Option<u64> {
    // The first members of `struct ethtool_rxnfc`, all that the kernel reads and writes of it here.
    let mut request = [GET_FIELDS, flow, 0, 0];
    ask(socket, device, &mut request)?;
    Some(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&request[2..])))
}

/// Has the driver of `device` answer in the place of the request.
fn ask(socket: &OwnedFd, device: &str, request: &mut [u32]) -> Option<()> {
    // SAFETY: zero is a valid value of every member.
    let mut interface: libc::ifreq = unsafe { mem::zeroed() };
    let room = interface.ifr_name.len() - 1;
    for (to, from) in interface.ifr_name[..room].iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    interface.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: both structs live until the call returns, and the kernel writes no more of the request than the request
    // itself says that there is.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut interface) };
    (answer >= 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with four queues and a key of five bytes.
    fn answer(function: u8, transform: u8) -> Vec<u32> {
        let functions = u32::from_ne_bytes([function, transform, 0, 0]);
        let key = [[1, 2, 3, 4], [5, 0, 0, 0]].map(u32::from_ne_bytes);
        [&[GET_RSS, 0, 4, 5, functions, 0, 3, 2, 1, 0][..], &key].concat()
    }

    #[test]
    fn an_answer_tells_function_key_and_table() {
        let rss = decode(&answer(TOEPLITZ, 0)).unwrap();
        assert_eq!((rss.toeplitz, rss.symmetric), (true, false));
        assert_eq!((rss.key, rss.table), (vec![1, 2, 3, 4, 5], vec![3, 2, 1, 0]));
        assert!(!decode(&answer(2, 0)).unwrap().toeplitz);
        assert!(decode(&answer(TOEPLITZ, 1)).unwrap().symmetric);
    }

    #[test]
    fn an_answer_shorter_than_it_says_is_none() {
        let answer = answer(TOEPLITZ, 0);
        for length in 0..answer.len() {
            assert_eq!(decode(&answer[..length]), None, "{length} words");
        }
    }

    #[test]
    fn a_device_that_does_not_exist_tells_nothing() {
        assert_eq!(read("no-such-device0"), None);
    }
}
