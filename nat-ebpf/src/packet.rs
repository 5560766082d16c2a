//! Access to the bytes of a packet: what the path asks of a hook.

use nat_common::{checksum::Delta, flow::FlowEntry4};

use crate::{
    flow::Rewrite,
    maps::SCRATCH_BYTES,
    parse::Parsed,
    stop::{Reply, Stop},
};

/// A packet at a hook. Offsets count from the start of the frame.
pub trait Packet: Sized {
    /// What the kernel hands the program.
    type Context;

    /// Opens the packet behind `context`. Functions that are not inlined open it anew from the context: the
    /// verifier loses track of packet pointers that are passed on.
    fn attach(context: *mut Self::Context) -> Self;

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

/// A packet whose rare paths are functions of their own.
///
/// The verifier looks at a global function once, and not anew on every path that leads to it; but a global function
/// names the type of its context, so that each hook has its own.
pub trait Hook: Packet {
    /// [`crate::pipeline::miss`].
    fn miss(&self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::flow::judge`].
    fn judge(
        &self,
        parsed: &Parsed,
        entry: *mut FlowEntry4,
        generation: u32,
        rewrite: &mut Rewrite,
    ) -> Result<(), Stop>;

    /// [`crate::icmp::error`].
    fn error(&mut self, parsed: &mut Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::options::check`].
    fn check_options(&self, offset: usize, length: usize) -> Result<(), Stop>;

    /// [`crate::reply::send`].
    fn reply(&mut self, parsed: &Parsed, reply: Reply) -> Result<(), Stop>;
}
