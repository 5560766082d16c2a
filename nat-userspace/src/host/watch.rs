//! What changes on the host while natgw runs.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    net::{IpAddr, Ipv4Addr},
};

use futures_util::{Stream, StreamExt};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage,
        neighbour::NeighbourMessage,
    },
};

use super::{
    Connection, Host, HostError, HostInterface, Neighbour,
    facts::{addresses, interface, interfaces, local_address},
};

/// Something about the host that is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostChange {
    /// An interface came, went, or changed its name, MAC, MTU or ability to send.
    Link {
        /// The interface.
        ifindex: u32,
    },
    /// An address of the host came or went.
    Address,
    /// An IPv4 route came, went or changed.
    Route,
    /// A neighbour has another Ethernet address than before.
    Neighbour {
        /// The interface it is reached by.
        ifindex: u32,
        /// Its IPv4 address.
        address: Ipv4Addr,
        /// Its Ethernet address as last told; `None` if it had none.
        before: Option<[u8; 6]>,
        /// Its Ethernet address now; `None` if it does not answer any more or was deleted.
        mac: Option<[u8; 6]>,
    },
    /// Changes came faster than they were read and some are lost: everything is to be read anew.
    Missed,
}

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Neigh,
];

impl Host {
    /// The changes from now on. Read the [`facts`](Self::facts) after this call, so that none falls between.
    ///
    /// # Errors
    /// [`HostError::Open`] if the netlink socket cannot be opened, [`HostError::Netlink`] if the kernel refuses
    /// to list what is there to begin with.
    pub async fn watch(&self) -> Result<impl Stream<Item = HostChange> + Send + Unpin + use<>, HostError> {
        let (connection, _, messages) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(HostError::Open)?;
        let connection = Connection::spawn(connection);
        // Listed through the other socket: a multicast message can carry the number of a request of this one.
        let mut seen = Seen::read(self).await?;
        Ok(messages.filter_map(move |(message, _)| {
            let _alive = &connection;
            ready(seen.change(message))
        }))
    }
}

/// What was last told, to tell changes from repetitions: the kernel also announces counters, lifetimes and
/// states nobody needs to act on.
#[derive(Debug, Default)]
struct Seen {
    /// Whether the tables hold all there is: not after changes were lost. Then whatever they cannot rule out
    /// to be a change is one.
    complete: bool,
    interfaces: HashMap<u32, HostInterface>,
    addresses: HashSet<(u32, IpAddr, u8)>,
    neighbours: HashMap<(u32, Ipv4Addr), [u8; 6]>,
}

impl Seen {
    async fn read(host: &Host) -> Result<Self, HostError> {
        let interfaces = interfaces(&host.handle).await?;
        let addresses = addresses(&host.handle).await?;
        let neighbours = host.neighbours().await?;
        Ok(Self {
            complete: true,
            interfaces: interfaces.into_iter().map(|interface| (interface.index, interface)).collect(),
            addresses: addresses.iter().filter_map(address_key).collect(),
            neighbours: neighbours
                .into_iter()
                .filter_map(|neighbour| Some(((neighbour.ifindex, neighbour.address), neighbour.mac?)))
                .collect(),
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "netlink's vocabulary grows; what is new is no news here"
    )]
    fn change(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> Option<HostChange> {
        use RouteNetlinkMessage as Message;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => match message {
                Message::NewLink(link) => self.link(&link, true),
                Message::DelLink(link) => self.link(&link, false),
                Message::NewAddress(address) => self.address(&address, true),
                Message::DelAddress(address) => self.address(&address, false),
                Message::NewRoute(_) | Message::DelRoute(_) => Some(HostChange::Route),
                Message::NewNeighbour(entry) => self.neighbour(&entry, true),
                Message::DelNeighbour(entry) => self.neighbour(&entry, false),
                _ => None,
            },
            NetlinkPayload::Overrun(_) => {
                *self = Self::default();
                Some(HostChange::Missed)
            }
            _ => None,
        }
    }

    fn link(&mut self, message: &LinkMessage, exists: bool) -> Option<HostChange> {
        // Bridges send messages of their own family about their ports.
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let ifindex = message.header.index;
        let changed = if exists {
            let now = interface(message);
            self.interfaces.insert(ifindex, now.clone()) != Some(now)
        } else {
            self.interfaces.remove(&ifindex).is_some() || !self.complete
        };
        changed.then_some(HostChange::Link { ifindex })
    }

    fn address(&mut self, message: &AddressMessage, exists: bool) -> Option<HostChange> {
        let key = address_key(message)?;
        let changed =
            if exists { self.addresses.insert(key) } else { self.addresses.remove(&key) || !self.complete };
        changed.then_some(HostChange::Address)
    }

    fn neighbour(&mut self, message: &NeighbourMessage, exists: bool) -> Option<HostChange> {
        let Neighbour { ifindex, address, mac, .. } = Neighbour::from_message(message)?;
        let mac = mac.filter(|_| exists);
        let before = match mac {
            Some(mac) => self.neighbours.insert((ifindex, address), mac),
            None => self.neighbours.remove(&(ifindex, address)),
        };
        let unsure = before.is_none() && !self.complete;
        (before != mac || unsure).then_some(HostChange::Neighbour { ifindex, address, before, mac })
    }
}

fn address_key(message: &AddressMessage) -> Option<(u32, IpAddr, u8)> {
    Some((message.header.index, local_address(message)?, message.header.prefix_len))
}

#[cfg(test)]
mod tests {
    use rtnetlink::{
        AddressMessageBuilder,
        packet_core::NetlinkHeader,
        packet_route::neighbour::{NeighbourAttribute, NeighbourState},
    };

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn overrun() -> NetlinkMessage<RouteNetlinkMessage> {
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::Overrun(Vec::new()))
    }

    fn neighbour(mac: [u8; 6]) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut entry = NeighbourMessage::default();
        entry.header.state = NeighbourState::Reachable;
        entry.attributes.push(NeighbourAttribute::Destination(ADDRESS.into()));
        entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        RouteNetlinkMessage::NewNeighbour(entry).into()
    }

    fn address_gone() -> NetlinkMessage<RouteNetlinkMessage> {
        let address = AddressMessageBuilder::<Ipv4Addr>::new().index(3).address(ADDRESS, 24).build();
        RouteNetlinkMessage::DelAddress(address).into()
    }

    #[test]
    fn a_change_back_to_what_was_known_before_a_loss_is_told() {
        let mac = [2, 0, 0, 0, 0, 1];
        let mut seen = Seen { complete: true, ..Seen::default() };
        assert!(seen.change(neighbour(mac)).is_some());
        assert_eq!(seen.change(neighbour(mac)), None);
        assert_eq!(seen.change(overrun()), Some(HostChange::Missed));
        assert!(seen.change(neighbour(mac)).is_some());
        assert_eq!(seen.change(neighbour(mac)), None);
    }

    #[test]
    fn after_a_loss_what_goes_is_told_even_if_its_coming_was_not() {
        let mut seen = Seen { complete: true, ..Seen::default() };
        assert_eq!(seen.change(address_gone()), None);
        seen.change(overrun());
        assert_eq!(seen.change(address_gone()), Some(HostChange::Address));
    }
}
