//! What the host looks like: its interfaces, its addresses and its next hops.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
    },
};

use super::{
    HostError, HostPorts,
    elastic_ip::is_ours,
    rss::{self, HostRss},
};

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInterface {
    /// The kernel's number for it.
    pub index: u32,
    /// The name, as in `eth0`.
    pub name: String,
    /// The Ethernet address; zero where the interface has none.
    pub mac: [u8; 6],
    /// The largest IP packet it carries, in bytes.
    pub mtu: u32,
    /// Switched on and with a carrier: it can send.
    pub up: bool,
    /// What creates it (`veth`, `vlan`, `bond`...); `None` for physical devices.
    pub driver_kind: Option<String>,
    /// The interface a VLAN device sends its tagged frames through.
    pub parent: Option<u32>,
    /// The 802.1Q tag of a VLAN device; `None` for the service tags of 802.1ad.
    pub vlan: Option<u16>,
    /// Its IPv4 addresses with their prefix lengths.
    pub addresses: Vec<Ipv4Net>,
    /// How it spreads what it receives over its queues, if it was asked and its driver tells.
    pub rss: Option<HostRss>,
}

/// The host, as natgw's configuration is checked against it. Lists are sorted and free of duplicates, so two
/// readings of an unchanged host are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Every interface of the network namespace.
    pub interfaces: Vec<HostInterface>,
    /// Every address of the host, IPv4 and IPv6, but those that natgw has added.
    pub locals: Vec<IpAddr>,
    /// The IPv4 next hops of all IPv4 routes in all tables: interface index and address.
    pub gateways: Vec<(u32, Ipv4Addr)>,
    /// The smallest MTU that an IPv4 route sets for itself, in bytes.
    pub smallest_route_mtu: Option<u32>,
    /// The ports that the host uses itself, if it was asked.
    pub ports: Option<HostPorts>,
}

impl HostFacts {
    /// Asks the kernel behind `handle`.
    ///
    /// # Errors
    /// [`HostError::Netlink`] if the kernel refuses one of the listings.
    pub async fn read(handle: &Handle) -> Result<Self, HostError> {
        let mut facts = Self { interfaces: interfaces(handle).await?, ..Self::default() };
        for message in addresses(handle).await? {
            facts.add_address(&message);
        }
        facts.add_routes(handle).await?;
        facts.locals.sort_unstable();
        facts.locals.dedup();
        Ok(facts)
    }

    /// The interface called `name`.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&HostInterface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The interface with the kernel's number `index`.
    #[must_use]
    pub fn interface_at(&self, index: u32) -> Option<&HostInterface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// Asks the devices of the interfaces called so, for a VLAN its parent, how they spread what they receive.
    pub fn add_rss<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            let Some(interface) = self.interface(name) else { continue };
            let device = interface.parent.unwrap_or(interface.index);
            if let Some(device) = self.interfaces.iter_mut().find(|found| found.index == device) {
                device.rss = rss::read(&device.name);
            }
        }
    }

    fn add_address(&mut self, message: &AddressMessage) {
        let Some(address) = local_address(message) else { return };
        if is_ours(message) {
            return;
        }
        self.locals.push(address);
        let IpAddr::V4(address) = address else { return };
        let Ok(network) = Ipv4Net::new(address, message.header.prefix_len) else { return };
        let holder = self.interfaces.iter_mut().find(|interface| interface.index == message.header.index);
        if let Some(interface) = holder {
            interface.addresses.push(network);
        }
    }
}

/// Lists all interfaces by index, without their addresses.
pub(super) async fn interfaces(handle: &Handle) -> Result<Vec<HostInterface>, HostError> {
    let links: Vec<_> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|answer| HostError::netlink("list the interfaces", answer))?;
    let mut interfaces: Vec<_> = links.iter().map(interface).collect();
    interfaces.sort_unstable_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// Lists all addresses, IPv4 and IPv6.
pub(super) async fn addresses(handle: &Handle) -> Result<Vec<AddressMessage>, HostError> {
    let request = handle.address().get().execute();
    request.try_collect().await.map_err(|answer| HostError::netlink("list the addresses", answer))
}

/// The interface a link message tells of, without its addresses.
pub(super) fn interface(link: &LinkMessage) -> HostInterface {
    let sends = LinkFlags::Up | LinkFlags::LowerUp;
    let mut interface = HostInterface {
        index: link.header.index,
        up: link.header.flags.contains(sends),
        ..HostInterface::default()
    };
    let mut lower = None;
    for attribute in &link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name.clone_from(name);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            interface.mtu = *mtu;
        } else if let LinkAttribute::Address(bytes) = attribute {
            interface.mac = bytes.as_slice().try_into().unwrap_or_default();
        } else if let LinkAttribute::Link(index) = attribute {
            lower = Some(*index);
        } else if let LinkAttribute::LinkInfo(info) = attribute {
            add_kind(&mut interface, info);
        }
    }
    // The attribute means other things elsewhere: for a veth it is the other end.
    interface.parent = lower.filter(|_| interface.driver_kind.as_deref() == Some("vlan"));
    interface
}

fn add_kind(interface: &mut HostInterface, info: &[LinkInfo]) {
    let mut vlan = None;
    let mut customer_tag = true;
    for part in info {
        if let LinkInfo::Kind(kind) = part {
            interface.driver_kind = Some(InfoKind::to_string(kind));
        } else if let LinkInfo::Data(InfoData::Vlan(options)) = part {
            for option in options {
                if let InfoVlan::Id(id) = option {
                    vlan = Some(*id);
                } else if let InfoVlan::Protocol(protocol) = option {
                    customer_tag = *protocol == VlanProtocol::Ieee8021Q;
                }
            }
        }
    }
    interface.vlan = vlan.filter(|_| customer_tag);
}

/// The host's own address in an address message: on a point-to-point link `Address` is the far end.
pub(super) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut far_or_own = None;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            return Some(*address);
        }
        if let AddressAttribute::Address(address) = attribute {
            far_or_own = Some(*address);
        }
    }
    far_or_own
}

impl HostFacts {
    async fn add_routes(&mut self, handle: &Handle) -> Result<(), HostError> {
        let every_route = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = Box::pin(handle.route().get(every_route).execute());
        let refused = |answer| HostError::netlink("list the routes", answer);
        let mut gateways = BTreeSet::new();
        while let Some(route) = routes.try_next().await.map_err(refused)? {
            gateways.extend(next_hops(&route));
            self.smallest_route_mtu = self.smallest_route_mtu.into_iter().chain(mtu(&route)).min();
        }
        self.gateways = gateways.into_iter().collect();
        Ok(())
    }
}

/// The MTU that a route sets for itself.
fn mtu(route: &RouteMessage) -> Option<u32> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Metrics(metrics) = attribute else { return None };
        metrics.iter().find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None })
    })
}

/// The IPv4 next hops of one route, each with its interface. A route through a next-hop object tells them
/// too: the kernel spells the object out in listings.
fn next_hops(route: &RouteMessage) -> Vec<(u32, Ipv4Addr)> {
    if route.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut interface = None;
    let mut hops = Vec::new();
    for attribute in &route.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            interface = Some(*index);
        } else if let RouteAttribute::MultiPath(paths) = attribute {
            hops.extend(
                paths.iter().filter_map(|path| Some((path.interface_index, gateway(&path.attributes)?))),
            );
        }
    }
    hops.extend(interface.zip(gateway(&route.attributes)));
    hops
}

fn gateway(attributes: &[RouteAttribute]) -> Option<Ipv4Addr> {
    attributes.iter().find_map(|attribute| {
        let RouteAttribute::Gateway(RouteAddress::Inet(address)) = attribute else { return None };
        Some(*address)
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::{
        LinkMessageBuilder, LinkUnspec, LinkVlan,
        packet_core::{Emitable, Parseable},
    };

    use super::*;

    /// The message as the kernel's bytes would be read.
    fn received(message: &LinkMessage) -> LinkMessage {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        LinkMessage::parse(&bytes).unwrap()
    }

    #[test]
    fn a_vlan_device_tells_its_parent_and_tag() {
        let device = interface(&received(&LinkVlan::new("eth0.42", 3, 42).up().build()));
        assert_eq!((device.name.as_str(), device.driver_kind.as_deref()), ("eth0.42", Some("vlan")));
        assert_eq!((device.parent, device.vlan), (Some(3), Some(42)));
    }

    #[test]
    fn a_service_tag_is_not_taken_for_a_vlan() {
        let service = LinkVlan::new("eth0.42", 3, 42).protocol(VlanProtocol::Ieee8021Ad).build();
        let device = interface(&received(&service));
        assert_eq!((device.parent, device.vlan), (Some(3), None));
    }

    #[test]
    fn an_interface_without_ethernet_has_no_mac() {
        let tunnel = LinkMessageBuilder::<LinkUnspec>::new().name("ipip0").address(vec![192, 0, 2, 1]);
        assert_eq!(interface(&received(&tunnel.build())).mac, [0; 6]);
    }

    #[test]
    fn the_own_end_of_a_point_to_point_link_is_local() {
        let (own, far) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let mut message = AddressMessage::default();
        message.attributes = vec![AddressAttribute::Address(far.into()), AddressAttribute::Local(own.into())];
        assert_eq!(local_address(&message), Some(own.into()));
        message.attributes.truncate(1);
        assert_eq!(local_address(&message), Some(far.into()));
    }
}
