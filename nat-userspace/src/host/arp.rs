//! Gratuitous ARP: telling the neighbours of an interface where an address lives now.

use std::{
    io,
    mem::size_of,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Length of an ARP packet for IPv4 over Ethernet, in bytes.
const LENGTH: usize = 28;

/// Broadcasts from interface `ifindex` that `address` is at `mac`: the announcement of RFC 5227 section 3.
pub(super) fn announce(ifindex: u32, mac: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
    let packets = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    broadcast(&packets, ifindex, &announcement(mac, address))
}

/// An ARP request from `address` for itself.
fn announcement(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    // Ethernet, IPv4, their address lengths, request.
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..].copy_from_slice(&address.octets());
    packet
}

fn broadcast(packets: &OwnedFd, ifindex: u32, packet: &[u8; LENGTH]) -> io::Result<()> {
    let mut everyone = [0xff; 8];
    everyone[6..].fill(0);
    let destination = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: everyone,
    };
    // SAFETY: both pointers are to live values of the lengths given, which the call only reads.
    let sent = unsafe {
        libc::sendto(
            packets.as_raw_fd(),
            packet.as_ptr().cast(),
            LENGTH,
            0,
            (&raw const destination).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_for_the_address_it_comes_from() {
        let packet = announcement([2, 0, 0, 0, 0, 1], Ipv4Addr::new(203, 0, 113, 10));
        let expected =
            [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 203, 0, 113, 10, 0, 0, 0, 0, 0, 0, 203, 0, 113, 10];
        assert_eq!(packet, expected);
    }
}
