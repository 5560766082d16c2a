//! Packets as they arrive at a node, for scenarios that look at headers which no socket shows.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use etherparse::{EtherType, Ethernet2HeaderSlice, Ipv4Slice};
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom};

use crate::lab::capture;
use crate::lab::host::Host;
use crate::lab::traffic::ANSWER;

/// `sockaddr_ll.sll_pkttype` of frames that are for this machine.
const PACKET_HOST: u8 = 0;

/// Keeps the IPv4 packets that arrive on an interface from its start on, until they are asked for.
pub struct Watch(OwnedFd);

/// An IPv4 packet as it arrived.
#[derive(Clone, Debug)]
pub struct Seen(Vec<u8>);

impl Seen {
    /// Its header and content.
    ///
    /// # Panics
    /// Never: it was read before.
    #[must_use]
    pub fn slice(&self) -> Ipv4Slice<'_> {
        Ipv4Slice::from_slice(&self.0).expect("a packet that was read once")
    }

    /// What follows its IP header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.slice().payload().payload
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        let packet = &frame[ethernet.slice().len()..];
        Ipv4Slice::from_slice(packet).ok()?;
        (ethernet.ether_type() == EtherType::IPV4).then(|| Self(packet.to_vec()))
    }
}

impl Watch {
    /// Starts on `interface` of `host`.
    ///
    /// # Errors
    /// Without root, or when there is no such interface.
    pub fn start(host: &Host, interface: &str) -> Result<Self> {
        host.within(|| Ok(Self(capture::open(interface)?)))
    }

    /// The first packet that is `wanted`, and has not been passed over by an earlier question.
    ///
    /// # Errors
    /// When none comes in the time that an answer may take.
    pub fn expect(&self, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline {
            if let Some(seen) = self.next()?.flatten().filter(&wanted) {
                return Ok(seen);
            }
        }
        bail!("it has not arrived")
    }

    /// All packets that are `wanted` and arrive before a moment of silence.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn until_silence(&self, wanted: impl Fn(&Seen) -> bool) -> Result<Vec<Seen>> {
        let mut all = Vec::new();
        while let Some(seen) = self.next()? {
            all.extend(seen.filter(&wanted));
        }
        Ok(all)
    }

    /// The next frame, if there is one, and its packet if it is one that has arrived.
    fn next(&self) -> Result<Option<Option<Seen>>> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let arrives = from.is_none_or(|address| address.pkttype() == PACKET_HOST);
                    return Ok(Some(Seen::read(&buffer[..length]).filter(|_| arrives)));
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot read frames"),
            }
        }
    }
}
