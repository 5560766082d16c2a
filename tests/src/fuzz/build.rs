//! From a packet as it is described to its bytes.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader};

use crate::{
    datapath::{ELASTIC_IP, ROUTER, Side, fix_ip_checksum, mac_of},
    model::{Protocol, put, sum},
};

use super::step::{Body, Damage, End, Spec};

/// Bytes of the link header.
const LINK: usize = 14;
/// Where what names a session leads that there is not: to a port that is lent, though not to it.
const NOWHERE: (Ipv4Addr, u16) = (ELASTIC_IP, 40_000);

/// Who knows what endpoint a session was lent: asked for protocol, private host and remote.
pub type Lent<'a> = dyn FnMut(Protocol, (Ipv4Addr, u16), (Ipv4Addr, u16)) -> Option<(Ipv4Addr, u16)> + 'a;

impl Spec {
    /// The frame.
    #[must_use]
    pub fn frame(&self, lent: &mut Lent<'_>) -> Vec<u8> {
        let source = resolve(self.source, lent).0;
        let sender = if self.arrives == Side::External { ROUTER } else { source };
        let mut frame = [self.arrives.mac(), mac_of(sender)].concat();
        frame.extend([0x08, 0x00]);
        frame.extend(self.packet(lent));
        frame.resize(frame.len() + usize::from(self.padding), 0xaa);
        self.damage(&mut frame, LINK);
        frame
    }

    /// The IP packet, undamaged.
    fn packet(&self, lent: &mut Lent<'_>) -> Vec<u8> {
        let ends = [resolve(self.source, lent), resolve(self.destination, lent)];
        let [source, destination] = ends.map(|(address, _)| address.octets());
        let body = self.body.bytes(ends, lent);
        let mut ip = Ipv4Header::new(0, self.ttl, IpNumber(self.body.protocol()), source, destination)
            .expect("an empty packet is short enough");
        ip.options = self.options.as_slice().try_into().expect("options are a multiple of four bytes");
        ip.set_payload_len(body.len()).expect("a packet of the fuzzer is short enough");
        ip.identification = self.identification;
        let mut bytes = ip.to_bytes().to_vec();
        // Written as they are: not every pattern of these bits is one that the library would make.
        bytes[1] = self.service;
        put(&mut bytes, 6, self.fragment);
        bytes.extend(body);
        fix_ip_checksum(&mut bytes, 0);
        bytes
    }

    /// As much of the packet as an error quotes, with its damage; offsets are those of a frame.
    fn quoted(&self, keep: u16, lent: &mut Lent<'_>) -> Vec<u8> {
        let mut frame = [&[0; LINK][..], &self.packet(lent)].concat();
        self.damage(&mut frame, LINK);
        frame.truncate(LINK + usize::from(keep));
        frame.split_off(LINK.min(frame.len()))
    }

    fn damage(&self, frame: &mut Vec<u8>, ip: usize) {
        for damage in &self.damage {
            match *damage {
                Damage::Flip(at, with) => {
                    if let Some(byte) = frame.get_mut(usize::from(at)) {
                        *byte ^= with;
                    }
                }
                Damage::Mend => {
                    let length = frame.get(ip).map_or(0, |first| usize::from(first & 15) * 4);
                    if length >= 20 && frame.len() >= ip + length {
                        fix_ip_checksum(frame, ip);
                    }
                }
                Damage::Cut(length) => frame.truncate(usize::from(length).max(LINK)),
            }
        }
    }
}

fn resolve(end: End, lent: &mut Lent<'_>) -> (Ipv4Addr, u16) {
    match end {
        End::At(address, port) => (address, port),
        End::Lent { protocol, internal, remote } => lent(protocol, internal, remote).unwrap_or(NOWHERE),
    }
}

impl Body {
    fn bytes(&self, [source, destination]: [(Ipv4Addr, u16); 2], lent: &mut Lent<'_>) -> Vec<u8> {
        let addresses = [source.0.octets(), destination.0.octets()];
        match self {
            Self::Tcp { flags, sequence, acknowledgement, options, data } => {
                let mut header = TcpHeader::new(source.1, destination.1, *sequence, 8_192);
                header.acknowledgment_number = *acknowledgement;
                let no_operations = vec![1; usize::from(*options)];
                header.set_options_raw(&no_operations).expect("at most 40 bytes of options");
                let mut bytes = [&header.to_bytes()[..], &filling(*data)].concat();
                bytes[13] = *flags;
                transport_sum(&mut bytes, 16, 6, addresses);
                bytes
            }
            Self::Udp { checksum, data } => {
                let length = 8 + *data;
                let header =
                    UdpHeader { source_port: source.1, destination_port: destination.1, length, checksum: 0 };
                let mut bytes = [&header.to_bytes()[..], &filling(*data)].concat();
                if *checksum {
                    transport_sum(&mut bytes, 6, 17, addresses);
                    if bytes[6..8] == [0, 0] {
                        put(&mut bytes, 6, 0xffff);
                    }
                }
                bytes
            }
            Self::Icmp { kind, code, data } => {
                let identifier = if matches!(kind, 0 | 14) { destination.1 } else { source.1 };
                let rest = u32::from(identifier) << 16 | 1;
                icmp(*kind, *code, rest, &filling(*data))
            }
            Self::Error { kind, code, rest, quote, keep } => {
                icmp(*kind, *code, *rest, &quote.quoted(*keep, lent))
            }
            Self::Other { data, .. } => filling(*data),
        }
    }
}

fn icmp(kind: u8, code: u8, rest: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), content].concat();
    let checksum = !sum(&bytes);
    put(&mut bytes, 2, checksum);
    bytes
}

/// Makes a transport checksum right: over the pseudo-header and the bytes given (RFC 793, RFC 768).
fn transport_sum(bytes: &mut [u8], at: usize, protocol: u8, [source, destination]: [[u8; 4]; 2]) {
    let [high, low] = (bytes.len() as u16).to_be_bytes();
    let pseudo = [&source[..], &destination, &[0, protocol, high, low], bytes].concat();
    put(bytes, at, !sum(&pseudo));
}

/// Data that is not all alike.
fn filling(length: u16) -> Vec<u8> {
    (0..length).map(|number| (number.wrapping_mul(7) ^ length) as u8).collect()
}
