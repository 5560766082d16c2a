//! Elastic IPs on interfaces, so that the kernel answers ARP for them.
//!
//! Three properties of the address added make it one that attracts packets and nothing else:
//!
//! * *Scope host.* The kernel chooses the source of the host's own traffic among the addresses whose scope
//!   reaches the destination, so it never chooses this one, and still answers ARP for it (unless the sysctl
//!   `arp_ignore` is 3 or more). A preferred lifetime of 0 would not do: the kernel ignores it for IPv4.
//! * *Prefix length 32 without a prefix route*: no route but the one in table `local`.
//! * Both together are how natgw knows its own addresses again after a restart; it withdraws no others.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::{
    AddressMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkFlags, LinkLayerType},
    },
};
use tracing::warn;

use super::{
    Host, HostError, arp,
    error::is_errno,
    facts::{addresses, local_address},
};

/// How an Elastic IP came to be on its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It was added now, and the neighbours were told by a gratuitous ARP.
    Added,
    /// natgw had added it before.
    Kept,
    /// It is the host's own address, which natgw did not add and will not withdraw.
    Foreign,
}

impl Host {
    /// Adds `address` to interface `ifindex` unless it is there, and tells the neighbours.
    ///
    /// # Errors
    /// [`HostError::NotPermitted`] without CAP_NET_ADMIN, [`HostError::Netlink`] if the interface is gone. A
    /// gratuitous ARP that cannot be sent is only logged: neighbours will find the address by asking.
    pub async fn announce(&self, ifindex: u32, address: Ipv4Addr) -> Result<Announced, HostError> {
        if let Some(found) = self.find_address(ifindex, address).await? {
            return Ok(if is_ours(&found) { Announced::Kept } else { Announced::Foreign });
        }
        let mut request = self.handle.address().add(ifindex, address.into(), 32);
        *request.message_mut() = ours(ifindex, address);
        match request.execute().await {
            Ok(()) => {}
            // Somebody else added it this very moment.
            Err(answer) if is_errno(&answer, libc::EEXIST) => return Ok(Announced::Foreign),
            Err(answer) => {
                return Err(HostError::netlink(format!("add {address} to interface {ifindex}"), answer));
            }
        }
        if let Err(error) = self.gratuitous_arp(ifindex, address).await {
            warn!(%address, ifindex, %error, "the neighbours were not told of an Elastic IP");
        }
        Ok(Announced::Added)
    }

    /// Removes `address` from interface `ifindex` if natgw added it; returns whether it did.
    ///
    /// If it was the interface's only IPv4 address, the kernel removes the interface's IPv4 routes with it.
    ///
    /// # Errors
    /// [`HostError::NotPermitted`] without CAP_NET_ADMIN, [`HostError::Netlink`] for any other refusal.
    pub async fn withdraw(&self, ifindex: u32, address: Ipv4Addr) -> Result<bool, HostError> {
        let found = self.find_address(ifindex, address).await?;
        if !found.is_some_and(|message| is_ours(&message)) {
            return Ok(false);
        }
        match self.handle.address().del(ours(ifindex, address)).execute().await {
            Ok(()) => Ok(true),
            Err(answer) if is_errno(&answer, libc::EADDRNOTAVAIL) => Ok(false),
            Err(answer) => {
                Err(HostError::netlink(format!("remove {address} from interface {ifindex}"), answer))
            }
        }
    }

    /// Tells the neighbours on interface `ifindex` that `address` is here, as after the link came back. Does
    /// nothing where there is no ARP or no link to tell it on.
    ///
    /// # Errors
    /// [`HostError::GratuitousArp`] without CAP_NET_RAW, [`HostError::Netlink`] if the interface is gone.
    pub async fn gratuitous_arp(&self, ifindex: u32, address: Ipv4Addr) -> Result<(), HostError> {
        let Some(mac) = self.arp_source(ifindex).await? else { return Ok(()) };
        arp::announce(ifindex, mac, address).map_err(HostError::GratuitousArp)
    }

    /// The Ethernet address that interface `ifindex` sends ARP from, if it can now.
    async fn arp_source(&self, ifindex: u32) -> Result<Option<[u8; 6]>, HostError> {
        let mut links = Box::pin(self.handle.link().get().match_index(ifindex).execute());
        let refused = |answer| HostError::netlink(format!("read interface {ifindex}"), answer);
        let Some(link) = links.try_next().await.map_err(refused)? else { return Ok(None) };
        let flags = link.header.flags;
        if link.header.link_layer_type != LinkLayerType::Ether
            || !flags.contains(LinkFlags::Up)
            || flags.contains(LinkFlags::Noarp)
        {
            return Ok(None);
        }
        Ok(link.attributes.iter().find_map(|attribute| {
            let LinkAttribute::Address(bytes) = attribute else { return None };
            bytes.as_slice().try_into().ok()
        }))
    }

    /// `address` on interface `ifindex`; natgw's own entry if it is there twice with different prefixes.
    async fn find_address(
        &self,
        ifindex: u32,
        address: Ipv4Addr,
    ) -> Result<Option<AddressMessage>, HostError> {
        let mut found = addresses(&self.handle).await?;
        found.retain(|message| {
            message.header.index == ifindex && local_address(message) == Some(IpAddr::V4(address))
        });
        found.sort_by_key(|message| !is_ours(message));
        Ok(found.into_iter().next())
    }
}

fn ours(ifindex: u32, address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(ifindex).address(address, 32).build();
    message.header.scope = AddressScope::Host;
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
    message
}

/// Whether natgw has added the address.
pub(super) fn is_ours(message: &AddressMessage) -> bool {
    let unrouted = message.attributes.iter().any(|attribute| {
        matches!(attribute, AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Noprefixroute))
    });
    unrouted && message.header.scope == AddressScope::Host && message.header.prefix_len == 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_natgw_adds_is_known_again() {
        assert!(is_ours(&ours(3, Ipv4Addr::new(203, 0, 113, 10))));
    }

    #[test]
    fn an_address_of_wider_scope_or_prefix_is_the_hosts_own() {
        let mut global = ours(3, Ipv4Addr::new(203, 0, 113, 10));
        global.header.scope = AddressScope::Universe;
        assert!(!is_ours(&global));
        let mut subnet = ours(3, Ipv4Addr::new(203, 0, 113, 10));
        subnet.header.prefix_len = 24;
        assert!(!is_ours(&subnet));
    }
}
