//! The kernel's neighbour table: which Ethernet address an IPv4 address answers from.
//!
//! Packets that XDP forwards do not count as use of a neighbour, so an entry that only they need grows stale
//! and is never asked for again. natgw makes the kernel ask, and sends no packet of its own to that end.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
            NeighbourState,
        },
    },
};

use super::{Host, HostError, error::is_errno};

/// An entry of the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface it is reached by.
    pub ifindex: u32,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its Ethernet address; `None` while it is not known.
    pub mac: Option<[u8; 6]>,
    /// What the kernel thinks of the entry.
    pub state: NeighbourState,
    /// Whether the kernel confirms the entry by itself, see [`Host::keep_resolved`].
    pub managed: bool,
}

impl Neighbour {
    /// The neighbour a message tells of; `None` if it is not an IPv4 one.
    pub(super) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let state = message.header.state;
        let (mut address, mut mac, mut managed) = (None, None, false);
        for attribute in &message.attributes {
            if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
                address = Some(*v4);
            } else if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
                mac = bytes.as_slice().try_into().ok();
            } else if let NeighbourAttribute::ExtFlags(flags) = attribute {
                managed = flags.contains(NeighbourExtFlags::Managed);
            }
        }
        let mac = mac.filter(|_| is_valid(&state));
        Some(Self { ifindex: message.header.ifindex, address: address?, mac, state, managed })
    }

    /// Whether an administrator or a protocol daemon, not ARP, says where it is.
    fn is_static(&self) -> bool {
        matches!(self.state, NeighbourState::Permanent | NeighbourState::Noarp)
    }

    /// Whether it is known but nobody has asked lately, and the kernel will not ask by itself.
    fn needs_confirmation(&self) -> bool {
        !self.managed && matches!(self.state, NeighbourState::Stale | NeighbourState::Delay)
    }
}

/// What has become of asking for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel is still asking.
    Asking,
    /// It has asked in vain.
    GivenUp,
    /// The neighbour has answered, or nobody asks for it any more.
    Settled,
}

/// Whether the kernel sends to an entry in `state`.
fn is_valid(state: &NeighbourState) -> bool {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    matches!(state, Reachable | Stale | Delay | Probe | Permanent | Noarp)
}

impl Host {
    /// Makes the kernel find or confirm, now, where `address` is on interface `ifindex`, and returns at once.
    ///
    /// An unknown neighbour is asked for by broadcast; a stale one by unicast, and stays in use meanwhile. An
    /// entry that was just confirmed is left alone. So is a permanent one, which the request would void. Whether it may
    /// answer: not if it was asked for before, and the kernel has given up.
    ///
    /// # Errors
    /// [`HostError::NotPermitted`] without CAP_NET_ADMIN, [`HostError::NeighbourTableFull`], or
    /// [`HostError::Netlink`] if the interface is gone.
    pub async fn resolve(&self, ifindex: u32, address: Ipv4Addr) -> Result<bool, HostError> {
        let known = self.neighbour(ifindex, address).await?;
        if let Some(neighbour) = &known {
            // An entry that changed its state in between refuses; then it is asked for like an unknown one.
            if neighbour.needs_confirmation() && self.probe(ifindex, address).await.is_ok() {
                return Ok(true);
            }
            if neighbour.mac.is_some() && !neighbour.needs_confirmation() {
                return Ok(true);
            }
        }
        let gave_up = known.as_ref().is_some_and(|neighbour| neighbour.state == NeighbourState::Failed);
        self.make_use(ifindex, address, known.is_some_and(|neighbour| neighbour.managed)).await?;
        Ok(!gave_up)
    }

    /// What has become of asking for `address` on interface `ifindex`.
    ///
    /// # Errors
    /// [`HostError::Netlink`] if the kernel refuses.
    pub async fn outcome(&self, ifindex: u32, address: Ipv4Addr) -> Result<Outcome, HostError> {
        let known = self.neighbour(ifindex, address).await?;
        Ok(match known.map(|neighbour| neighbour.state) {
            Some(NeighbourState::Incomplete) => Outcome::Asking,
            Some(NeighbourState::Failed) => Outcome::GivenUp,
            _ => Outcome::Settled,
        })
    }

    /// Resolves `address` on interface `ifindex` and has the kernel confirm it again and again by itself, every
    /// 5 s while it does not answer and whenever it has grown stale. Meant for next hops, of which there are
    /// few. Taking the interface down ends it; permanent entries are left alone.
    ///
    /// Kernels before 5.16 do not know this and resolve it once.
    ///
    /// # Errors
    /// [`HostError::NotPermitted`] without CAP_NET_ADMIN, [`HostError::NeighbourTableFull`], or
    /// [`HostError::Netlink`] if the interface is gone.
    pub async fn keep_resolved(&self, ifindex: u32, address: Ipv4Addr) -> Result<(), HostError> {
        match self.neighbour(ifindex, address).await? {
            Some(neighbour) if neighbour.is_static() || neighbour.managed => Ok(()),
            Some(_) | None => self.make_use(ifindex, address, true).await,
        }
    }

    /// Lists the IPv4 neighbours of all interfaces.
    ///
    /// # Errors
    /// [`HostError::Netlink`] if the kernel refuses.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, HostError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet).execute();
        let messages: Vec<_> = request
            .try_collect()
            .await
            .map_err(|answer| HostError::netlink("list the neighbours", answer))?;
        Ok(messages.iter().filter_map(Neighbour::from_message).collect())
    }

    /// The entry for `address` on interface `ifindex`.
    async fn neighbour(&self, ifindex: u32, address: Ipv4Addr) -> Result<Option<Neighbour>, HostError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = ifindex;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(message));
        request.header.flags = NLM_F_REQUEST;

        let refused = |answer| HostError::netlink(format!("read neighbour {address}"), answer);
        let answer = self.handle.clone().request(request).map_err(refused)?.next().await;
        match answer.map(|message| message.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry))) => {
                Ok(Neighbour::from_message(&entry))
            }
            Some(NetlinkPayload::Error(refusal)) => {
                let answer = rtnetlink::Error::NetlinkError(refusal);
                if is_errno(&answer, libc::ENOENT) { Ok(None) } else { Err(refused(answer)) }
            }
            _ => Ok(None),
        }
    }

    /// Tells the kernel that `address` is about to be used, creating the entry if need be.
    async fn make_use(&self, ifindex: u32, address: Ipv4Addr, managed: bool) -> Result<(), HostError> {
        let mut request = self
            .handle
            .neighbours()
            .add(ifindex, IpAddr::V4(address))
            .replace()
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use);
        if managed {
            let kept = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
            request.message_mut().attributes.push(kept);
        }
        request.execute().await.map_err(|answer| {
            if is_errno(&answer, libc::ENOBUFS) {
                return HostError::NeighbourTableFull { address };
            }
            HostError::netlink(format!("resolve {address} on interface {ifindex}"), answer)
        })
    }

    /// Has the kernel ask the known Ethernet address of `address` whether it is still there.
    async fn probe(&self, ifindex: u32, address: Ipv4Addr) -> Result<(), rtnetlink::Error> {
        let request = self.handle.neighbours().add(ifindex, IpAddr::V4(address));
        request.replace().state(NeighbourState::Probe).execute().await
    }
}
