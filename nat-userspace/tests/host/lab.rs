//! Two network namespaces joined by a veth pair: the gateway's host and a remote.
//!
//! Both are anonymous and vanish with the thread that made them.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, OwnedFd},
    panic,
    sync::Arc,
    thread,
    time::Duration,
};

use nat_userspace::host::{Host, Neighbour, preflight::KernelVersion};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket},
        utsname::uname,
    },
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, packet_route::neighbour::NeighbourState};
use tokio::time::{Instant, sleep};

/// The host's interface and its own address on it.
pub const EXTERNAL: &str = "external";
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The remote's interface, its address and where it answers from.
pub const REMOTE: &str = "remote";
pub const REMOTE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const REMOTE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Why these tests cannot run here, if they cannot.
pub fn obstacle() -> Option<String> {
    let attempt = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS));
    let errno = attempt.join().expect("unshare does not panic").err()?;
    Some(format!("no namespace can be made: {errno}; run them as root"))
}

/// The kernel these tests run on.
pub fn kernel() -> KernelVersion {
    let release = uname().unwrap().release().to_string_lossy().into_owned();
    KernelVersion::from_release(&release).unwrap()
}

/// The gateway's host, seen from inside, and a way into the remote.
pub struct Lab {
    pub host: Host,
    /// The index of [`EXTERNAL`].
    pub external: u32,
    here: Arc<File>,
    remote: Arc<File>,
}

/// Runs `scenario` in a fresh lab.
pub fn run<F: Future<Output = ()>>(scenario: impl FnOnce(Lab) -> F + Send + 'static) {
    in_thread(move || async {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let remote = Arc::new(namespace());
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // No link-local addresses, which appear whenever they please; a kernel without IPv6 has none anyway.
        let _ = fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1");
        scenario(Lab::build(Arc::clone(&remote)).await).await;
        // A scenario may hold parts of the lab only: without this, the remote would vanish under it.
        drop(remote);
    });
}

impl Lab {
    async fn build(remote: Arc<File>) -> Self {
        let host = Host::open().unwrap();
        set_up(&host, "lo").await;
        let pair = LinkVeth::new(EXTERNAL, REMOTE).build();
        host.handle().link().add(pair).execute().await.unwrap();
        let moved = LinkUnspec::new_with_name(REMOTE).setns_by_fd(remote.as_raw_fd()).build();
        host.handle().link().change(moved).execute().await.unwrap();
        let external = set_up(&host, EXTERNAL).await;
        let lab = Self { host, external, here: Arc::new(namespace()), remote };
        lab.add_address(HOST_ADDRESS, 24).await;
        lab.on_remote(|remote| async move {
            set_mac(&remote, REMOTE, REMOTE_MAC).await;
            set_up(&remote, REMOTE).await;
            add_address(&remote, REMOTE, REMOTE_ADDRESS, 24).await;
        });
        eventually("the link comes up", || async {
            lab.host.facts().await.unwrap().interface(EXTERNAL).unwrap().up
        })
        .await;
        lab
    }

    /// Runs `work` in the remote, in a thread of its own, and waits for it.
    pub fn on_remote<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce(Host) -> F + Send) -> T {
        in_namespace(&self.remote, work)
    }

    /// Runs `work` on the host, in a thread of its own, while the test's own thread stands still.
    pub fn meanwhile_on_host<T: Send, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Host) -> F + Send,
    ) -> T {
        in_namespace(&self.here, work)
    }

    /// Adds an address of the host's own to [`EXTERNAL`].
    pub async fn add_address(&self, address: Ipv4Addr, prefix: u8) {
        add_address(&self.host, EXTERNAL, address, prefix).await;
    }

    /// The kernel's entry for `address` on the host.
    pub async fn neighbour(&self, address: Ipv4Addr) -> Option<Neighbour> {
        let neighbours = self.host.neighbours().await.unwrap();
        neighbours.into_iter().find(|neighbour| neighbour.address == address)
    }

    /// Makes an entry for `address` on [`EXTERNAL`], or changes the one there is.
    pub async fn set_neighbour(&self, address: Ipv4Addr, mac: [u8; 6], state: NeighbourState) {
        let request = self.host.handle().neighbours().add(self.external, IpAddr::V4(address));
        request.replace().link_layer_address(&mac).state(state).execute().await.unwrap();
    }

    /// Starts to record the ARP packets that reach the remote.
    pub fn capture_arp(&self) -> ArpCapture {
        ArpCapture(self.on_remote(|_| async {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap()
        }))
    }
}

/// Frames that reach the remote; it also sees what the remote sends.
pub struct ArpCapture(OwnedFd);

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub broadcast: bool,
    pub request: bool,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

impl ArpCapture {
    /// The ARP packets since the last call.
    pub fn packets(&self) -> Vec<Arp> {
        let mut packets = Vec::new();
        let mut frame = [0; 2048];
        loop {
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) if length >= 42 && frame[12..14] == [8, 6] => packets.push(Arp {
                    broadcast: frame[..6] == [0xff; 6],
                    request: frame[21] == 1,
                    sender: Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31]),
                    target: Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]),
                }),
                Ok(_) => {}
                Err(Errno::EAGAIN) => return packets,
                Err(errno) => panic!("cannot read the capture: {errno}"),
            }
        }
    }
}

/// Waits until `condition` holds, for 10 s at most.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "this never happened: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub async fn index(host: &Host, name: &str) -> u32 {
    host.facts().await.unwrap().interface(name).unwrap().index
}

pub async fn set_up(host: &Host, name: &str) -> u32 {
    let index = index(host, name).await;
    let up = LinkUnspec::new_with_index(index).up().build();
    host.handle().link().change(up).execute().await.unwrap();
    index
}

pub async fn set_mac(host: &Host, name: &str, mac: [u8; 6]) {
    let link = LinkMessageBuilder::<LinkUnspec>::new().index(index(host, name).await);
    host.handle().link().change(link.address(mac.to_vec()).build()).execute().await.unwrap();
}

pub async fn add_address(host: &Host, interface: &str, address: Ipv4Addr, prefix: u8) {
    let index = index(host, interface).await;
    host.handle().address().add(index, address.into(), prefix).execute().await.unwrap();
}

fn namespace() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn in_namespace<T: Send, F: Future<Output = T>>(
    namespace: &Arc<File>,
    work: impl FnOnce(Host) -> F + Send,
) -> T {
    in_thread(|| async {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work(Host::open().unwrap()).await
    })
}

/// Runs `work` in a thread that may enter other namespaces without taking anybody along.
pub fn in_thread<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = thread::scope(|scope| scope.spawn(|| runtime().block_on(work())).join());
    outcome.unwrap_or_else(|panic| panic::resume_unwind(panic))
}
