//! The entry points of the rare paths.
//!
//! The verifier looks at a global function once, and not anew on every path that leads to it; but a global function
//! names the type of its context, so that each hook has its own.

use nat_common::{drop::DropReason, flow::FlowEntry4};

use crate::{
    flow::Rewrite,
    packet::Packet,
    parse::Parsed,
    stop::{Reply, Stop},
};

/// A packet whose rare paths are functions of their own. They may move the packet, so that its pointers are opened
/// anew after each.
pub trait Hook: Packet {
    /// [`crate::pipeline::miss`].
    fn miss(&self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::pipeline::unsolicited`].
    fn unsolicited(&self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::flow::judge`].
    fn judge(
        &self,
        parsed: &Parsed,
        entry: *mut FlowEntry4,
        generation: u32,
        rewrite: &mut Rewrite,
    ) -> Result<(), Stop>;

    /// [`crate::connection::note`].
    fn note(&self, parsed: &Parsed, entry: *mut FlowEntry4);

    /// [`crate::icmp::error`].
    fn error(&mut self, parsed: &mut Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::fragment::pass`].
    fn fragment(&mut self, parsed: &mut Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::fragment::aside`].
    fn aside(&mut self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop>;

    /// [`crate::options::check`].
    fn check_options(&mut self, offset: usize, length: usize) -> Result<(), Stop>;

    /// [`crate::amend::amend`].
    fn amend(&mut self, parsed: &Parsed, rewrite: &Rewrite, generation: u32);

    /// [`crate::reply::send`] or [`crate::reset::send`].
    fn reply(&mut self, parsed: &Parsed, reply: Reply) -> Result<(), Stop>;
}

/// What a global function answers when it is handed nothing: its callers always hand it something, but the verifier
/// asks.
pub const NOTHING: Result<(), Stop> = Err(Stop::Drop(DropReason::NotConfigured));

/// Implements [`Hook`] for a packet with the context given, by global functions with the names given.
macro_rules! hook {
    (
        $packet:ty, $context:ty,
        $miss:ident, $unsolicited:ident, $judge:ident, $note:ident, $error:ident, $options:ident, $amend:ident,
        $reply:ident, $reset:ident, $fragment:ident, $aside:ident
    ) => {
        impl crate::hook::Hook for $packet {
            #[inline(always)]
            fn miss(&self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop> {
                Stop::decode($miss(self.context, parsed, generation, rewrite))
            }

            #[inline(always)]
            fn unsolicited(
                &self,
                parsed: &Parsed,
                generation: u32,
                rewrite: &mut Rewrite,
            ) -> Result<(), Stop> {
                Stop::decode($unsolicited(self.context, parsed, generation, rewrite))
            }

            #[inline(always)]
            fn judge(
                &self,
                parsed: &Parsed,
                entry: *mut FlowEntry4,
                generation: u32,
                rewrite: &mut Rewrite,
            ) -> Result<(), Stop> {
                Stop::decode($judge(self.context, parsed, entry, generation, rewrite))
            }

            #[inline(always)]
            fn note(&self, parsed: &Parsed, entry: *mut FlowEntry4) {
                $note(self.context, parsed, entry);
            }

            #[inline(always)]
            fn error(
                &mut self,
                parsed: &mut Parsed,
                generation: u32,
                rewrite: &mut Rewrite,
            ) -> Result<(), Stop> {
                let result = Stop::decode($error(self.context, parsed, generation, rewrite));
                *self = Self::attach(self.context);
                result
            }

            #[inline(always)]
            fn fragment(
                &mut self,
                parsed: &mut Parsed,
                generation: u32,
                rewrite: &mut Rewrite,
            ) -> Result<(), Stop> {
                let result = Stop::decode($fragment(self.context, parsed, generation, rewrite));
                *self = Self::attach(self.context);
                result
            }

            #[inline(always)]
            fn aside(&mut self, parsed: &Parsed, generation: u32, rewrite: &mut Rewrite) -> Result<(), Stop> {
                let result = Stop::decode($aside(self.context, parsed, generation, rewrite));
                *self = Self::attach(self.context);
                result
            }

            #[inline(always)]
            fn check_options(&mut self, offset: usize, length: usize) -> Result<(), Stop> {
                let result = Stop::decode($options(self.context, offset as u32, length as u32));
                *self = Self::attach(self.context);
                result
            }

            #[inline(always)]
            fn amend(&mut self, parsed: &Parsed, rewrite: &Rewrite, generation: u32) {
                $amend(self.context, parsed, rewrite, generation);
                *self = Self::attach(self.context);
            }

            #[inline(always)]
            fn reply(&mut self, parsed: &Parsed, reply: Reply) -> Result<(), Stop> {
                let result = match reply {
                    Reply::Reset => $reset(self.context, parsed),
                    _ => $reply(self.context, parsed, Stop::encode(Err(Stop::Reply(reply)))),
                };
                let result = Stop::decode(result);
                *self = Self::attach(self.context);
                result
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $miss(
            context: *mut $context,
            parsed: *const Parsed,
            generation: u32,
            rewrite: *mut Rewrite,
        ) -> u64 {
            // SAFETY: callers pass references; the verifier asks for the checks against null.
            let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::pipeline::miss::<$packet>(context, parsed, generation, rewrite))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $unsolicited(
            context: *mut $context,
            parsed: *const Parsed,
            generation: u32,
            rewrite: *mut Rewrite,
        ) -> u64 {
            // SAFETY: as above.
            let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::pipeline::unsolicited::<$packet>(context, parsed, generation, rewrite))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $judge(
            context: *mut $context,
            parsed: *const Parsed,
            entry: *mut FlowEntry4,
            generation: u32,
            rewrite: *mut Rewrite,
        ) -> u64 {
            // SAFETY: as above; `entry` is a map value.
            let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            if entry.is_null() {
                return Stop::encode(crate::hook::NOTHING);
            }
            Stop::encode(crate::flow::judge::<$packet>(context, parsed, entry, generation, rewrite))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $note(context: *mut $context, parsed: *const Parsed, entry: *mut FlowEntry4) -> u64 {
            // SAFETY: as above; `entry` is a map value.
            if let Some(parsed) = unsafe { parsed.as_ref() }
                && !entry.is_null()
            {
                crate::connection::note::<$packet>(context, parsed, entry);
            }
            0
        }

        #[unsafe(no_mangle)]
        extern "C" fn $error(
            context: *mut $context,
            parsed: *mut Parsed,
            generation: u32,
            rewrite: *mut Rewrite,
        ) -> u64 {
            // SAFETY: as above.
            let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_mut(), rewrite.as_mut()) }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::icmp::error::<$packet>(context, parsed, generation, rewrite))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $fragment(
            context: *mut $context,
            parsed: *mut Parsed,
            generation: u32,
            rewrite: *mut Rewrite,
        ) -> u64 {
            // SAFETY: as above.
            let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_mut(), rewrite.as_mut()) }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::fragment::pass::<$packet>(context, parsed, generation, rewrite))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $aside(
            context: *mut $context,
            parsed: *const Parsed,
            generation: u32,
            rewrite: *mut Rewrite,
        ) -> u64 {
            // SAFETY: as above.
            let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::fragment::aside::<$packet>(context, parsed, generation, rewrite))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $options(context: *mut $context, offset: u32, length: u32) -> u64 {
            let checked = crate::options::check::<$packet>(context, offset as usize, length as usize);
            Stop::encode(checked.map_err(Stop::Drop))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $amend(
            context: *mut $context,
            parsed: *const Parsed,
            rewrite: *const Rewrite,
            generation: u32,
        ) -> u64 {
            // SAFETY: as above.
            if let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_ref()) }) {
                crate::amend::amend::<$packet>(context, parsed, rewrite, generation);
            }
            0
        }

        #[unsafe(no_mangle)]
        extern "C" fn $reply(context: *mut $context, parsed: *const Parsed, reply: u64) -> u64 {
            // SAFETY: as above.
            let Some(parsed) = (unsafe { parsed.as_ref() }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            let Err(Stop::Reply(reply)) = Stop::decode(reply) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::reply::send::<$packet>(context, parsed, reply).map_err(Stop::Drop))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $reset(context: *mut $context, parsed: *const Parsed) -> u64 {
            // SAFETY: as above.
            let Some(parsed) = (unsafe { parsed.as_ref() }) else {
                return Stop::encode(crate::hook::NOTHING);
            };
            Stop::encode(crate::reset::send::<$packet>(context, parsed).map_err(Stop::Drop))
        }
    };
}
pub(crate) use hook;
