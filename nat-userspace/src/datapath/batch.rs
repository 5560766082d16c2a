//! Reading a whole map with few system calls: `BPF_MAP_LOOKUP_BATCH`, which aya does not offer.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use aya::maps::MapData;
use aya_obj::generated::{bpf_attr, bpf_cmd};
use bytemuck::{Pod, Zeroable};

/// Entries asked for at once. The kernel refuses a batch smaller than a bucket of the table.
const CHUNK: usize = 4_096;
/// The kernel's position between batches: a bucket number for arrays and hashes alike, with room to spare.
type Position = [u8; 64];

/// Calls `visit` for every entry of a hash or array map. Entries that come or go meanwhile may be missed or seen
/// twice.
///
/// # Errors
/// What the kernel answers.
pub fn for_each<K: Pod, V: Pod>(map: &MapData, mut visit: impl FnMut(&K, &V)) -> io::Result<()> {
    let mut keys = vec![K::zeroed(); CHUNK];
    let mut values = vec![V::zeroed(); CHUNK];
    let mut position: Option<Position> = None;
    loop {
        let mut next = Position::zeroed();
        let (count, last) = lookup(map.fd().as_fd(), position.as_mut(), &mut next, &mut keys, &mut values)?;
        keys.iter().zip(&values).take(count).for_each(|(key, value)| visit(key, value));
        if last {
            return Ok(());
        }
        position = Some(next);
    }
}

/// One batch: how many entries, and whether they were the last.
fn lookup<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    position: Option<&mut Position>,
    next: &mut Position,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool)> {
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attributes: bpf_attr = unsafe { mem::zeroed() };
    attributes.batch.in_batch = position.map_or(0, |position| position.as_mut_ptr() as u64);
    attributes.batch.out_batch = next.as_mut_ptr() as u64;
    attributes.batch.keys = keys.as_mut_ptr() as u64;
    attributes.batch.values = values.as_mut_ptr() as u64;
    attributes.batch.count = keys.len().min(values.len()) as u32;
    attributes.batch.map_fd = map.as_raw_fd() as u32;
    // SAFETY: the buffers hold `count` keys and values of the map's sizes (`Maps` has compared them), and any bytes
    // are valid in them; they outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            &raw mut attributes,
            mem::size_of::<bpf_attr>() as libc::c_uint,
        )
    };
    // SAFETY: the kernel sets the count also when it answers that there is no more.
    let count = unsafe { attributes.batch.count } as usize;
    if answer == 0 {
        return Ok((count, false));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok((count, true)),
        error => Err(error),
    }
}
