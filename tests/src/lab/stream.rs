//! TCP in the lab: an echo server, and conversations that notice when they are cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::lab::host::Host;
use crate::lab::traffic::{ANSWER, listen};

/// Between two words of a conversation.
const PAUSE: Duration = Duration::from_millis(20);

/// A TCP server that sends back whatever it gets; gone when dropped, its connections when their clients are.
pub struct StreamEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StreamEcho {
    /// Starts it on `local` of `host`.
    ///
    /// # Errors
    /// When the address is not the host's or in use.
    pub fn start(host: &Host, local: (Ipv4Addr, u16)) -> Result<Self> {
        let listener = listen(host, local)?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || accept(&listener, &stop))
        };
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for StreamEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A server that panicked has answered no more, which its clients have noticed.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let stop = Arc::clone(stop);
        thread::spawn(move || echo(stream, &stop));
    }
}

fn echo(mut stream: TcpStream, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    let ready = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PAUSE)));
    while ready.is_ok() && !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_err() => return,
            // Silence: the client may go on.
            Ok(_) | Err(_) => {}
        }
    }
}

/// A connection on which a word is said and has to come back, again and again.
pub struct Conversation {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Instant>,
}

impl Conversation {
    /// Connects from `local` of `host` to an echo server.
    ///
    /// # Errors
    /// When the connection does not come about.
    pub fn start(host: &Host, local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16)) -> Result<Self> {
        let stream = host.within(move || connect_from(local, remote))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || converse(stream, &stop))
        };
        Ok(Self { stop, thread })
    }

    /// Whether a word was left without its answer.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it and tells when the last answer came.
    ///
    /// # Errors
    /// When its thread panicked.
    pub fn stop(self) -> Result<Instant> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(last) => Ok(last),
            Err(_) => bail!("a thread of a conversation panicked"),
        }
    }
}

/// Says words until it is stopped or one gets no answer; when the last answer came.
fn converse(mut stream: TcpStream, stop: &AtomicBool) -> Instant {
    let mut last = Instant::now();
    let mut answer = [0; 8];
    for number in 0_u64.. {
        let word = number.to_be_bytes();
        let answered = stream.write_all(&word).and_then(|()| stream.read_exact(&mut answer));
        if stop.load(Ordering::Relaxed) || answered.is_err() || answer != word {
            break;
        }
        last = Instant::now();
        thread::sleep(PAUSE);
    }
    last
}

/// A connection of the calling thread's namespace from an address of its choice.
fn connect_from(local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16)) -> Result<TcpStream> {
    let address = |(address, port)| SockaddrIn::from(SocketAddrV4::new(address, port));
    let fd =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("TCP socket")?;
    bind(fd.as_raw_fd(), &address(local)).with_context(|| format!("cannot bind {local:?}"))?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(2, 0))?;
    connect(fd.as_raw_fd(), &address(remote))
        .with_context(|| format!("{local:?} cannot connect to {remote:?}"))?;
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(stream)
}
