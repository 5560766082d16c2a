//! The TC hook: the packet as a socket buffer of the kernel, with offloads pending.
//!
//! Only part of it may be within reach of pointers; segmentation and the transport checksum may be left to the device
//! that will send it; and its VLAN tag stands beside its bytes.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{
        bpf_l4_csum_replace, bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
};
use nat_common::{checksum::Delta, flow::FlowEntry4, slow::MAX_BYTES};

use crate::{
    assembly::bound,
    flow::Rewrite,
    header::{self, Vlan, ethertype},
    hook::hook,
    maps::SCRATCH_BYTES,
    packet::{Packet, Place},
    parse::Parsed,
    stop::{Reply, Stop},
};

/// Bound of all offsets, as a mask.
const MAX_OFFSET: usize = 0x3ff;
/// The headers that every packet of a session has.
const HEADERS: usize = header::ETHERNET + header::IPV4 + header::TRANSPORT;
/// `skb->pkt_type` of a frame for another host (`PACKET_OTHERHOST`).
const OTHER_HOST: u32 = 3;

/// A packet at the TC hook.
pub struct TcPacket {
    context: *mut __sk_buff,
    start: usize,
    end: usize,
}

/// Reads a field of the context. Volatile, so that the compiler does not pass the field on in place of the context.
macro_rules! field {
    ($packet:expr, $field:ident) => {
        // SAFETY: the context is the program's own.
        unsafe { (&raw const (*$packet.context).$field).read_volatile() }
    };
}

impl TcPacket {
    /// Opens the packet at the program's start, with its headers within reach.
    #[inline(always)]
    pub fn open(context: *mut __sk_buff) -> Self {
        let mut packet = Self::attach(context);
        packet.reach(HEADERS);
        packet
    }

    #[inline(always)]
    fn pointer<T>(&self, offset: usize) -> Option<*mut T> {
        // Headers end well below this; the mask is how the verifier knows.
        let start = self.start + (offset & MAX_OFFSET);
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(start as *mut T)
    }

    /// Changes a transport checksum and whatever the kernel knows of it: one that is left to the device covers the
    /// pseudo-header alone.
    #[inline(always)]
    fn replace(&mut self, offset: usize, pseudo: Delta, plain: Delta, flags: u32) {
        let offset = offset as u32;
        // SAFETY: the helper checks the offset; the pointers are renewed below.
        unsafe {
            let of_pseudo = u64::from(flags | BPF_F_PSEUDO_HDR);
            bpf_l4_csum_replace(self.context, offset, 0, pseudo.raw().into(), of_pseudo);
            bpf_l4_csum_replace(self.context, offset, 0, plain.raw().into(), flags.into());
        }
        *self = Self::attach(self.context);
    }
}

impl Packet for TcPacket {
    type Context = __sk_buff;

    #[inline(always)]
    fn attach(context: *mut __sk_buff) -> Self {
        let mut packet = Self { context, start: 0, end: 0 };
        packet.start = field!(packet, data) as usize;
        packet.end = field!(packet, data_end) as usize;
        packet
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        field!(self, ifindex)
    }

    /// The kernel, too, counts recorded queues from 1.
    #[inline(always)]
    fn queue(&self) -> u32 {
        field!(self, queue_mapping)
    }

    #[inline(always)]
    fn is_for_another(&self) -> bool {
        field!(self, pkt_type) == OTHER_HOST
    }

    #[inline(always)]
    fn tag_beside(&self) -> Option<Vlan> {
        if field!(self, vlan_present) == 0 {
            return None;
        }
        let control = (field!(self, vlan_tci) as u16).to_be();
        Some(Vlan { control, ethertype: field!(self, vlan_proto) as u16 })
    }

    #[inline(always)]
    fn length(&self) -> usize {
        field!(self, len) as usize
    }

    #[inline(always)]
    fn segments(&self) -> u64 {
        match field!(self, gso_segs) {
            0 => 1,
            segments => segments.into(),
        }
    }

    #[inline(always)]
    fn segment_payload(&self) -> u32 {
        field!(self, gso_size)
    }

    #[inline(always)]
    fn reach(&mut self, length: usize) {
        let length = if length < self.length() { length } else { self.length() };
        if self.start + length > self.end {
            // SAFETY: the helper checks the length; the pointers are renewed below.
            unsafe { bpf_skb_pull_data(self.context, length as u32) };
            *self = Self::attach(self.context);
        }
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
            // SAFETY: as in `read`; the verifier has the kernel unshare the packet before the program begins.
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
            let into = buffer.as_mut_ptr().cast();
            bpf_skb_load_bytes(self.context.cast(), offset as u32, into, length as u32) == 0
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
            bpf_skb_load_bytes(self.context.cast(), offset as u32, buffer.as_mut_ptr().cast(), length as u32)
                == 0
        }
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: u32) -> bool {
        // SAFETY: the helper makes room; the pointers are renewed below.
        let grown = unsafe { bpf_skb_change_head(self.context, bytes, 0) == 0 };
        *self = Self::attach(self.context);
        grown
    }

    #[inline(always)]
    fn cut(&mut self, length: usize) -> bool {
        // SAFETY: as in `grow_front`. What is cut is no longer to be segmented.
        let done = unsafe { bpf_skb_change_tail(self.context, length as u32, 0) == 0 };
        *self = Self::attach(self.context);
        done
    }

    #[inline(always)]
    fn retag(&mut self, _l3: usize, vlan: u16) -> Option<i32> {
        let tagged = field!(self, vlan_present) != 0;
        if !tagged && vlan == 0 {
            return Some(0);
        }
        // SAFETY: the helpers take no pointers but the context; the pointers are renewed below.
        let done = unsafe {
            (!tagged || bpf_skb_vlan_pop(self.context) == 0)
                && (vlan == 0 || bpf_skb_vlan_push(self.context, ethertype::VLAN, vlan) == 0)
        };
        *self = Self::attach(self.context);
        done.then_some(0)
    }

    #[inline(always)]
    fn change_transport_checksum(&mut self, offset: usize, pseudo: Delta, plain: Delta, udp: bool) {
        self.replace(offset, pseudo, plain, if udp { BPF_F_MARK_MANGLED_0 } else { 0 });
    }

    /// The kernel does not say whether a checksum is left to the device, but a change that is not of the
    /// pseudo-header leaves such a one alone.
    #[inline(always)]
    fn pending_checksum(&mut self, offset: usize) -> Option<u16> {
        let before = self.read::<u16>(offset)?;
        // SAFETY: as in `replace`.
        unsafe { bpf_l4_csum_replace(self.context, offset as u32, 0, 1, 0) };
        *self = Self::attach(self.context);
        let after = self.read::<u16>(offset)?;
        if before == after {
            return Some(before);
        }
        self.write(offset, before);
        None
    }
}

hook!(
    TcPacket,
    __sk_buff,
    tc_miss,
    tc_unsolicited,
    tc_judge,
    tc_note,
    tc_error,
    tc_options,
    tc_amend,
    tc_reply,
    tc_reset,
    tc_fragment,
    tc_aside
);
