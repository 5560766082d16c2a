//! Mappings that do not depend on the remote (RFC 4787 §4.1), and what comes in by them (§5).

use super::{
    nat::{Leave, Model, Packet, Stop},
    packet::{Content, flag},
    session::{Endpoint, Protocol, is_syn},
    world::Filtering,
};

/// What a segment from inside that begins no connection is to the mapping of its endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It accepts a connection that has been let in, and begins the session.
    Opens,
    /// It refuses one, and begins nothing (RFC 7857 §7.1).
    Passes(Endpoint),
    /// Neither.
    Stray,
}

impl Model {
    /// The external endpoint that an internal one has toward everybody.
    pub(super) fn mapped(&self, of: Protocol, internal: Endpoint) -> Option<Endpoint> {
        self.mappings.get(&(of, internal)).copied()
    }

    /// Whose an external endpoint is.
    pub(super) fn owner(&self, of: Protocol, external: Endpoint) -> Option<Endpoint> {
        let owns = |((protocol, _), owned): &(&(Protocol, Endpoint), &Endpoint)| {
            *protocol == of && **owned == external
        };
        self.mappings.iter().find(owns).map(|((_, internal), _)| *internal)
    }

    /// Whether a mapping is of use to any session.
    pub(super) fn is_in_use(&self, of: Protocol, internal: Endpoint) -> bool {
        self.table.iter().any(|session| session.protocol == of && session.internal == internal)
    }

    /// Ends the mappings that no session uses.
    pub(super) fn forget_mappings(&mut self) {
        let table = &self.table;
        let in_use =
            |of, internal| table.iter().any(|session| session.protocol == of && session.internal == internal);
        self.mappings.retain(|(of, internal), _| in_use(*of, *internal));
    }

    /// What a segment without a session is.
    pub(super) fn answer(&self, content: Content, internal: Endpoint) -> Answer {
        let filtering = self.world.independent;
        let lets_in = matches!(filtering, Some(Filtering::ByAddress | Filtering::Nothing));
        let (Content::Tcp { flags, .. }, true) = (content, lets_in) else { return Answer::Stray };
        let Some(external) = self.mapped(6, internal) else { return Answer::Stray };
        match flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) {
            accepts if accepts == flag::SYN | flag::ACK => Answer::Opens,
            refuses if refuses & flag::RST != 0 => Answer::Passes(external),
            _ => Answer::Stray,
        }
    }

    /// The internal endpoint that a packet from outside without a session is let in to.
    pub(super) fn let_in(
        &self,
        of: Protocol,
        content: Content,
        from: Endpoint,
        to: Endpoint,
    ) -> Option<Endpoint> {
        let begins = match content {
            Content::Tcp { flags, .. } => is_syn(flags),
            Content::Udp { .. } => true,
            // No host is meant to answer for an address that all share.
            Content::Query { .. } | Content::Error | Content::Bare | Content::Other => false,
        };
        let internal = self.owner(of, to).filter(|_| begins)?;
        let knows = || {
            let with = |session: &super::session::Session| {
                session.protocol == of && session.internal == internal && session.remote.0 == from.0
            };
            self.table.iter().any(with)
        };
        match self.world.independent? {
            Filtering::Nothing => Some(internal),
            Filtering::ByAddress => knows().then_some(internal),
            Filtering::ByEndpoint => None,
        }
    }

    /// What leaves to an Elastic IP is turned round, and comes in as from its own external endpoint (RFC 4787 REQ-9).
    pub(super) fn turn_round(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        as_from: Endpoint,
    ) -> Result<Leave, Stop> {
        let mut seen = Packet { ip: packet.ip, ..*packet };
        seen.ip.source = as_from.0;
        let to = (packet.ip.destination, super::forward::endpoints(&packet.ip, content)[1].1);
        let internal = self.enter(&seen, content, as_from, to)?;
        Ok(self.turned(packet, as_from, internal))
    }
}
