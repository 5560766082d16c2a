//! Sequences that are out to break things: few hosts, remotes and ports, so that they meet.

use std::net::Ipv4Addr;

use crate::datapath::{
    ELASTIC_IP, EXTERNAL_ADDRESS, HOST, HOST_B, INTERNAL_ADDRESS, NEIGHBOUR, REMOTE, REMOTE_2,
    SECOND_ELASTIC_IP, SECOND_HOST, STRANGER, Side, UNREACHABLE, WRONG_WAY,
    flags::{ACK, FIN, RST, SYN},
};

use super::{
    configuration::{Configuration, STEP},
    random::Random,
    step::{Body, Damage, End, Spec, Step},
};

/// A private host in the subnet of `int0` whose MAC address the gateway does not know.
const SILENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 99);
/// Addresses that a packet should better not carry.
const ODD: [Ipv4Addr; 12] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(0, 1, 2, 3),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::BROADCAST,
    Ipv4Addr::new(224, 0, 0, 5),
    Ipv4Addr::new(10, 0, 1, 255),
    Ipv4Addr::new(10, 0, 9, 9),
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(198, 18, 5, 5),
    UNREACHABLE,
    WRONG_WAY,
    NEIGHBOUR,
];

/// Configurations that are changed for one another under way.
const FLIPS: [Configuration; 3] = [Configuration::Open, Configuration::Guarded, Configuration::Single];

/// How many talk at once.
const RECENT: usize = 40;

/// Somebody talks to somebody.
#[derive(Clone, Copy)]
struct Talk {
    protocol: u8,
    internal: (Ipv4Addr, u16),
    remote: (Ipv4Addr, u16),
}

impl Talk {
    /// The host's external endpoint.
    const fn lent(self) -> End {
        End::Lent { protocol: self.protocol, internal: self.internal, remote: self.remote }
    }

    /// The interface of the host.
    const fn side(self) -> Side {
        Side::of(self.internal.0).0
    }
}

/// So many steps from a seed.
#[must_use]
pub fn sequence(seed: u64, length: usize) -> Vec<Step> {
    let mut source = Source { random: Random::new(seed), recent: Vec::new(), flips: true };
    let kinds = [Configuration::Independent, Configuration::ByAddress, Configuration::Strict];
    let mut steps = Vec::new();
    if source.random.once_in(3) {
        steps.push(Step::Configure(source.random.pick(&kinds)));
        source.flips = false;
    } else if source.random.once_in(3) {
        steps.push(Step::Configure(source.random.pick(&FLIPS)));
    }
    steps.extend((0..length).map(|_| source.step()));
    steps
}

struct Source {
    random: Random,
    recent: Vec<Talk>,
    /// Whether the configuration changes under way.
    flips: bool,
}

impl Source {
    fn step(&mut self) -> Step {
        match self.random.below(4_000) {
            0 if self.flips => return Step::Configure(self.random.pick(&FLIPS)),
            1..8 => return Step::Renew,
            8..60 => return Step::Pass(STEP * (1 + self.random.below(8) as u32)),
            60..90 => return Step::Pass(STEP * 25),
            90..160 => return Step::Age,
            _ => {}
        }
        let mut spec = match self.random.below(100) {
            0..37 => self.outbound(),
            37..65 => self.inbound(),
            65..73 => self.unsolicited(),
            73..80 => self.error_from_outside(),
            80..86 => self.error_from_inside(),
            86..91 => self.elsewhere(),
            91..97 => self.hairpin(),
            _ => self.other(),
        };
        self.vary(&mut spec);
        Step::Packet(Box::new(spec))
    }

    /// Somebody who talked lately, or somebody new.
    fn talk(&mut self, new_once_in: usize) -> Talk {
        if !self.recent.is_empty() && !self.random.once_in(new_once_in) {
            let place = self.random.below(self.recent.len());
            return self.recent[place];
        }
        let protocol = self.random.pick(&[6, 6, 17, 17, 1]);
        let host = self.random.pick(&[HOST, HOST, SECOND_HOST, SECOND_HOST, HOST_B, HOST_B, SILENT]);
        let port = 5_000 + self.random.below(8) as u16;
        let address = self.random.pick(&[REMOTE, REMOTE, REMOTE, REMOTE, REMOTE_2]);
        let remote_port = if protocol == 1 { 0 } else { self.random.pick(&[53, 443, 443, 443, 443, 40_000]) };
        let talk = Talk { protocol, internal: (host, port), remote: (address, remote_port) };
        if self.recent.len() == RECENT {
            let place = self.random.below(RECENT);
            self.recent.swap_remove(place);
        }
        self.recent.push(talk);
        talk
    }

    fn outbound(&mut self) -> Spec {
        let talk = self.talk(6);
        let body = self.body(talk.protocol, true);
        let ends = (End::At(talk.internal.0, talk.internal.1), End::At(talk.remote.0, talk.remote.1));
        Spec::plain(talk.side(), ends.0, ends.1, body)
    }

    fn inbound(&mut self) -> Spec {
        let talk = self.talk(40);
        let body = self.body(talk.protocol, false);
        Spec::plain(Side::External, End::At(talk.remote.0, talk.remote.1), talk.lent(), body)
    }

    /// From outside, and more likely than not nobody waits for it.
    fn unsolicited(&mut self) -> Spec {
        let talk = self.talk(40);
        let address = self.random.pick(&[talk.remote.0, REMOTE_2, STRANGER]);
        let port = self.random.pick(&[talk.remote.1, talk.remote.1.wrapping_add(1), 53, 0]);
        let protocol = self.random.pick(&[talk.protocol, talk.protocol, 6, 17, 1]);
        let fixed = self.random.pick(&[ELASTIC_IP, SECOND_ELASTIC_IP, EXTERNAL_ADDRESS, talk.internal.0]);
        let lent = 40_000 + self.random.below(4) as u16;
        let to = if self.random.once_in(2) { talk.lent() } else { End::At(fixed, lent) };
        let outward = self.random.once_in(8);
        let body = self.body(protocol, outward);
        Spec::plain(Side::External, End::At(address, port), to, body)
    }

    /// A router or the remote complains of what the host sent.
    fn error_from_outside(&mut self) -> Spec {
        let talk = self.talk(40);
        let quoted_body = self.body(talk.protocol, true);
        let mut remote = talk.remote;
        if self.random.once_in(10) {
            remote.1 = remote.1.wrapping_add(1);
        }
        let quote = Spec::plain(Side::External, talk.lent(), End::At(remote.0, remote.1), quoted_body);
        let from = self.random.pick(&[talk.remote.0, STRANGER, STRANGER]);
        let wrong_way = self.random.once_in(12);
        let to = if wrong_way { End::At(SECOND_ELASTIC_IP, 0) } else { talk.lent() };
        let body = self.error(quote);
        Spec::plain(Side::External, End::At(from, 0), to, body)
    }

    /// The host or a router before it complains of what came in, or one host of another.
    fn error_from_inside(&mut self) -> Spec {
        let talk = self.talk(40);
        let body = self.body(talk.protocol, false);
        let mut host = talk.internal;
        if self.random.once_in(10) {
            host.1 = host.1.wrapping_add(1);
        }
        let remote = if self.random.once_in(10) { (HOST_B, 9) } else { talk.remote };
        let quote = Spec::plain(talk.side(), End::At(remote.0, remote.1), End::At(host.0, host.1), body);
        let from = self.random.pick(&[talk.internal.0, talk.internal.0, SECOND_HOST, HOST_B]);
        let to = if self.random.once_in(12) { STRANGER } else { remote.0 };
        let body = self.error(quote);
        Spec::plain(Side::of(from).0, End::At(from, 0), End::At(to, 0), body)
    }

    fn error(&mut self, mut quote: Spec) -> Body {
        if self.random.once_in(10) {
            self.damage(&mut quote);
        }
        if self.random.once_in(15) {
            quote.options = vec![1, 1, 1, 0];
        }
        if self.random.once_in(25) {
            quote.fragment = self.random.pick(&[0x2000, 0x0001, 0x4000]);
        }
        let kind = self.random.pick(&[3, 3, 3, 11, 11, 12, 5, 4]);
        let code = self.random.below(if kind == 3 { 16 } else { 3 }) as u8;
        let rest = self.random.pick(&[0, 0, 1_400, 0x0011_0000, 0x0500_0000]);
        let keep = self.random.pick(&[28, 28, 28, 36, 38, 40, 48, 200, 27, 20, 8]);
        Body::Error { kind, code, rest, quote: Box::new(quote), keep }
    }

    /// To another private host by its external endpoint.
    fn hairpin(&mut self) -> Spec {
        let (talk, other) = (self.talk(40), self.talk(40));
        let body = self.body(talk.protocol, true);
        Spec::plain(talk.side(), End::At(talk.internal.0, talk.internal.1), other.lent(), body)
    }

    /// To where no session leads: the gateway itself, other subnets, nowhere.
    fn elsewhere(&mut self) -> Spec {
        let talk = self.talk(40);
        let host = self.random.pick(&[HOST, SECOND_HOST, HOST_B, SILENT, REMOTE, Ipv4Addr::new(10, 0, 3, 9)]);
        let odd = self.random.pick(&ODD);
        let near = self.random.pick(&[INTERNAL_ADDRESS, EXTERNAL_ADDRESS, ELASTIC_IP, HOST, HOST_B]);
        let (source, destination) = match self.random.below(4) {
            0 => (odd, self.random.pick(&[REMOTE, ELASTIC_IP, near])),
            1 => (host, odd),
            _ => (host, near),
        };
        let body = self.body(talk.protocol, true);
        let sides = [Side::Internal, Side::InternalB, Side::External, Side::Unconfigured];
        let side = if self.random.once_in(6) { self.random.pick(&sides) } else { Side::of(host).0 };
        let port = if talk.protocol == 1 { 0 } else { 443 };
        Spec::plain(side, End::At(source, talk.internal.1), End::At(destination, port), body)
    }

    /// Other protocols and other messages.
    fn other(&mut self) -> Spec {
        let mut spec = if self.random.once_in(2) { self.outbound() } else { self.inbound() };
        let data = self.random.below(40) as u16;
        spec.body = if self.random.once_in(2) {
            Body::Other { protocol: self.random.pick(&[0, 2, 33, 41, 47, 50, 51, 132, 136, 255]), data }
        } else {
            Body::Icmp { kind: self.random.pick(&[4, 5, 9, 10, 13, 14, 15, 17, 40]), code: 0, data }
        };
        spec
    }

    fn body(&mut self, protocol: u8, outward: bool) -> Body {
        let data = self.random.pick(&[0, 1, 5, 5, 18, 64, 600]);
        match protocol {
            6 => {
                let usual = if outward { [SYN, SYN, ACK, ACK] } else { [SYN | ACK, ACK, ACK, ACK] };
                let closing = [FIN | ACK, FIN | ACK, RST | ACK, RST];
                let flags = match self.random.below(20) {
                    0..13 => self.random.pick(&usual),
                    13..17 => self.random.pick(&closing),
                    17 => SYN | self.random.below(256) as u8,
                    _ => self.random.below(256) as u8,
                };
                // What a SYN says about an older connection is beyond doubt: it is far ahead of it, or far behind.
                let far = if flags & SYN != 0 { self.random.pick(&[0, 1 << 20, 1 << 30]) } else { 1 << 24 };
                let sequence = far + self.random.below(1 << 12) as u32;
                let options = 4 * self.random.pick(&[0, 0, 0, 1, 5, 10]);
                Body::Tcp { flags, sequence, acknowledgement: 1 << 20, options, data }
            }
            17 => Body::Udp { checksum: !self.random.once_in(5), data },
            _ => {
                let reply = outward == self.random.once_in(12);
                Body::Icmp { kind: if reply { 0 } else { 8 }, code: 0, data }
            }
        }
    }

    /// Makes a packet a little unusual, now and then.
    fn vary(&mut self, spec: &mut Spec) {
        if self.random.once_in(12) {
            spec.ttl = self.random.pick(&[0, 1, 1, 2, 255]);
        }
        if self.random.once_in(8) {
            spec.service = self.random.below(256) as u8;
        }
        if self.random.once_in(6) {
            spec.fragment = self.random.pick(&[0, 0, 0x8000, 0xc000]);
            spec.identification = self.random.below(0x1_0000) as u16;
        }
        if self.random.once_in(60) {
            self.divide(spec);
        }
        if self.random.once_in(25) {
            spec.options = self.options();
        }
        if self.random.once_in(6) {
            spec.padding = self.random.below(20) as u8;
        }
        if self.random.once_in(20) {
            self.damage(spec);
        }
        if self.random.once_in(60) {
            spec.arrives =
                self.random.pick(&[Side::Internal, Side::InternalB, Side::External, Side::Unconfigured]);
        }
    }

    /// Makes a packet one of a few fragments that may belong together; most are as long as fragments are.
    fn divide(&mut self, spec: &mut Spec) {
        spec.identification = 1 + self.random.below(3) as u16;
        spec.fragment = self
            .random
            .pick(&[0x2000, 0x2000, 0x2000, 0x6000, 0x2004, 0x0004, 0x2009, 0x0012, 0x2001, 0x1fff]);
        if self.random.once_in(5) {
            return;
        }
        match &mut spec.body {
            Body::Tcp { options, data, .. } => (*options, *data) = (4, 8 * self.random.below(9) as u16),
            Body::Udp { data, .. } | Body::Icmp { data, .. } => *data = 8 * self.random.below(9) as u16,
            Body::Error { .. } | Body::Other { .. } => {}
        }
    }

    fn options(&mut self) -> Vec<u8> {
        const EACH: [&[u8]; 9] = [
            &[1, 1, 1, 1],
            &[0, 9, 9, 9],
            &[148, 4, 0, 0],
            &[1, 7, 7, 4, 0, 0, 0, 0],
            &[131, 7, 4, 192, 0, 2, 66, 0],
            &[137, 3, 4, 0],
            &[68, 4, 5, 0],
            &[200, 1, 0, 0],
            &[200, 40, 1, 1],
        ];
        let mut options = self.random.pick(&EACH).to_vec();
        if self.random.once_in(3) {
            options.extend(self.random.pick(&EACH));
        }
        options
    }

    /// Breaks bytes of the finished packet, mostly of its headers.
    fn damage(&mut self, spec: &mut Spec) {
        match self.random.below(8) {
            // One of the transport checksum, whatever stands there.
            0..3 => {
                let at = self.random.pick(&[36, 40, 41, 50, 51]);
                spec.damage.push(Damage::Flip(at, 1 << self.random.below(8)));
            }
            3..6 => {
                for _ in 0..=self.random.below(2) {
                    let at = 14 + self.random.below(48) as u16;
                    spec.damage.push(Damage::Flip(at, self.random.next() as u8));
                }
                if !self.random.once_in(3) {
                    spec.damage.push(Damage::Mend);
                }
            }
            6 => spec.damage.push(Damage::Cut(34 + self.random.below(40) as u16)),
            // A frame for all, or of another kind.
            _ => {
                let (at, with) = self.random.pick(&[(0, 1), (0, 1), (12, 0x80), (13, 0x06), (13, 0x40)]);
                spec.damage.push(Damage::Flip(at, with));
            }
        }
    }
}
