//! Sessions of the standard layout, whose Elastic IP has one port.

use std::net::Ipv4Addr;

use super::{
    expected::{inbound, outbound},
    flags::{ACK, SYN},
    network::{ELASTIC_IP, PORT, Side},
    packet::{Body, Packet, tcp},
    rig::Rig,
};

impl Rig {
    /// Opens a session with its first packet, which it returns as it left.
    #[track_caller]
    pub fn open(&mut self, first: &Packet) -> Packet {
        let leaving = first.translated(ELASTIC_IP, PORT);
        let expected = outbound(&leaving);
        let is_tcp = matches!(first.body, Body::Tcp(..));
        let expected = if is_tcp { expected.connecting() } else { expected.opening() };
        self.expect(Side::of(first.ip.source.into()).0, first, expected);
        leaving
    }

    /// Opens a session and lets the remote answer; the first packet as it left, and the answer as it came.
    ///
    /// # Panics
    /// If `first` carries neither TCP, UDP nor an ICMP query.
    #[track_caller]
    pub fn establish(&mut self, first: &Packet) -> (Packet, Packet) {
        let leaving = self.open(first);
        let answer = leaving.answer();
        let port = match &first.body {
            Body::Tcp(header, _) => header.source_port,
            Body::Udp { source, .. } => *source,
            Body::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
            Body::Raw(protocol, _) => panic!("protocol {protocol} has no sessions"),
        };
        let host = Ipv4Addr::from(first.ip.source);
        self.expect(Side::External, &answer, inbound(&answer.delivered(host, port)).judged());
        (leaving, answer)
    }

    /// Opens a TCP connection and completes its handshake.
    #[track_caller]
    pub fn connect(&mut self, host: Ipv4Addr, port: u16, remote: Ipv4Addr, remote_port: u16) {
        self.establish(&tcp(host, port, remote, remote_port, SYN));
        let third = tcp(host, port, remote, remote_port, ACK);
        self.expect(Side::of(host).0, &third, outbound(&third.translated(ELASTIC_IP, PORT)));
    }
}
