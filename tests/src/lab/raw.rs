//! Datagrams in fragments, cut and sent by hand: the kernel would send them in its own order.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, UdpHeader};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::lab::host::Host;

/// A raw socket that sends IP packets with headers of our own.
pub struct Raw(OwnedFd);

impl Raw {
    /// Opens it on `host`.
    ///
    /// # Errors
    /// Without root.
    pub fn open(host: &Host) -> Result<Self> {
        host.within(|| {
            let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
            Ok(Self(raw.context("raw socket")?))
        })
    }

    /// Sends an IP packet to the destination in its header.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let destination = SockaddrIn::new(packet[16], packet[17], packet[18], packet[19], 0);
        sendto(self.0.as_raw_fd(), packet, &destination, MsgFlags::empty()).context("cannot send")?;
        Ok(())
    }
}

/// The UDP datagram with this content as `count` fragments of about equal length.
///
/// # Panics
/// If `payload` is too long for a datagram.
#[must_use]
pub fn datagram(
    from: SocketAddrV4,
    to: SocketAddrV4,
    identification: u16,
    payload: &[u8],
    count: usize,
) -> Vec<Vec<u8>> {
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    let length = (payload.len() + 8) as u16;
    let mut header = UdpHeader { source_port: from.port(), destination_port: to.port(), length, checksum: 0 };
    header.checksum =
        header.calc_checksum_ipv4_raw(source, destination, payload).expect("the payload is short enough");
    let content = [&header.to_bytes()[..], payload].concat();
    let piece = content.len().div_ceil(count).next_multiple_of(8);
    let chunks = content.chunks(piece).enumerate();
    chunks
        .map(|(number, chunk)| {
            let more = (number + 1) * piece < content.len();
            fragment(*from.ip(), *to.ip(), identification, number * piece / 8, more, chunk)
        })
        .collect()
}

/// One fragment of a UDP datagram, `offset` times eight bytes from its beginning.
///
/// # Panics
/// If it is too long for a packet.
#[must_use]
pub fn fragment(
    from: Ipv4Addr,
    to: Ipv4Addr,
    identification: u16,
    offset: usize,
    more: bool,
    content: &[u8],
) -> Vec<u8> {
    let length = content.len() as u16;
    let mut ip = Ipv4Header::new(length, 64, IpNumber::UDP, from.octets(), to.octets())
        .expect("the content is short enough");
    ip.identification = identification;
    ip.dont_fragment = false;
    ip.more_fragments = more;
    ip.fragment_offset = IpFragOffset::try_new(offset as u16).expect("13 bits");
    ip.header_checksum = ip.calc_header_checksum();
    [&ip.to_bytes()[..], content].concat()
}
