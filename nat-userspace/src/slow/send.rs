//! Sends frames out of devices, past the host's own routing.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, OwnedFd},
};

use nat_common::flow::Hop;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const IPV4: [u8; 2] = [0x08, 0x00];
const VLAN: [u8; 2] = [0x81, 0x00];

/// Where frames go.
pub trait Send {
    /// Bytes of IP that the device of this index carries.
    ///
    /// # Errors
    /// If there is no such device.
    fn mtu(&self, ifindex: u32) -> io::Result<usize>;

    /// Sends a frame out of the device of this index.
    ///
    /// # Errors
    /// If it cannot be sent now.
    fn send(&mut self, ifindex: u32, frame: &[u8]) -> io::Result<()>;
}

/// The frame that carries `packet` to `hop`.
#[must_use]
pub fn frame(hop: &Hop, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(packet.len() + 18);
    frame.extend_from_slice(&hop.destination);
    frame.extend_from_slice(&hop.source);
    if hop.vlan() != 0 {
        frame.extend_from_slice(&VLAN);
        frame.extend_from_slice(&hop.vlan().to_be_bytes());
    }
    frame.extend_from_slice(&IPV4);
    frame.extend_from_slice(packet);
    frame
}

/// A packet socket: of no protocol, so that it receives nothing.
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens it in the network namespace of this thread.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }
}

impl Send for Socket {
    fn mtu(&self, ifindex: u32) -> io::Result<usize> {
        let name = nix::net::if_::if_indextoname(ifindex)?;
        // SAFETY: all zeroes are a valid request.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = *from as libc::c_char;
        }
        // SAFETY: the request is of the kind that this call reads and writes.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has put the MTU there.
        usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).map_err(io::Error::other)
    }

    fn send(&mut self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&frame[..6]);
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: u16::from_ne_bytes([frame[12], frame[13]]),
            sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: address,
        };
        // SAFETY: both pointers are to live values of the lengths given, which the call only reads.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
