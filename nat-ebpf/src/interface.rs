//! Which interface a frame belongs to, what that interface is for, and what is for the host itself.

use nat_common::{
    config::{Role, VlanKey, slot},
    drop::DropReason,
    pool::{ElasticIp, ElasticIpKey},
};

use crate::{
    header::IPV6_DESTINATION,
    maps::{ELASTIC_IPS, INTERFACES, LOCALS, VLANS},
    packet::Packet,
    parse::Parsed,
    stop::Stop,
};

/// The role of the interface with this index; `None` if the configuration does not know it.
#[inline(always)]
pub fn role(ifindex: u32, slot: u32) -> Option<&'static Role> {
    let interface = INTERFACES.get(ifindex)?;
    let role = &interface.role[(slot & 1) as usize];
    if role.zone == 0 && !role.is_external() { None } else { Some(role) }
}

/// The index of the VLAN device that carries `vlan` on `device`.
#[inline(never)]
pub fn of_vlan(device: u32, vlan: u16, slot: u32) -> Option<u32> {
    // SAFETY: the value is one word, written once before its slot comes into force.
    unsafe { VLANS.get(VlanKey { device, vlan, slot: slot as u16 }) }.copied()
}

/// The NAT gateway that the Elastic IP `address` (network order) belongs to.
#[inline(always)]
pub fn gateway_of(address: u32, generation: u32) -> Option<u32> {
    elastic_ip(address, generation).map(|elastic_ip| elastic_ip.gateway.into())
}

/// Whether `address` (network order) is an Elastic IP that nobody but the NAT gateway uses.
#[inline(always)]
pub fn is_dedicated(address: u32, generation: u32) -> bool {
    elastic_ip(address, generation).is_some_and(|elastic_ip| elastic_ip.shared == 0)
}

#[inline(always)]
fn elastic_ip(address: u32, generation: u32) -> Option<ElasticIp> {
    // SAFETY: the value is one word, written once before its slot comes into force.
    unsafe { ELASTIC_IPS.get(ElasticIpKey { address, slot: slot(generation) }) }.copied()
}

/// Whether packets to `address` (network order) are for the host: its own addresses, multicast and broadcast,
/// neither of which is ever forwarded. A dedicated Elastic IP is the NAT gateway's, also where the host answers ARP
/// for it.
#[inline(always)]
pub fn is_host(address: u32, generation: u32) -> bool {
    address_is_host(address, generation) != 0
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn address_is_host(address: u32, generation: u32) -> u32 {
    let first = u32::from_be(address) >> 28;
    if first == 0xe || address == u32::MAX {
        return 1;
    }
    let mut mapped = [0_u32; 4];
    mapped[2] = 0xffff_u32.to_be();
    mapped[3] = address;
    u32::from(is_own(&mapped) && !is_dedicated(address, generation))
}

/// Stops a packet that is not translated: the stack takes what is for the host, the rest is refused.
#[inline(always)]
pub fn host_or(reason: DropReason, parsed: &Parsed, generation: u32) -> Stop {
    if is_host(parsed.key.destination, generation) { Stop::Stack } else { Stop::Drop(reason) }
}

/// IPv6 is not translated: what is for the host or stays on the link goes to the stack, the rest is refused.
#[inline(always)]
pub fn ipv6<P: Packet>(packet: &P, l3: usize) -> Stop {
    let Some(destination) = packet.read::<[u32; 4]>(l3 + IPV6_DESTINATION) else {
        return Stop::Drop(DropReason::FrameTooShort);
    };
    let first = u32::from_be(destination[0]);
    let stays = first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6;
    if stays || is_own(&destination) { Stop::Stack } else { Stop::Drop(DropReason::Ipv6) }
}

#[inline(always)]
fn is_own(address: &[u32; 4]) -> bool {
    // SAFETY: `[u32; 4]` and `[u8; 16]` have the same size, and the map reads bytes.
    let key = unsafe { &*(&raw const *address).cast::<[u8; 16]>() };
    LOCALS.get_ptr(key).is_some()
}
