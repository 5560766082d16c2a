//! The XDP hook: packet pointers, and the entry points of the rare paths.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_xdp_load_bytes},
};
use nat_common::{drop::DropReason, flow::FlowEntry4};

use crate::{
    assembly::bound,
    flow::{self, Rewrite},
    icmp,
    maps::SCRATCH_BYTES,
    options,
    packet::{Hook, Packet},
    parse::Parsed,
    pipeline, reply,
    stop::{Reply, Stop},
};

/// Bound of all offsets, as a mask.
const MAX_OFFSET: usize = 0x3ff;

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
        let length = bound::<{ SCRATCH_BYTES as i32 - 1 }>(length);
        if length == 0 {
            return false;
        }
        // SAFETY: `length` is smaller than the buffer; the helper itself checks the packet's bounds.
        unsafe {
            bpf_xdp_load_bytes(self.context, offset as u32, buffer.as_mut_ptr().cast(), length as u32) == 0
        }
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

impl Hook for XdpPacket {
    #[inline(always)]
    fn miss(&self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop> {
        Stop::decode(xdp_miss(self.context, parsed, generation, rewrite))
    }

    #[inline(always)]
    fn judge(
        &self,
        parsed: &Parsed,
        entry: *mut FlowEntry4,
        generation: u32,
        rewrite: &mut Rewrite,
    ) -> Result<(), Stop> {
        Stop::decode(xdp_judge(self.context, parsed, entry, generation, rewrite))
    }

    #[inline(always)]
    fn error(&mut self, parsed: &mut Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop> {
        let result = Stop::decode(xdp_error(self.context, parsed, generation, rewrite));
        *self = Self::attach(self.context);
        result
    }

    #[inline(always)]
    fn check_options(&self, offset: usize, length: usize) -> Result<(), Stop> {
        Stop::decode(xdp_options(self.context, offset as u32, length as u32))
    }

    #[inline(always)]
    fn reply(&mut self, parsed: &Parsed, reply: Reply) -> Result<(), Stop> {
        let reply = Stop::encode(Err(Stop::Reply(reply)));
        let result = Stop::decode(xdp_reply(self.context, parsed, reply));
        *self = Self::attach(self.context);
        result
    }
}

/// What a global function answers when it is handed nothing: its callers always hand it something, but the verifier
/// asks.
const NOTHING: Result<(), Stop> = Err(Stop::Drop(DropReason::NotConfigured));

#[unsafe(no_mangle)]
extern "C" fn xdp_miss(
    context: *mut xdp_md,
    parsed: *const Parsed,
    generation: u32,
    rewrite: *mut Rewrite,
) -> u64 {
    // SAFETY: callers pass references; the verifier asks for the checks against null.
    let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
        return Stop::encode(NOTHING);
    };
    Stop::encode(pipeline::miss::<XdpPacket>(context, parsed, generation, rewrite))
}

#[unsafe(no_mangle)]
extern "C" fn xdp_judge(
    context: *mut xdp_md,
    parsed: *const Parsed,
    entry: *mut FlowEntry4,
    generation: u32,
    rewrite: *mut Rewrite,
) -> u64 {
    // SAFETY: as in `xdp_miss`; `entry` is a map value.
    let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
        return Stop::encode(NOTHING);
    };
    if entry.is_null() {
        return Stop::encode(NOTHING);
    }
    Stop::encode(flow::judge::<XdpPacket>(context, parsed, entry, generation, rewrite))
}

#[unsafe(no_mangle)]
extern "C" fn xdp_error(
    context: *mut xdp_md,
    parsed: *mut Parsed,
    generation: u32,
    rewrite: *mut Rewrite,
) -> u64 {
    // SAFETY: as in `xdp_miss`.
    let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_mut(), rewrite.as_mut()) }) else {
        return Stop::encode(NOTHING);
    };
    Stop::encode(icmp::error::<XdpPacket>(context, parsed, generation, rewrite))
}

#[unsafe(no_mangle)]
extern "C" fn xdp_options(context: *mut xdp_md, offset: u32, length: u32) -> u64 {
    Stop::encode(options::check::<XdpPacket>(context, offset as usize, length as usize).map_err(Stop::Drop))
}

#[unsafe(no_mangle)]
extern "C" fn xdp_reply(context: *mut xdp_md, parsed: *const Parsed, reply: u64) -> u64 {
    // SAFETY: as in `xdp_miss`.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else { return Stop::encode(NOTHING) };
    let Err(Stop::Reply(reply)) = Stop::decode(reply) else { return Stop::encode(NOTHING) };
    Stop::encode(reply::send::<XdpPacket>(context, parsed, reply).map_err(Stop::Drop))
}
