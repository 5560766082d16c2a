//! The machine that a rig runs on.

use nat_userspace::host::{Host, HostFacts};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::network;

/// The data plane keeps state per CPU.
pub fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    let cpu = nix::sched::sched_getcpu().expect("every Linux tells the CPU");
    cpus.set(cpu).expect("the CPU's number fits");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("a thread may bind itself");
}

/// The facts of this thread's network namespace.
pub fn read_facts() -> HostFacts {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        let host = Host::open().expect("netlink answers");
        let mut facts = host.facts().await.expect("the host can be read");
        network::complete(&mut facts);
        facts
    })
}
