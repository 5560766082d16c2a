//! Where the inbound flow of the next new session will probably stand.
//!
//! A new session waits for memory twice: its outbound flow is looked for in vain, and then its inbound flow is inserted. Where
//! that stands is known only with the port, long after the first wait is over. But a host keeps its Elastic IP (RFC 4787
//! REQ-2), and the number that picks the port can be drawn one session early: who knows both as soon as the outbound flow is
//! not where it is looked for first has the processor fetch both places at once.
//!
//! Nothing depends on it but time.

use crate::{
    flow::{FlowKey4, OUTSIDE},
    ports::{Walk, scale},
};

/// Internal hosts that are remembered: of several that meet in one seat, the last one.
const SEATS: usize = 64;

/// What one CPU remembers. All zero at first.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Foresight {
    /// The uniform number that picks the next session's port; 0 if none is drawn.
    drawn: u32,
    seats: [Seat; SEATS],
}

/// Where the last session of some host got its port.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Seat {
    /// The Elastic IP, network order; 0: nowhere.
    address: u32,
    /// The ports among which its port was, host order.
    low: u16,
    high: u16,
}

impl Foresight {
    /// Nothing is remembered.
    #[must_use]
    pub const fn new() -> Self {
        Self { drawn: 0, seats: [Seat { address: 0, low: 0, high: 0 }; SEATS] }
    }

    /// The key that the inbound flow of a session will have whose outbound flow has this one, as far as can be told.
    #[inline(always)]
    #[must_use]
    pub const fn inbound(&self, outbound: &FlowKey4) -> Option<FlowKey4> {
        let Seat { address, low, high } = self.seats[seat(outbound.source)];
        if address == 0 || self.drawn == 0 {
            return None;
        }
        let port = low as u32 + scale(self.drawn, high as u32 - low as u32 + 1);
        Some(FlowKey4 {
            source: outbound.destination,
            destination: address,
            source_port: outbound.destination_port,
            destination_port: (port as u16).to_be(),
            protocol: outbound.protocol,
            zone: OUTSIDE,
            spare: [0; 2],
        })
    }

    /// The number that is drawn; it is used once.
    #[inline(always)]
    pub const fn draw(&mut self) -> Option<u32> {
        let drawn = core::mem::replace(&mut self.drawn, 0);
        if drawn == 0 { None } else { Some(drawn) }
    }

    /// Remembers that a session of the host `source` got a port out of `walk` at `address` (both in network order), and the
    /// uniform number `drawn` for the next session.
    #[inline(always)]
    pub const fn remember(&mut self, source: u32, address: u32, walk: &Walk, drawn: u32) {
        self.seats[seat(source)] = Seat { address, low: walk.low as u16, high: walk.high as u16 };
        self.drawn = drawn;
    }
}

impl Default for Foresight {
    fn default() -> Self {
        Self::new()
    }
}

/// The seat of a host (Knuth's multiplicative hash).
#[inline(always)]
const fn seat(source: u32) -> usize {
    (u32::from_be(source).wrapping_mul(0x9e37_79b1) >> 26) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: u32 = u32::from_be_bytes([10, 0, 1, 2]).to_be();
    const OTHER_HOST: u32 = u32::from_be_bytes([10, 0, 1, 3]).to_be();
    const ELASTIC_IP: u32 = u32::from_be_bytes([203, 0, 113, 10]).to_be();

    fn outbound() -> FlowKey4 {
        FlowKey4 {
            source: HOST,
            destination: u32::from_be_bytes([198, 51, 100, 2]).to_be(),
            source_port: 40_000_u16.to_be(),
            destination_port: 443_u16.to_be(),
            protocol: crate::protocol::UDP,
            zone: 1,
            spare: [0; 2],
        }
    }

    #[test]
    fn nothing_is_foreseen_of_a_host_that_has_had_no_session() {
        let mut foresight = Foresight::new();
        assert_eq!(foresight.inbound(&outbound()), None);
        foresight.remember(OTHER_HOST, ELASTIC_IP, &Walk::new(1024, 65_535, 0), 5);
        assert_eq!(foresight.inbound(&outbound()), None);
    }

    #[test]
    fn the_port_foreseen_is_the_one_that_the_drawn_number_picks() {
        let mut foresight = Foresight::new();
        for drawn in [1, 0x8000_0000, u32::MAX] {
            let walk = Walk::new(20_000, 20_999, 7);
            foresight.remember(HOST, ELASTIC_IP, &walk, drawn);
            let inbound = foresight.inbound(&outbound()).expect("the host had a session");
            assert_eq!(u32::from(u16::from_be(inbound.destination_port)), walk.pick(drawn));
            assert_eq!((inbound.destination, inbound.zone), (ELASTIC_IP, OUTSIDE));
            assert_eq!((inbound.source, inbound.source_port), (outbound().destination, 443_u16.to_be()));
        }
    }

    #[test]
    fn a_drawn_number_is_used_once() {
        let mut foresight = Foresight::new();
        foresight.remember(HOST, ELASTIC_IP, &Walk::new(1024, 65_535, 0), 9);
        assert_eq!(foresight.draw(), Some(9));
        assert_eq!(foresight.draw(), None);
        assert_eq!(foresight.inbound(&outbound()), None);
    }
}
