//! The oracle's judgement of one captured frame. It shares no code with the gateway.

use std::net::Ipv4Addr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice};

/// ICMP types whose payload quotes another packet.
const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];

/// The ethertype of frames that natgw has sent ahead and not translated yet: never to be seen on a wire.
const SENT_AHEAD: EtherType = EtherType(0x88b5);

/// What is wrong with a frame, or `None`. Frames that are not IPv4 are never wrong, unless they were sent ahead.
///
/// With `outside`, an internal source is wrong too, and so is an internal address in the packet an ICMP error quotes.
#[must_use]
pub fn fault(frame: &[u8], outside: bool) -> Option<String> {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    if ethernet.ether_type() == SENT_AHEAD {
        return Some("sent ahead and not translated".to_owned());
    }
    if ethernet.ether_type() != EtherType::IPV4 {
        return None;
    }
    let packet = &frame[ethernet.slice().len()..];
    match check(packet, outside) {
        Ok(()) => None,
        Err(what) => Some(format!("{what}: {}", describe(packet))),
    }
}

fn check(packet: &[u8], outside: bool) -> Result<(), String> {
    let header = Ipv4HeaderSlice::from_slice(packet).map_err(|error| error.to_string())?;
    if Sum16BitWords::new().add_slice(header.slice()).ones_complement() != 0 {
        return Err("bad IP checksum".to_owned());
    }
    if outside && is_internal(header.source_addr()) {
        return Err("internal source outside".to_owned());
    }
    let payload = packet
        .get(header.slice().len()..usize::from(header.total_len()))
        .ok_or_else(|| "IP total length beyond the frame".to_owned())?;
    if header.is_fragmenting_payload() {
        return Ok(());
    }
    check_transport(&header, payload)?;
    if outside && header.protocol() == IpNumber::ICMP { check_quote(payload) } else { Ok(()) }
}

fn check_transport(header: &Ipv4HeaderSlice<'_>, payload: &[u8]) -> Result<(), String> {
    let pseudo = || pseudo_header(header, payload.len());
    let (name, sum) = match header.protocol() {
        IpNumber::TCP => ("TCP", pseudo()),
        // A zero UDP checksum means that there is none.
        IpNumber::UDP if payload.get(6..8) == Some(&[0, 0]) => return Ok(()),
        IpNumber::UDP => ("UDP", pseudo()),
        IpNumber::ICMP => ("ICMP", Sum16BitWords::new()),
        _ => return Ok(()),
    };
    if sum.add_slice(payload).ones_complement() == 0 { Ok(()) } else { Err(format!("bad {name} checksum")) }
}

fn pseudo_header(header: &Ipv4HeaderSlice<'_>, length: usize) -> Sum16BitWords {
    // An IPv4 payload is shorter than 64 KiB.
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut sum = Sum16BitWords::new();
    let mut sum = sum.add_4bytes(header.source());
    sum.add_4bytes(header.destination()).add_2bytes([0, header.protocol().0]).add_2bytes(length)
}

/// The packet quoted by an ICMP error was sent from or to an external address, as seen outside.
fn check_quote(icmp: &[u8]) -> Result<(), String> {
    if !icmp.first().is_some_and(|kind| ICMP_ERRORS.contains(kind)) {
        return Ok(());
    }
    let quoted = icmp.get(8..).and_then(|quote| Ipv4HeaderSlice::from_slice(quote).ok());
    match quoted {
        Some(quoted) if is_internal(quoted.source_addr()) || is_internal(quoted.destination_addr()) => {
            Err("internal address quoted outside".to_owned())
        }
        _ => Ok(()),
    }
}

/// Everything internal in the lab is in 10.0.0.0/8.
fn is_internal(address: Ipv4Addr) -> bool {
    address.octets()[0] == 10
}

fn describe(packet: &[u8]) -> String {
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else {
        return format!("{} bytes", packet.len());
    };
    let (from, to) = (header.source_addr(), header.destination_addr());
    let payload = packet.get(header.slice().len()..).unwrap_or_default();
    let first: String = payload.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{from} > {to}, protocol {}, {} bytes, payload {first}…", header.protocol().0, header.total_len())
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const ETHERNET: usize = 14;

    fn udp(source: [u8; 4]) -> Vec<u8> {
        let builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, [192, 0, 2, 10], 64).udp(4000, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"question").expect("a vector takes every byte");
        frame
    }

    fn icmp_error_quoting(packet: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([203, 0, 113, 10], [192, 0, 2, 10], 64);
        let port_unreachable = etherparse::icmpv4::DestUnreachableHeader::Port;
        let builder = builder.icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(port_unreachable));
        let mut frame = Vec::new();
        builder.write(&mut frame, packet).expect("a vector takes every byte");
        frame
    }

    #[test]
    fn a_whole_packet_from_an_elastic_ip_is_faultless() {
        assert_eq!(fault(&udp([203, 0, 113, 10]), true), None);
    }

    #[test]
    fn an_internal_source_is_a_fault_only_outside() {
        assert_eq!(fault(&udp([10, 0, 1, 10]), false), None);
        assert!(fault(&udp([10, 0, 1, 10]), true).expect("a fault").contains("internal source"));
    }

    #[test]
    fn one_flipped_bit_anywhere_in_header_or_payload_is_a_fault() {
        let whole = udp([203, 0, 113, 10]);
        for byte in ETHERNET..whole.len() {
            let mut broken = whole.clone();
            broken[byte] ^= 0x01;
            assert!(fault(&broken, true).is_some(), "byte {byte}");
        }
    }

    #[test]
    fn a_frame_that_was_sent_ahead_is_a_fault_on_any_wire() {
        let mut frame = udp([203, 0, 113, 10]);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(fault(&frame, false).expect("a fault").contains("sent ahead"));
    }

    #[test]
    fn an_udp_checksum_of_zero_is_none_at_all() {
        let mut frame = udp([203, 0, 113, 10]);
        frame[ETHERNET + 26..ETHERNET + 28].fill(0);
        assert_eq!(fault(&frame, true), None);
    }

    #[test]
    fn an_internal_address_in_a_quoted_packet_is_a_fault() {
        let quoted = icmp_error_quoting(&udp([10, 0, 1, 10])[ETHERNET..]);
        assert!(fault(&quoted, true).expect("a fault").contains("quoted"));
        let quoted = icmp_error_quoting(&udp([203, 0, 113, 10])[ETHERNET..]);
        assert_eq!(fault(&quoted, true), None);
    }
}
