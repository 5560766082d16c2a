//! The XDP hook: the frame as the driver received it.
//!
//! A frame larger than one of the driver's buffers comes in several. Pointers reach the first alone, the linear part;
//! drivers put the headers there. Where one does not, a header that is not there cannot be read, and the packet is
//! refused as one that ends before it.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{
        bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
        generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    },
};
use nat_common::{flow::FlowEntry4, slow::MAX_BYTES};

use crate::{
    assembly::bound,
    flow::Rewrite,
    header::{self, Vlan},
    hook::hook,
    maps::SCRATCH_BYTES,
    packet::{Packet, Place},
    parse::Parsed,
    stop::{Reply, Stop},
};

/// Bound of all offsets, as a mask.
const MAX_OFFSET: usize = 0x3ff;
/// Bytes of a VLAN tag.
const TAG: i32 = size_of::<Vlan>() as i32;

/// A packet at the XDP hook.
pub struct XdpPacket {
    context: *mut xdp_md,
    start: usize,
    end: usize,
}

impl XdpPacket {
    #[inline(always)]
    fn pointer<T>(&self, offset: usize) -> Option<*mut T> {
        // Headers end well below this; the mask is how the verifier knows.
        let start = self.start + (offset & MAX_OFFSET);
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(start as *mut T)
    }

    /// Index of the device that the frame is about to leave by; only the program at that point may ask.
    #[inline(always)]
    pub fn egress(&self) -> u32 {
        // SAFETY: as in `attach`.
        unsafe { (*self.context).egress_ifindex }
    }

    /// Moves the start of the frame forward (positive) or back.
    #[inline(always)]
    fn move_start(&mut self, bytes: i32) -> bool {
        // SAFETY: the helper checks the room; the pointers are renewed below.
        let moved = unsafe { bpf_xdp_adjust_head(self.context, bytes) == 0 };
        *self = Self::attach(self.context);
        moved
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
    fn ingress(&self) -> u32 {
        // SAFETY: as in `attach`.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn queue(&self) -> u32 {
        // SAFETY: as in `attach`.
        unsafe { (*self.context).rx_queue_index + 1 }
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the helper takes no pointers but the context.
        unsafe { bpf_xdp_get_buff_len(self.context) as usize }
    }

    /// Nearly every packet ends within the linear part.
    #[inline(always)]
    fn reaches(&self, length: usize) -> bool {
        length <= self.end - self.start
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        let pointer = self.pointer::<T>(offset)?;
        // SAFETY: checked against the packet's end; packet memory may be read at any alignment on this target.
        Some(unsafe { *pointer })
    }

    #[inline(always)]
    fn place<const LENGTH: usize>(&self, offset: usize) -> Option<Place> {
        self.pointer::<[u8; LENGTH]>(offset).map(Place::new)
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
        if length == 0 {
            return false;
        }
        // Linux 6.1's verifier learns nothing from a comparison with zero: the bound says that it is at least one.
        let length = bound::<{ SCRATCH_BYTES as i32 - 1 }>(length - 1) + 1;
        // SAFETY: `length` is no larger than the buffer; the helper itself checks the packet's bounds.
        unsafe {
            bpf_xdp_load_bytes(self.context, offset as u32, buffer.as_mut_ptr().cast(), length as u32) == 0
        }
    }

    #[inline(always)]
    fn copy_all(&self, offset: usize, buffer: &mut [u8; MAX_BYTES], length: usize) -> bool {
        if length == 0 {
            return false;
        }
        let length = bound::<{ MAX_BYTES as i32 - 1 }>(length - 1) + 1;
        // SAFETY: as in `copy_out`.
        unsafe {
            bpf_xdp_load_bytes(self.context, offset as u32, buffer.as_mut_ptr().cast(), length as u32) == 0
        }
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: u32) -> bool {
        self.move_start(-(bytes as i32))
    }

    #[inline(always)]
    fn retag(&mut self, l3: usize, vlan: u16) -> Option<i32> {
        // Nearly every packet has no tag and gets none: one comparison.
        if (l3 ^ header::ETHERNET) | usize::from(vlan) == 0 {
            return Some(0);
        }
        let tagged = l3 == header::TAGGED;
        if tagged == (vlan != 0) {
            return Some(0);
        }
        let change = if tagged { -TAG } else { TAG };
        self.move_start(-change).then_some(change)
    }

    #[inline(always)]
    fn cut(&mut self, length: usize) -> bool {
        let change = length as i32 - self.length() as i32;
        // Of a frame in several buffers the kernel takes "no change" for growth, and refuses.
        if change == 0 {
            return true;
        }
        // SAFETY: as in `move_start`.
        let done = unsafe { bpf_xdp_adjust_tail(self.context, change) == 0 };
        *self = Self::attach(self.context);
        done
    }
}

hook!(
    XdpPacket,
    xdp_md,
    xdp_miss,
    xdp_unsolicited,
    xdp_judge,
    xdp_note,
    xdp_error,
    xdp_options,
    xdp_amend,
    xdp_reply,
    xdp_reset,
    xdp_fragment,
    xdp_aside
);
