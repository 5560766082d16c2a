//! `eip who`: who has a port of an Elastic IP.

use std::{borrow::Cow, net::Ipv4Addr};

use serde::Serialize;

use super::FlowProtocol;
use crate::{
    config::{Blocks, Config, NatGateway},
    datapath::{Applied, Block, Session},
};

/// A host that has the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortHolder<'a> {
    /// The private host.
    pub host: Ipv4Addr,
    /// Its VPC; `zone N` if that is no longer configured.
    pub vpc: Cow<'a, str>,
    /// Why it has the port.
    pub by: HeldBy,
    /// The first port that it has so.
    pub first_port: u16,
    /// The last one.
    pub last_port: u16,
    /// Of a session: what it speaks.
    pub protocol: Option<FlowProtocol>,
    /// Of a session: the host's own port.
    pub host_port: Option<u16>,
    /// Of a session: the remote.
    pub destination: Option<Ipv4Addr>,
    /// Of a session: its port.
    pub destination_port: Option<u16>,
}

/// Why a host has a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// It was lent a block of ports.
    Block,
    /// The block is computed from its address.
    Computed,
    /// It has a session on it.
    Session,
}

/// Who has `port` of `address`, for one `protocol` or all: the holder of its block, and hosts without it that have a
/// session there.
#[must_use]
pub fn who<'a>(
    applied: &'a Applied,
    blocks: &[Block],
    sessions: &[Session],
    (address, port): (Ipv4Addr, u16),
    protocol: Option<FlowProtocol>,
) -> Vec<PortHolder<'a>> {
    let config = &applied.config;
    let mut holders: Vec<_> = computed(config, address, port).into_iter().collect();
    let lent = blocks
        .iter()
        .filter(|block| block.elastic_ip == address && (block.first_port..=block.last_port).contains(&port));
    holders.extend(lent.map(|block| {
        of_block(vpc(config, block.zone), block.host, HeldBy::Block, block.first_port, block.last_port)
    }));
    let own: Vec<_> = holders.iter().map(|holder| holder.host).collect();
    let on_port = sessions.iter().filter(|session| {
        let speaks = FlowProtocol::from_number(session.protocol);
        *session.external.ip() == address
            && session.external.port() == port
            && protocol.is_none_or(|wanted| speaks == wanted)
            && !own.contains(session.internal.ip())
    });
    holders.extend(on_port.map(|session| PortHolder {
        protocol: Some(FlowProtocol::from_number(session.protocol)),
        host_port: Some(session.internal.port()),
        destination: Some(*session.remote.ip()),
        destination_port: Some(session.remote.port()),
        ..of_block(vpc(config, session.zone), *session.internal.ip(), HeldBy::Session, port, port)
    }));
    holders
}

fn of_block(
    vpc: Cow<'_, str>,
    host: Ipv4Addr,
    by: HeldBy,
    first_port: u16,
    last_port: u16,
) -> PortHolder<'_> {
    PortHolder {
        host,
        vpc,
        by,
        first_port,
        last_port,
        protocol: None,
        host_port: None,
        destination: None,
        destination_port: None,
    }
}

/// The host whose computed block the port is in.
fn computed(config: &Config, address: Ipv4Addr, port: u16) -> Option<PortHolder<'_>> {
    let gateway = config.owner(address)?;
    let blocks = gateway.per_host.blocks.filter(|blocks| blocks.deterministic)?;
    let position = position(config, gateway, &blocks, address, port)?;
    let positions = config.positions(gateway);
    let (cidr, first) = positions.iter().rev().find(|(_, first)| *first <= position)?;
    let host = Ipv4Addr::from(u32::from(cidr.network()).checked_add(position - first)?);
    let subnet = config.subnets.iter().find(|subnet| subnet.cidr == *cidr && cidr.contains(&host))?;
    let first_port = port / blocks.size * blocks.size;
    Some(of_block(
        Cow::Borrowed(&subnet.vpc),
        host,
        HeldBy::Computed,
        first_port,
        first_port + (blocks.size - 1),
    ))
}

/// The position of the host whose computed block the port is in.
fn position(
    config: &Config,
    gateway: &NatGateway,
    blocks: &Blocks,
    address: Ipv4Addr,
    port: u16,
) -> Option<u32> {
    let place = gateway.elastic_ips.iter().position(|known| *known == address)? as u32;
    let elastic_ip = config.elastic_ip(address)?;
    let numbers = blocks.numbers(&elastic_ip.usable_ports());
    let number = u32::from(port / blocks.size);
    let first = numbers.first()?;
    numbers.contains(&number).then(|| place * numbers.len() as u32 + number - first)
}

fn vpc(config: &Config, zone: u8) -> Cow<'_, str> {
    match config.vpcs.get(usize::from(zone).wrapping_sub(1)) {
        Some(vpc) => Cow::Borrowed(&vpc.name),
        None => Cow::Owned(format!("zone {zone}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{ELASTIC_IP, applied, session};

    fn with_blocks(deterministic: bool) -> Applied {
        let mut applied = applied();
        applied.config.nat_gateways[0].per_host.blocks = Some(Blocks { size: 128, max: 1, deterministic });
        applied
    }

    #[test]
    fn without_blocks_hosts_with_sessions_on_the_port_have_it() {
        let applied = applied();
        let sessions = [session(1, 5_000), session(2, 5_001)];
        let holders = who(&applied, &[], &sessions, (ELASTIC_IP, 5_000), None);
        let [holder] = &holders[..] else { panic!("{holders:?}") };
        assert_eq!((holder.by, holder.host), (HeldBy::Session, *sessions[0].internal.ip()));
        assert_eq!(holder.destination, Some(*sessions[0].remote.ip()));
        assert_eq!(who(&applied, &[], &sessions, (ELASTIC_IP, 5_000), Some(FlowProtocol::Udp)), []);
        assert_eq!(who(&applied, &[], &sessions, (ELASTIC_IP, 6_000), None), []);
    }

    #[test]
    fn the_holder_of_a_block_has_all_its_ports() {
        let applied = with_blocks(false);
        let host = Ipv4Addr::new(10, 0, 1, 7);
        let block = Block { elastic_ip: ELASTIC_IP, first_port: 1_024, last_port: 1_151, zone: 1, host };
        for (port, hosts) in [(1_023, &[][..]), (1_024, &[host][..]), (1_151, &[host]), (1_152, &[])] {
            let holders = who(&applied, &[block], &[], (ELASTIC_IP, port), None);
            assert_eq!(holders.iter().map(|holder| holder.host).collect::<Vec<_>>(), hosts);
        }
    }

    #[test]
    fn a_computed_block_names_its_host_without_any_state() {
        let applied = with_blocks(true);
        let gateway = &applied.config.nat_gateways[0];
        let (cidr, _) = applied.config.positions(gateway)[0];
        let third = Ipv4Addr::from(u32::from(cidr.network()) + 2);
        let holders = who(&applied, &[], &[], (ELASTIC_IP, 1_024 + 2 * 128 + 5), None);
        let [holder] = &holders[..] else { panic!("{holders:?}") };
        assert_eq!((holder.by, holder.host), (HeldBy::Computed, third));
        assert_eq!((holder.first_port, holder.last_port), (1_280, 1_407));
        assert_eq!(who(&applied, &[], &[], (ELASTIC_IP, 80), None), []);
    }
}
