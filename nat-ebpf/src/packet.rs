//! Access to the bytes of a packet: what differs between the hooks, and the only file with packet pointers.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_xdp_load_bytes},
};
use nat_common::checksum::Delta;

use crate::maps::SCRATCH_BYTES;

/// A packet at a hook. Offsets count from the start of the frame.
pub trait Packet: Sized {
    /// What the kernel hands the program.
    type Context;

    /// Opens the packet behind `context`. Functions that are not inlined open it anew from the context: the
    /// verifier loses track of packet pointers that are passed on.
    fn attach(context: *mut Self::Context) -> Self;

    /// The context, for helpers.
    fn context(&self) -> *mut Self::Context;

    /// Index of the device that received the packet.
    fn ingress(&self) -> u32;

    /// Bytes of the whole frame.
    fn length(&self) -> usize;

    /// Reads a header; `None` beyond the end.
    fn read<T: Copy>(&self, offset: usize) -> Option<T>;

    /// Writes a field at a place that was read before; the check is for the verifier alone.
    fn write<T: Copy>(&self, offset: usize, value: T);

    /// Copies `length` bytes into `buffer`; false beyond the end.
    fn copy_out(&self, offset: usize, buffer: &mut [u8; SCRATCH_BYTES], length: usize) -> bool;

    /// Adds (positive) or removes bytes in front. All pointers are opened anew. False when there is no room, and
    /// nothing has changed then.
    fn grow_front(&mut self, bytes: i32) -> bool;

    /// Cuts the frame to `length` bytes.
    fn cut(&mut self, length: usize) -> bool;

    /// Changes a transport checksum: `pseudo` covers the addresses of the pseudo-header, `plain` everything else.
    fn change_checksum(&self, offset: usize, pseudo: Delta, plain: Delta) {
        if let Some(checksum) = self.read::<u16>(offset) {
            self.write(offset, pseudo.and(plain).apply(checksum));
        }
    }

    /// The same for UDP, whose checksum may be absent.
    fn change_udp_checksum(&self, offset: usize, pseudo: Delta, plain: Delta) {
        if let Some(checksum) = self.read::<u16>(offset) {
            self.write(offset, pseudo.and(plain).apply_udp(checksum));
        }
    }
}

/// A packet at the XDP hook.
pub struct XdpPacket {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

impl XdpPacket {
    #[inline(always)]
    fn pointer<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(start as *mut T)
    }
}

impl Packet for XdpPacket {
    type Context = xdp_md;

    #[inline(always)]
    fn attach(context: *mut xdp_md) -> Self {
        // SAFETY: `context` is the program's own; the volatile loads keep the compiler from passing their
        // results on in place of the context.
        unsafe {
            Self {
                context,
                start: (&raw const (*context).data).read_volatile() as usize,
                end: (&raw const (*context).data_end).read_volatile() as usize,
            }
        }
    }

    #[inline(always)]
    fn context(&self) -> *mut xdp_md {
        self.context
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: as in `attach`.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        let pointer = self.pointer::<T>(offset)?;
        // SAFETY: checked against the packet's end; packet memory may be read at any alignment on this target.
        Some(unsafe { *pointer })
    }

    #[inline(always)]
    fn write<T: Copy>(&self, offset: usize, value: T) {
        if let Some(pointer) = self.pointer::<T>(offset) {
            // SAFETY: as in `read`; the packet belongs to this program until it returns.
            unsafe { *pointer = value }
        }
    }

    #[inline(always)]
    fn copy_out(&self, offset: usize, buffer: &mut [u8; SCRATCH_BYTES], length: usize) -> bool {
        let length = length & (SCRATCH_BYTES - 1);
        if length == 0 {
            return false;
        }
        // SAFETY: `length` is smaller than the buffer; the helper itself checks the packet's bounds.
        unsafe { bpf_xdp_load_bytes(self.context, offset as u32, buffer.as_mut_ptr().cast(), length as u32) == 0 }
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: i32) -> bool {
        // SAFETY: the helper checks the room; the pointers are renewed below.
        let grown = unsafe { bpf_xdp_adjust_head(self.context, -bytes) == 0 };
        *self = Self::attach(self.context);
        grown
    }

    #[inline(always)]
    fn cut(&mut self, length: usize) -> bool {
        // SAFETY: as in `grow_front`.
        let done = unsafe { bpf_xdp_adjust_tail(self.context, length as i32 - self.length() as i32) == 0 };
        *self = Self::attach(self.context);
        done
    }
}
