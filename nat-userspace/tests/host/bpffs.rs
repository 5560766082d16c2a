//! The BPF file system that pinning needs.

use std::{fs, path::Path};

use nat_userspace::host::preflight::ensure_bpffs;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{Test, lab, tests};

const BPFFS: &str = "/sys/fs/bpf";

pub fn trials() -> Vec<Test> {
    tests![an_absent_bpf_file_system_is_mounted_once]
}

fn an_absent_bpf_file_system_is_mounted_once() {
    lab::in_thread(|| async {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        while is_bpffs() {
            umount2(BPFFS, MntFlags::MNT_DETACH).unwrap();
        }
        let pin_dir = Path::new("/sys/fs/bpf/natgw/lab");
        ensure_bpffs(pin_dir).unwrap();
        assert!(is_bpffs());
        ensure_bpffs(pin_dir).unwrap();
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert_eq!(mounts.lines().filter(|line| line.contains(" /sys/fs/bpf ")).count(), 1, "{mounts}");
    });
}

fn is_bpffs() -> bool {
    statfs(BPFFS).unwrap().filesystem_type() == BPF_FS_MAGIC
}
