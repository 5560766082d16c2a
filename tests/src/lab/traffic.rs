//! Real sockets in the lab: an UDP echo server, single exchanges, and a steady load that misses no loss.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::host::Host;

/// How long an answer may take before it counts as none.
pub const ANSWER: Duration = Duration::from_millis(1500);

/// An UDP socket of `host`, bound to `local`, with a receive buffer that holds any burst of the lab.
///
/// # Errors
/// When the address is not the host's or in use.
pub fn udp_socket(host: &Host, local: (Ipv4Addr, u16)) -> Result<UdpSocket> {
    host.within(move || {
        let socket = UdpSocket::bind(local).with_context(|| format!("cannot bind {local:?}"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).context("receive buffer")?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(socket)
    })
}

/// Sends `payload` and tells whether the very same bytes come back.
///
/// # Errors
/// When the socket fails in another way than silence; an ICMP error shows here on a connected socket.
pub fn exchange(socket: &UdpSocket, remote: (Ipv4Addr, u16), payload: &[u8]) -> Result<bool> {
    socket.send_to(payload, remote)?;
    Ok(receive(socket)?.is_some_and(|(bytes, from)| bytes == payload && from == SocketAddr::from(remote)))
}

/// The next datagram, or `None` when none comes within the socket's timeout.
///
/// # Errors
/// When the socket fails in another way than silence.
pub fn receive(socket: &UdpSocket) -> Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut buffer = [0; 2048];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Ok(Some((buffer[..length].to_vec(), from))),
        Err(error) if is_silence(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a TCP connection from `host` within `limit`.
///
/// # Errors
/// Those of the socket: `TimedOut` means that nothing came back.
pub fn connect(host: &Host, remote: (Ipv4Addr, u16), limit: Duration) -> Result<TcpStream> {
    host.within(move || {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(remote), limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(stream)
    })
}

/// A listening TCP socket of `host`.
///
/// # Errors
/// When the address is not the host's or in use.
pub fn listen(host: &Host, local: (Ipv4Addr, u16)) -> Result<TcpListener> {
    host.within(move || TcpListener::bind(local).with_context(|| format!("cannot listen on {local:?}")))
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Answers every datagram with itself, until dropped.
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    clients: Arc<Mutex<HashSet<SocketAddrV4>>>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Starts it on `local` of `host`.
    ///
    /// # Errors
    /// When the address is not the host's or in use.
    pub fn start(host: &Host, local: (Ipv4Addr, u16)) -> Result<Self> {
        let socket = udp_socket(host, local)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (stop, clients) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
        let thread = {
            let (stop, clients) = (Arc::clone(&stop), Arc::clone(&clients));
            thread::spawn(move || echo(&socket, &stop, &clients))
        };
        Ok(Self { stop, clients, thread: Some(thread) })
    }

    /// The endpoints it has heard from.
    #[must_use]
    pub fn clients(&self) -> HashSet<SocketAddrV4> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A server that panicked has answered no more, which its clients have noticed.
            let _ = thread.join();
        }
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool, clients: &Mutex<HashSet<SocketAddrV4>>) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Silence and ICMP errors about earlier answers alike: listen on.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let SocketAddr::V4(client) = from {
            clients.lock().unwrap_or_else(PoisonError::into_inner).insert(client);
        }
        // A lost answer is the client's finding.
        let _ = socket.send_to(&buffer[..length], from);
    }
}

/// What a load has sent and what never came back.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Datagrams sent.
    pub sent: u64,
    /// Sequence numbers without an answer.
    pub missing: Vec<u64>,
}

/// A steady stream of numbered datagrams to an echo server; each has to come back.
pub struct Load {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<HashSet<u64>>,
}

impl Load {
    /// Starts sending `rate` datagrams per second from `local` of `host` to `remote`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(host: &Host, local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16), rate: u32) -> Result<Self> {
        let socket = udp_socket(host, local)?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let receiver = {
            let (socket, stop, received) = (socket.try_clone()?, Arc::clone(&stop), Arc::clone(&received));
            thread::spawn(move || collect(&socket, &stop, &received))
        };
        let sender = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || send_steadily(&socket, remote, Duration::from_secs(1) / rate, &stop))
        };
        Ok(Self { stop, received, sender, receiver })
    }

    /// Answers received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How many answers come within `span` from now.
    #[must_use]
    pub fn received_within(&self, span: Duration) -> u64 {
        let before = self.received();
        thread::sleep(span);
        self.received() - before
    }

    /// Stops sending, waits for stragglers and tells what is missing.
    ///
    /// # Errors
    /// When sending failed.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let (Ok(sent), Ok(received)) = (self.sender.join(), self.receiver.join()) else {
            bail!("a thread of the load panicked");
        };
        let sent = sent?;
        Ok(Tally { sent, missing: (0..sent).filter(|number| !received.contains(number)).collect() })
    }
}

/// One datagram per `interval` and never a burst: what the scheduler took is not made up for.
fn send_steadily(
    socket: &UdpSocket,
    remote: (Ipv4Addr, u16),
    interval: Duration,
    stop: &AtomicBool,
) -> Result<u64> {
    let mut next = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(&number.to_be_bytes(), remote).context("the load cannot send")?;
        number += 1;
        next = (next + interval).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(number)
}

/// Collects numbers until the load has stopped and a receive timeout has passed in silence.
fn collect(socket: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) -> HashSet<u64> {
    let mut numbers = HashSet::new();
    let mut buffer = [0; 8];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((8, _)) if numbers.insert(u64::from_be_bytes(buffer)) => {
                received.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) if stop.load(Ordering::Relaxed) => return numbers,
            // Silence: the load goes on, and what is missing is told at its end.
            Err(_) => {}
        }
    }
}
