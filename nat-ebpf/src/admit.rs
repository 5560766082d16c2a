//! May this packet pass? NACLs and routes, asked once per flow and generation.

use nat_common::{
    config::slot,
    drop::DropReason,
    flow::{Direction, FlowKey4, OUTSIDE},
    pool::{Gateway, MAX_GATEWAYS},
    protocol,
    route::{Subnet, Target},
};

use crate::{
    interface,
    maps::GATEWAYS,
    nacl,
    parse::Parsed,
    route,
    stop::{Reply, Stop},
};

/// Whether `nacl` lets the packet cross its subnet's border: `address` is the far side's (network order), `port` the
/// port addressed (network order), in whose place an ICMP packet has its type and code.
#[inline(always)]
fn allows(
    nacl: u16,
    direction: Direction,
    address: u32,
    port: u16,
    parsed: &Parsed,
    generation: u32,
) -> bool {
    let protocol = parsed.key.protocol;
    let service = if protocol == protocol::ICMP { parsed.icmp } else { u16::from_be(port) };
    nacl::allows(nacl, direction, protocol, address, service, generation)
}

/// The NAT gateway with this number.
#[inline(always)]
pub fn gateway(number: u32, generation: u32) -> Option<&'static Gateway> {
    if number >= MAX_GATEWAYS {
        return None;
    }
    GATEWAYS.get(slot(generation) * MAX_GATEWAYS + number)
}

/// The NAT gateway that a route leads to, for a session that holds `elastic_ip` (network order): if the route leads
/// elsewhere by now, the configuration forbids the session.
#[inline(always)]
pub fn gateway_holding(elastic_ip: u32, target: &Target, generation: u32) -> Result<&'static Gateway, Stop> {
    let number = u32::from(target.gateway);
    let holds = interface::gateway_of(elastic_ip, generation) == Some(number);
    match gateway(number, generation) {
        Some(gateway) if target.kind == Target::NAT_GATEWAY && holds => Ok(gateway),
        _ => Err(Stop::Drop(DropReason::NoRoute)),
    }
}

/// The subnet of an internal source. A source that its interface cannot have is refused (RFC 2827).
#[inline(always)]
pub fn source(parsed: &Parsed, generation: u32) -> Result<&'static Subnet, Stop> {
    let subnet = route::subnet(parsed.key.zone, parsed.key.source, generation);
    match subnet {
        Some(subnet) if subnet.ifindex == parsed.ifindex => Ok(subnet),
        _ => Err(Stop::Drop(DropReason::SourceNotInSubnet)),
    }
}

/// Out of the private subnet: its NACL, then its route table.
#[inline(always)]
pub fn leave(parsed: &Parsed, generation: u32, target: &mut Target) -> Result<(), Stop> {
    let FlowKey4 { destination, destination_port, .. } = parsed.key;
    let subnet = source(parsed, generation)?;
    if !allows(subnet.nacl, Direction::Outbound, destination, destination_port, parsed, generation) {
        return Err(Stop::Drop(DropReason::NaclOutbound));
    }
    match route::target(subnet.route_table, destination, generation) {
        None => Err(Stop::Reply(Reply::NetworkUnreachable(DropReason::NoRoute))),
        Some(found) if found.kind == Target::BLACKHOLE => Err(Stop::Drop(DropReason::Blackhole)),
        Some(found) => {
            *target = *found;
            Ok(())
        }
    }
}

/// What becomes of a protocol that is never translated: the stack takes what is for the host, and an internal sender whose
/// packet might leave otherwise is told (RFC 1812 §5.2.7.1).
#[inline(always)]
pub fn other_protocol(parsed: &Parsed, generation: u32) -> Stop {
    match Stop::decode(protocol_stop(parsed, generation)) {
        Err(stop) => stop,
        Ok(()) => Stop::Drop(DropReason::Protocol),
    }
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn protocol_stop(parsed: *const Parsed, generation: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else {
        return Stop::encode(Err(Stop::Drop(DropReason::NotConfigured)));
    };
    if interface::is_host(parsed.key.destination, generation) {
        return Stop::encode(Err(Stop::Stack));
    }
    if parsed.key.zone == OUTSIDE {
        return Stop::encode(Err(Stop::Drop(DropReason::Protocol)));
    }
    match source(parsed, generation) {
        Ok(_) => Stop::encode(Err(Stop::Reply(Reply::ProtocolUnreachable(DropReason::Protocol)))),
        Err(_) => Stop::encode(Err(Stop::Drop(DropReason::SourceNotInSubnet))),
    }
}

/// Whether the NAT gateway does not translate the packet's protocol.
#[inline(always)]
fn is_foreign(parsed: &Parsed, gateway: &Gateway) -> bool {
    match parsed.key.protocol {
        protocol::GRE => gateway.port_less & Gateway::GRE == 0,
        protocol::ESP => gateway.port_less & Gateway::ESP == 0,
        _ => false,
    }
}

/// Through the NAT gateway's subnet to the outside.
#[inline(always)]
pub fn outside(parsed: &Parsed, gateway: &Gateway, generation: u32) -> Result<(), Stop> {
    let FlowKey4 { source, destination, destination_port, .. } = parsed.key;
    let nacl = gateway.nacl;
    let both_sides = gateway.flags & Gateway::NACL_BOTH_SIDES != 0;
    if both_sides && !allows(nacl, Direction::Inbound, source, destination_port, parsed, generation) {
        return Err(Stop::Drop(DropReason::NaclInbound));
    }
    if !allows(nacl, Direction::Outbound, destination, destination_port, parsed, generation) {
        return Err(Stop::Drop(DropReason::NaclOutbound));
    }
    if is_foreign(parsed, gateway) {
        return Err(Stop::Reply(Reply::ProtocolUnreachable(DropReason::Protocol)));
    }
    Ok(())
}

/// From outside through the NAT gateway's subnet into the subnet of `internal` (network order) in `zone`, where the
/// packet is addressed to `port`.
#[inline(always)]
pub fn inside(parsed: &Parsed, zone: u8, internal: u32, port: u16, generation: u32) -> Result<(), Stop> {
    let FlowKey4 { source, destination, destination_port, .. } = parsed.key;
    let number = interface::gateway_of(destination, generation);
    let Some(gateway) = number.and_then(|number| gateway(number, generation)) else {
        return Err(Stop::Drop(DropReason::NoSession));
    };
    if is_foreign(parsed, gateway) {
        return Err(Stop::Drop(DropReason::Protocol));
    }
    let nacl = gateway.nacl;
    if !allows(nacl, Direction::Inbound, source, destination_port, parsed, generation) {
        return Err(Stop::Drop(DropReason::NaclInbound));
    }
    let both_sides = gateway.flags & Gateway::NACL_BOTH_SIDES != 0;
    if both_sides && !allows(nacl, Direction::Outbound, internal, port, parsed, generation) {
        return Err(Stop::Drop(DropReason::NaclOutbound));
    }
    arrive(parsed, zone, internal, port, generation)
}

/// Into the private subnet of `internal`: its NACL.
#[inline(always)]
pub fn arrive(parsed: &Parsed, zone: u8, internal: u32, port: u16, generation: u32) -> Result<(), Stop> {
    let Some(subnet) = route::subnet(zone, internal, generation) else {
        return Err(Stop::Reply(Reply::NetworkUnreachable(DropReason::NoRoute)));
    };
    if !allows(subnet.nacl, Direction::Inbound, parsed.key.source, port, parsed, generation) {
        return Err(Stop::Drop(DropReason::NaclInbound));
    }
    Ok(())
}
