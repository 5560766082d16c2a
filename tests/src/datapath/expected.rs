//! What a test says must come of a packet.

use std::net::Ipv4Addr;

use nat_common::{drop::DropReason, flow::Direction};

use super::{hook::Verdict, packet::fix_ip_checksum, state::Change};

/// Which identification a packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identification {
    /// That of the frame expected.
    Kept,
    /// One of the gateway's own, whichever.
    Own,
    /// That of the gateway's own which the latest packet got.
    Same,
}

/// Everything that one packet may do.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(super) verdict: Verdict,
    /// The frame as it leaves; `None`: as it came.
    pub(super) frame: Option<Vec<u8>>,
    packet_counter: Option<(&'static str, &'static str)>,
    reason: Option<DropReason>,
    pub(super) identification: Identification,
    opens: bool,
    refreshes: Option<Direction>,
    also_refreshes: Option<Direction>,
    tells_the_other: bool,
    moves: Vec<(&'static str, u64)>,
    /// Next hops that the controller is asked to resolve: interface and address.
    pub(super) unresolved: Vec<(&'static str, Ipv4Addr)>,
}

/// The packet leaves on the external side, through the session that it belongs to.
#[must_use]
pub fn outbound(frame: impl Into<Vec<u8>>) -> Expected {
    let refreshes = Some(Direction::Outbound);
    Expected { refreshes, ..forwarded(frame, ("outbound_packets", "outbound_bytes")) }
}

/// The packet leaves on the internal side, through the session that it belongs to.
#[must_use]
pub fn inbound(frame: impl Into<Vec<u8>>) -> Expected {
    let refreshes = Some(Direction::Inbound);
    Expected { refreshes, ..forwarded(frame, ("inbound_packets", "inbound_bytes")) }
}

/// The packet leaves untranslated to another subnet.
#[must_use]
pub fn local(frame: impl Into<Vec<u8>>) -> Expected {
    forwarded(frame, ("local_packets", "local_bytes")).moves("hop_lookups", 1)
}

/// The packet leaves on an internal side, translated twice, through its sender's session.
#[must_use]
pub fn hairpin(frame: impl Into<Vec<u8>>) -> Expected {
    let refreshes = Some(Direction::Outbound);
    Expected { refreshes, ..forwarded(frame, ("hairpin_packets", "hairpin_bytes")) }
}

/// The packet is answered by this frame.
#[must_use]
pub fn replied(frame: impl Into<Vec<u8>>) -> Expected {
    Expected { verdict: Verdict::Tx, ..forwarded(frame, ("replied_packets", "replied_bytes")) }
}

/// The packet is refused, and its sender told by this frame.
#[must_use]
pub fn refused(reason: DropReason, frame: impl Into<Vec<u8>>) -> Expected {
    Expected { verdict: Verdict::Tx, frame: Some(frame.into()), ..dropped(reason) }
}

/// The packet goes to the host's stack, unchanged.
#[must_use]
pub fn stack() -> Expected {
    let counters = Some(("stack_packets", "stack_bytes"));
    Expected { verdict: Verdict::Pass, frame: None, packet_counter: counters, ..dropped(DropReason::Martian) }
        .without_reason()
}

/// The packet is refused, unchanged.
#[must_use]
pub fn dropped(reason: DropReason) -> Expected {
    Expected {
        verdict: Verdict::Drop,
        frame: None,
        packet_counter: None,
        reason: Some(reason),
        identification: Identification::Kept,
        opens: false,
        refreshes: None,
        also_refreshes: None,
        tells_the_other: false,
        moves: Vec::new(),
        unresolved: Vec::new(),
    }
}

/// The fragment waits in the controller for its first one, as it came.
#[must_use]
pub fn held() -> Expected {
    let counters = Some(("held_packets", "held_bytes"));
    Expected { packet_counter: counters, ..dropped(DropReason::Martian) }.without_reason()
}

/// What would have left so is left to the controller as it came, to be fragmented, and counts as gone.
#[must_use]
pub fn divided(expected: Expected) -> Expected {
    Expected { verdict: Verdict::Drop, frame: None, ..expected }
}

fn forwarded(frame: impl Into<Vec<u8>>, counters: (&'static str, &'static str)) -> Expected {
    Expected {
        frame: Some(frame.into()),
        verdict: Verdict::Redirect,
        packet_counter: Some(counters),
        ..stack()
    }
}

impl Expected {
    /// It opens a session, at the first port it tries.
    #[must_use]
    pub fn opening(self) -> Self {
        self.opening_after(1)
    }

    /// It opens a session after so many ports tried.
    #[must_use]
    pub fn opening_after(self, tries: u64) -> Self {
        let opening = Self { opens: true, refreshes: None, ..self };
        opening.moves("sessions_opened", 1).moves("port_tries", tries).moves("hop_lookups", 1)
    }

    /// The session that it opens is one of TCP.
    #[must_use]
    pub fn connecting(self) -> Self {
        self.opening().moves("connection_attempts", 1)
    }

    /// NACLs, route and hop are asked, and the answer is remembered.
    #[must_use]
    pub fn judged(self) -> Self {
        self.moves("hop_lookups", 1)
    }

    /// It refreshes no session: an ICMP error.
    #[must_use]
    pub fn refreshing_nothing(self) -> Self {
        Self { refreshes: None, ..self }
    }

    /// It leaves with an identification of the gateway's own.
    #[must_use]
    pub fn numbered(self) -> Self {
        Self { identification: Identification::Own, ..self }
    }

    /// It leaves with the identification of the latest packet that got one.
    #[must_use]
    pub fn numbered_alike(self) -> Self {
        Self { identification: Identification::Same, ..self }
    }

    /// The session of the host that gets it is refreshed too.
    #[must_use]
    pub fn refreshing_the_other(self) -> Self {
        Self { also_refreshes: Some(Direction::Inbound), ..self }
    }

    /// The session's other flow learns of it: a host's FIN, or a RST that is believed.
    #[must_use]
    pub fn telling_the_other(self) -> Self {
        Self { tells_the_other: true, ..self }
    }

    /// It leaves by the device that it came from.
    #[must_use]
    pub fn turned_round(self) -> Self {
        Self { verdict: Verdict::Tx, ..self }
    }

    /// The controller is asked to resolve a next hop.
    #[must_use]
    pub fn asking_to_resolve(self, device: &'static str, address: Ipv4Addr) -> Self {
        Self { unresolved: vec![(device, address)], ..self }
    }

    /// Another counter moves.
    #[must_use]
    pub fn moves(mut self, counter: &'static str, by: u64) -> Self {
        self.moves.push((counter, by));
        self
    }

    /// A counter does not move after all.
    #[must_use]
    pub fn without(mut self, counter: &'static str) -> Self {
        self.moves.retain(|(name, _)| *name != counter);
        self
    }

    fn without_reason(self) -> Self {
        Self { reason: None, ..self }
    }

    /// The frame that is to leave where `sent` came, given the one that `left`: of the gateway's own identifications any will
    /// do, and `number` is the latest.
    pub(super) fn leaving(&self, sent: &[u8], left: &[u8], number: &mut [u8; 2]) -> Vec<u8> {
        let mut wanted = self.frame.as_deref().unwrap_or(sent).to_vec();
        let l3 = if wanted.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
        if self.identification == Identification::Own && left.len() >= l3 + 6 {
            *number = [left[l3 + 4], left[l3 + 5]];
        }
        if self.identification != Identification::Kept {
            wanted[l3 + 4..l3 + 6].copy_from_slice(number);
            fix_ip_checksum(&mut wanted, l3);
        }
        wanted
    }

    /// The change of the data plane's state, for this frame.
    pub(super) fn change(&self, sent: &[u8]) -> Change {
        let length = ip_length(sent);
        let mut change = Change::default();
        let mut add = |name, by| *change.counters.entry(name).or_insert(0) += by;
        if let Some((packets, bytes)) = self.packet_counter {
            add(packets, 1);
            add(bytes, if packets == "stack_packets" { sent.len() as u64 } else { length });
        }
        for (counter, by) in self.moves.iter().filter(|(_, by)| *by != 0) {
            add(counter, *by);
        }
        if let Some(reason) = self.reason {
            change.drops.insert(reason.name(), 1);
            if is_read(reason) {
                add("dropped_bytes", length);
            }
        }
        change.opened = if self.opens { 2 } else { 0 };
        let refreshed = self.refreshes.into_iter().chain(self.also_refreshes);
        change.refreshed.extend(refreshed.map(|direction| (direction, 1, length)));
        if self.tells_the_other {
            let other = match self.refreshes {
                Some(Direction::Outbound) => Direction::Inbound,
                _ => Direction::Outbound,
            };
            change.refreshed.push((other, 0, 0));
            change.refreshed.sort_unstable();
        }
        change
    }
}

/// Whether the packet's length is known where it is refused for this reason.
fn is_read(reason: DropReason) -> bool {
    use DropReason as Reason;
    let unread = [
        Reason::FrameTooShort,
        Reason::EtherType,
        Reason::VlanDepth,
        Reason::Ipv6,
        Reason::IpVersion,
        Reason::IpHeaderLength,
        Reason::IpTotalLength,
        Reason::IpChecksum,
        Reason::IpOptions,
        Reason::SourceRoute,
    ];
    !unread.contains(&reason)
}

/// The IP total length that a frame gives; 0 where it is too short to.
fn ip_length(frame: &[u8]) -> u64 {
    let l3 = if frame.get(12..14) == Some(&[0x81, 0x00]) { 18 } else { 14 };
    frame.get(l3 + 2..l3 + 4).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]).into())
}
