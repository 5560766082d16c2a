//! Access to the bytes of a packet: what the path asks of a hook.

use nat_common::{checksum::Delta, slow::MAX_BYTES};

use crate::{header::Vlan, maps::SCRATCH_BYTES};

/// A header of a packet, found to be there whole: its fields are read and written without another check.
#[derive(Clone, Copy)]
pub struct Place(*mut u8);

impl Place {
    /// The bytes that a hook has compared with the packet's end.
    #[inline(always)]
    pub const fn new<T>(pointer: *mut T) -> Self {
        Self(pointer.cast())
    }

    /// The field at `offset`.
    #[inline(always)]
    pub fn get<T: Copy>(self, offset: usize) -> T {
        // SAFETY: the verifier refuses a program that reads beyond the bytes compared; packet memory may be read at any
        // alignment on this target.
        unsafe { *self.0.wrapping_add(offset).cast() }
    }

    /// Writes the field at `offset`.
    #[inline(always)]
    pub fn set<T: Copy>(self, offset: usize, value: T) {
        // SAFETY: as in `get`; the packet belongs to this program until it returns.
        unsafe { *self.0.wrapping_add(offset).cast() = value }
    }
}

/// A packet at a hook. Offsets count from the start of the frame.
pub trait Packet: Sized {
    /// What the kernel hands the program.
    type Context;

    /// Opens the packet behind `context`. Functions that are not inlined open it anew from the context: the
    /// verifier loses track of packet pointers that are passed on.
    fn attach(context: *mut Self::Context) -> Self;

    /// Index of the device that received the packet.
    fn ingress(&self) -> u32;

    /// The device's queue that the packet came in on, counted from 1; 0 if nobody knows.
    fn queue(&self) -> u32;

    /// Whether the frame is addressed to another host, and here only because the device listens to everything.
    #[inline(always)]
    fn is_for_another(&self) -> bool {
        false
    }

    /// The VLAN tag that the kernel has taken out of the frame's bytes; `ethertype` is the tag's own.
    #[inline(always)]
    fn tag_beside(&self) -> Option<Vlan> {
        None
    }

    /// Bytes of the whole frame.
    fn length(&self) -> usize;

    /// Whether the frame is known to have so many bytes, without [`Self::length`], which may be dear.
    #[inline(always)]
    fn reaches(&self, length: usize) -> bool {
        length <= self.length()
    }

    /// How many packets on the wire it stands for: more than one before its segmentation.
    #[inline(always)]
    fn segments(&self) -> u64 {
        1
    }

    /// Bytes of payload in each of its segments; 0 if it is a single packet.
    #[inline(always)]
    fn segment_payload(&self) -> u32 {
        0
    }

    /// Sees to it that [`Self::read`] and [`Self::write`] reach the first `length` bytes, where the frame has them.
    #[inline(always)]
    fn reach(&mut self, _length: usize) {}

    /// Reads a header; `None` beyond the end.
    fn read<T: Copy>(&self, offset: usize) -> Option<T>;

    /// The `LENGTH` bytes from `offset` on; `None` beyond the end.
    fn place<const LENGTH: usize>(&self, offset: usize) -> Option<Place>;

    /// Writes a field at a place that was read before; the check is for the verifier alone.
    fn write<T: Copy>(&self, offset: usize, value: T);

    /// Copies `length` bytes into `buffer`; false beyond the end.
    fn copy_out(&self, offset: usize, buffer: &mut [u8; SCRATCH_BYTES], length: usize) -> bool;

    /// The same with room for a whole packet.
    fn copy_all(&self, offset: usize, buffer: &mut [u8; MAX_BYTES], length: usize) -> bool;

    /// Adds bytes in front. All pointers are opened anew. False when there is no room, and nothing has changed then.
    fn grow_front(&mut self, bytes: u32) -> bool;

    /// Cuts the frame to `length` bytes.
    fn cut(&mut self, length: usize) -> bool;

    /// Gives the frame, whose IP header is at `l3`, the place for a VLAN tag that identifier `vlan` needs, which is none
    /// for 0: the bytes by which its headers have moved, `None` when there is no room.
    fn retag(&mut self, l3: usize, vlan: u16) -> Option<i32>;

    /// Changes the checksum of TCP or UDP, of which the latter's may be absent: `pseudo` covers the addresses of the
    /// pseudo-header, `plain` everything else.
    #[inline(always)]
    fn change_transport_checksum(&mut self, offset: usize, pseudo: Delta, plain: Delta, udp: bool) {
        if let Some(place) = self.place::<2>(offset) {
            let (change, checksum) = (pseudo.and(plain), place.get(0));
            place.set(0, if udp { change.apply_udp(checksum) } else { change.apply(checksum) });
        }
    }

    /// Changes a checksum that is complete in any case: those of ICMP and IP.
    #[inline(always)]
    fn change_checksum(&self, offset: usize, change: Delta) {
        if let Some(place) = self.place::<2>(offset) {
            place.set(0, change.apply(place.get(0)));
        }
    }

    /// The sum of the pseudo-header, where the device that sends the packet is yet to compute its transport checksum:
    /// it stands at `offset` until then.
    #[inline(always)]
    fn pending_checksum(&mut self, _offset: usize) -> Option<u16> {
        None
    }
}
