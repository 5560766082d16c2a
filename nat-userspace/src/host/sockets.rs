//! Which ports of IPv4 addresses the host's own TCP and UDP sockets hold, as `sock_diag` tells.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_ESTABLISHED},
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};

use super::HostError;

/// A port that a socket of the host holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundPort {
    /// The address that it is bound to; `None` if to all.
    pub address: Option<Ipv4Addr>,
    /// The port.
    pub port: u16,
    /// Whether it speaks to one remote only, as clients do; others are open to all.
    pub connected: bool,
}

/// TCP sockets that are bound and neither listen nor connect; kernels before 6.8 do not tell them.
const BOUND_INACTIVE: u32 = 1 << 13;
/// More than the kernel puts into one answer.
const ANSWER: usize = 65_536;

/// Lists the ports bound in the network namespace of the calling thread, in order.
///
/// # Errors
/// [`HostError::Open`] without a netlink socket, [`HostError::Netlink`] if the kernel refuses the listing.
pub(super) fn bound_ports() -> Result<Vec<BoundPort>, HostError> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(HostError::Open)?;
    socket.bind_auto().and_then(|_| socket.connect(&SocketAddr::new(0, 0))).map_err(HostError::Open)?;
    let mut bound = Vec::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            list(&socket, &request(family, protocol, any.clone()), &mut bound).map_err(|source| {
                HostError::Netlink { request: "list the host's own sockets".to_owned(), source }
            })?;
        }
    }
    bound.sort_unstable();
    bound.dedup();
    Ok(bound)
}

/// Asks for the sockets of one family and protocol. A connection in TIME_WAIT belongs to no socket any more.
fn request(family: u8, protocol: u8, socket_id: SocketId) -> NetlinkMessage<SockDiagMessage> {
    let states = StateFlags::all().difference(StateFlags::TIME_WAIT);
    let states = states.union(StateFlags::from_bits_retain(BOUND_INACTIVE));
    let request = InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    message
}

fn list(
    socket: &Socket,
    request: &NetlinkMessage<SockDiagMessage>,
    bound: &mut Vec<BoundPort>,
) -> io::Result<()> {
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(ANSWER);
    loop {
        answer.clear();
        socket.recv(&mut answer, 0)?;
        if read(&answer, bound)? {
            return Ok(());
        }
    }
}

/// Reads one datagram of an answer; whether it was the last.
#[expect(clippy::wildcard_enum_match_arm, reason = "netlink's vocabulary grows; what is new is no news here")]
fn read(mut answer: &[u8], bound: &mut Vec<BoundPort>) -> io::Result<bool> {
    while !answer.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                bound.extend(bound_port(&found.header));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(refusal) => return Err(refusal.to_io()),
            _ => {}
        }
        // Messages begin at multiples of four bytes.
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        answer = answer.get(length..).unwrap_or_default();
    }
    Ok(false)
}

/// What a socket holds of IPv4; `None` for sockets of IPv6 alone.
fn bound_port(socket: &InetResponseHeader) -> Option<BoundPort> {
    let address = match socket.socket_id.source_address {
        IpAddr::V4(address) => address,
        // A socket bound to [::] takes IPv4 too, unless told otherwise.
        IpAddr::V6(address) if address.is_unspecified() => Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(address) => address.to_ipv4_mapped()?,
    };
    let remote = socket.socket_id.destination_port;
    Some(BoundPort {
        address: (!address.is_unspecified()).then_some(address),
        port: socket.socket_id.source_port,
        connected: remote != 0 || socket.state == TCP_ESTABLISHED,
    })
    .filter(|found| found.port != 0)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn on_loopback(port: u16, connected: bool) -> BoundPort {
        BoundPort { address: Some(Ipv4Addr::LOCALHOST), port, connected }
    }

    #[test]
    fn listeners_datagram_sockets_and_connections_are_told() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let service = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bound = bound_ports().unwrap();
        assert!(bound.contains(&on_loopback(server.local_addr().unwrap().port(), false)));
        assert!(bound.contains(&on_loopback(client.local_addr().unwrap().port(), true)));
        assert!(bound.contains(&on_loopback(service.local_addr().unwrap().port(), false)));
    }

    #[test]
    fn a_socket_on_every_address_of_both_families_holds_its_port_on_every_ipv4_address() {
        let Ok(server) = TcpListener::bind("[::]:0") else { return };
        let port = server.local_addr().unwrap().port();
        let everywhere = BoundPort { address: None, port, connected: false };
        assert!(bound_ports().unwrap().contains(&everywhere));
    }
}
