//! The clsact qdisc of an interface, which TC filters stand on. Asked through a netlink socket of its own: seldom, and
//! where nothing can wait for an answer.

use std::io;

use rtnetlink::{
    packet_core::{
        ErrorBuffer, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
        NetlinkBuffer, NetlinkMessage,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// The qdisc's own handle, `ffff:`.
const OWN: TcHandle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
/// What filters of either direction hang on.
const DIRECTIONS: [u16; 2] = [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS];

/// Adds a clsact qdisc to the interface with this index. False if there is one, or the older ingress qdisc, which takes
/// the same filters.
///
/// # Errors
/// The kernel's answer.
pub fn add(ifindex: u32) -> io::Result<bool> {
    let message = about(ifindex, OWN, TcHandle::CLSACT);
    match ask(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the qdisc, unless a filter of any direction is left on it.
///
/// # Errors
/// The kernel's answer.
pub fn remove_unused(ifindex: u32) -> io::Result<()> {
    for minor in DIRECTIONS {
        let mut message = about(ifindex, TcHandle::UNSPEC, TcHandle { minor, ..OWN });
        message.attributes.clear();
        if ask(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)? > 0 {
            return Ok(());
        }
    }
    let message = about(ifindex, OWN, TcHandle::CLSACT);
    ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(drop)
}

/// A message about a qdisc or what hangs on it.
fn about(ifindex: u32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    message
}

/// Sends a request and waits for its end: how many objects the kernel has told of.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut objects = 0;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if count(&bytes, &mut objects)? {
            return Ok(objects);
        }
    }
}

/// Counts the objects in one datagram of an answer; whether it is the last.
fn count(mut bytes: &[u8], objects: &mut usize) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).map_err(io::Error::other)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = ErrorBuffer::new_checked(message.payload()).map_err(io::Error::other)?;
                // The code is the number of the error, negative; none is an acknowledgement.
                let code = error.code().map(|code| io::Error::from_raw_os_error(-code.get()));
                return code.map_or(Ok(true), Err);
            }
            _ => *objects += 1,
        }
        // Messages begin at multiples of 4.
        let next = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(false)
}
