//! Raw packets for what no ordinary socket sends.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use etherparse::PacketBuilder;
use natgw_tests::lab::host::Host;
use natgw_tests::lab::{ELASTIC_IP, Lab, Node, S1};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

/// A packet with an internal source, sent by the gateway itself toward the outside.
pub fn leak(lab: &Lab) -> Result<()> {
    lab.wait_for_ping(Node::Gateway, natgw_tests::lab::ROUTER)?;
    send(&lab.host(Node::Gateway), &udp(natgw_tests::lab::H1, S1, b"leak")?)
}

/// A packet from the gateway whose UDP checksum is wrong.
pub fn bad_checksum(lab: &Lab) -> Result<()> {
    lab.wait_for_ping(Node::Gateway, natgw_tests::lab::ROUTER)?;
    let mut packet = udp(ELASTIC_IP, S1, b"broken")?;
    *packet.last_mut().context("an empty packet")? ^= 1;
    send(&lab.host(Node::Gateway), &packet)
}

/// Fails unless the captures of `lab` fail with `fault`; what they kept is removed.
pub fn must_be_found(lab: &Lab, fault: &str) -> Result<()> {
    let Err(error) = lab.verify_captures() else { bail!("the captures found no {fault}") };
    ensure!(error.to_string().contains(fault), "the captures found something else: {error}");
    lab.discard();
    Ok(())
}

/// An IPv4 packet with a UDP datagram from port 4000 to port 9.
pub fn udp(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64).udp(4000, 9);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

/// An IPv4 packet with a bare TCP segment; `flags` turns the header's flags on.
pub fn tcp(
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    flags: impl Fn(&mut etherparse::TcpHeader),
) -> Result<Vec<u8>> {
    let mut header = etherparse::TcpHeader::new(source.1, destination.1, 1000, 64_000);
    flags(&mut header);
    let builder = PacketBuilder::ipv4(source.0.octets(), destination.0.octets(), 64).tcp_header(header);
    let mut packet = Vec::new();
    builder.write(&mut packet, &[])?;
    Ok(packet)
}

/// An IPv4 packet of protocol 47 (GRE), which the gateway does not translate.
pub fn gre(source: Ipv4Addr, destination: Ipv4Addr) -> Result<Vec<u8>> {
    let mut header =
        etherparse::Ipv4Header::new(4, 64, etherparse::IpNumber::GRE, source.octets(), destination.octets())?;
    header.header_checksum = header.calc_header_checksum();
    let mut packet = Vec::new();
    header.write(&mut packet)?;
    packet.extend([0, 0, 8, 0]);
    Ok(packet)
}

/// Sends a whole IPv4 packet from `host`, by its routing table.
pub fn send(host: &Host, packet: &[u8]) -> Result<()> {
    let packet = packet.to_vec();
    host.within(move || {
        // This protocol means that the packet brings its own IP header.
        let fd: OwnedFd =
            socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
        let destination = packet.get(16..20).context("a packet without a destination")?;
        let address = SockaddrIn::new(destination[0], destination[1], destination[2], destination[3], 0);
        sendto(fd.as_raw_fd(), &packet, &address, MsgFlags::empty()).context("cannot send a raw packet")?;
        Ok(())
    })
}
