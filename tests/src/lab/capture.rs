//! A capture on one interface: every frame is judged as it arrives and kept in a pcap file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc::sockaddr_ll;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recvfrom, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::lab::frame;
use crate::lab::host::Host;
use crate::lab::topology::Node;

/// Beyond this many bytes only faulty frames are written.
const FILE_LIMIT: u64 = 32 << 20;
/// Faults told of; more are only counted.
const FAULTS_TOLD: usize = 5;
/// `sockaddr_ll.sll_pkttype` of frames that another machine on a shared link is to take.
const PACKET_OTHERHOST: u8 = 3;

/// What the capturing thread has seen.
#[derive(Default)]
struct Seen {
    packets: AtomicU64,
    faults: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Seen {
    fn faults(&self) -> MutexGuard<'_, Vec<String>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running capture; it ends when dropped.
pub struct Capture {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Capture {
    /// Captures on `interface` of `host` into the pcap file at `path`. On the router everything is judged as outside.
    ///
    /// # Errors
    /// Without root, or when interface or file cannot be opened.
    pub fn start(host: &Host, interface: &str, path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let outside = host.namespace().to_string_lossy().ends_with(Node::Router.name());
        let interface = interface.to_owned();
        let socket = host.within(move || open(&interface))?;
        let seen = Arc::new(Seen::default());
        let thread = {
            let seen = Arc::clone(&seen);
            thread::spawn(move || listen(&socket, Pcap::new(file)?, &seen, outside))
        };
        Ok(Self { seen, thread: Some(thread) })
    }

    /// Frames captured so far.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.seen.packets.load(Ordering::Relaxed)
    }

    /// Waits until no more frames are queued, then returns the faults found so far.
    #[must_use]
    pub fn settle(&self) -> Vec<String> {
        let mut before = u64::MAX;
        while before != self.packets() {
            before = self.packets();
            thread::sleep(Duration::from_millis(60));
        }
        let mut faults = self.seen.faults().clone();
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            faults.push("the capture ended early".to_owned());
        }
        faults
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("capture: {error:#}");
        }
    }
}

/// A packet socket on `interface` of the calling thread's namespace, with a large buffer and a short receive timeout.
pub(super) fn open(interface: &str) -> Result<OwnedFd> {
    let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    let family = AddressFamily::Packet;
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("packet socket")?;
    setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20)).context("receive buffer of the capture")?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000))?;
    bind(fd.as_raw_fd(), &link_address(index)?).with_context(|| format!("cannot capture on {interface}"))?;
    Ok(fd)
}

/// The address of all protocols on the interface with this index.
fn link_address(index: u32) -> Result<LinkAddr> {
    let raw = sockaddr_ll {
        // Both constants fit: the address family is small, the protocol has 16 bits.
        sll_family: AddressFamily::Packet as u16,
        sll_protocol: (nix::libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole sockaddr_ll whose family says so; it is copied before `raw` goes away.
    let address =
        unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(size_of::<sockaddr_ll>() as u32)) };
    address.context("a link address was refused")
}

fn listen(socket: &OwnedFd, mut pcap: Pcap, seen: &Seen, outside: bool) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    while !seen.stop.load(Ordering::Relaxed) {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(error).context("cannot read captured frames"),
        };
        let frame = &buffer[..length];
        // On a shared link the bridge floods frames for others; what they hold did not leave on this side.
        let ours = from.is_none_or(|address| address.pkttype() != PACKET_OTHERHOST);
        let fault = frame::fault(frame, outside && ours);
        pcap.write(frame, fault.is_some())?;
        if let Some(fault) = fault {
            let mut faults = seen.faults();
            if faults.len() < FAULTS_TOLD {
                faults.push(format!("frame {}: {fault}", seen.packets.load(Ordering::Relaxed) + 1));
            }
        }
        seen.packets.fetch_add(1, Ordering::Relaxed);
    }
    pcap.file.flush().context("cannot write the capture file")
}

/// The classic pcap format, microseconds, Ethernet.
struct Pcap {
    file: BufWriter<File>,
    written: u64,
}

impl Pcap {
    fn new(file: File) -> Result<Self> {
        let mut file = BufWriter::new(file);
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 1 << 16, 1] {
            file.write_all(&word.to_ne_bytes()).context("cannot write the capture file")?;
        }
        Ok(Self { file, written: 0 })
    }

    fn write(&mut self, frame: &[u8], always: bool) -> Result<()> {
        if self.written > FILE_LIMIT && !always {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The format's clock has 32 bits and frames are shorter than 64 KiB.
        let length = frame.len() as u32;
        for word in [now.as_secs() as u32, now.subsec_micros(), length, length] {
            self.file.write_all(&word.to_ne_bytes()).context("cannot write the capture file")?;
        }
        self.file.write_all(frame).context("cannot write the capture file")?;
        self.written += u64::from(length) + 16;
        Ok(())
    }
}
