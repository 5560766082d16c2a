//! natgw's data plane.
//!
//! `natgw` translates every packet at the XDP hook, `natgw_tc` at the TC hook, by the same pipeline; with many sessions
//! `natgw_ahead` and `natgw_burst` take the place of the former. `natgw_age` ends idle sessions when the controller runs it.
//! The programs live in one object so that they share their maps.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod admit;
mod age;
mod allocate;
mod amend;
mod assembly;
mod block;
mod burst;
mod choose;
mod clock;
mod connection;
mod count;
mod datagram;
mod fib;
mod flow;
mod foresee;
mod forward;
mod fragment;
mod header;
mod hook;
mod hops;
mod host;
mod icmp;
mod identification;
mod interface;
mod log;
mod mapping;
mod maps;
mod martian;
mod mss;
mod nacl;
mod opening;
mod options;
mod packet;
mod parse;
mod pipeline;
mod ports;
mod reply;
mod reset;
mod route;
mod rss;
mod slow;
mod stop;
mod sum;
mod table;
mod tc;
mod translate;
mod words;
mod xdp;

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::{
    count::Own, hook::Hook, maps::DEVICES, packet::Packet, parse::Parsed, pipeline::Forward, stop::Stop,
    tc::TcPacket, xdp::XdpPacket,
};

/// What becomes of a packet.
enum Verdict {
    /// The host's stack takes it.
    Stack,
    /// It goes no further: refused, or left to the controller.
    Drop,
    /// It leaves by the device with this index.
    Send(u32),
}

/// Every packet of every interface that is attached by XDP. With `frags`, drivers hand it frames in several buffers:
/// they refuse an interface whose MTU is larger than one of them otherwise.
#[xdp(frags)]
pub fn natgw(context: XdpContext) -> u32 {
    translate(&context)
}

/// A packet at the XDP hook.
#[inline(always)]
fn translate(context: &XdpContext) -> u32 {
    let mut packet = XdpPacket::attach(context.ctx);
    let mut parsed = Parsed::default();
    match serve(context, &mut packet, &mut parsed) {
        Verdict::Stack => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        // Back out of the device it came from, where the driver can, without the detour of a redirect.
        Verdict::Send(device) if device == packet.ingress() && !parsed.no_transmit => xdp_action::XDP_TX,
        // A device that has gone and come back is not in the map until the next configuration.
        Verdict::Send(device) => DEVICES.redirect(device, 0).unwrap_or_else(|_| redirect(device) as u32),
    }
}

/// In the place of [`natgw`] where packets go in bursts: sends most of them ahead, to be translated by [`natgw_burst`].
#[xdp(frags)]
pub fn natgw_ahead(context: XdpContext) -> u32 {
    match burst::ahead(&XdpPacket::attach(context.ctx)) {
        Some(verdict) => verdict,
        None => translate(&context),
    }
}

/// Translates what [`natgw_ahead`] has sent ahead, as it leaves by a device of the map `DEVICES`. What others send there
/// passes.
#[xdp(frags, map = "devmap")]
pub fn natgw_burst(context: XdpContext) -> u32 {
    burst::fetch();
    let mut packet = XdpPacket::attach(context.ctx);
    if !burst::take_mark(&packet) {
        return xdp_action::XDP_PASS;
    }
    let mut parsed = Parsed::default();
    match serve(&context, &mut packet, &mut parsed) {
        Verdict::Send(device) if device == packet.egress() => xdp_action::XDP_PASS,
        // Here it can leave by one device alone.
        Verdict::Send(device) => {
            slow::send_on(&packet, device);
            xdp_action::XDP_DROP
        }
        // What is for the stack is not sent ahead.
        Verdict::Stack | Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// Every packet of every interface that is attached by TC.
#[classifier]
pub fn natgw_tc(context: TcContext) -> i32 {
    let mut packet = TcPacket::open(context.skb.skb);
    let mut parsed = Parsed::default();
    match serve(&context, &mut packet, &mut parsed) {
        // The programs after this one and the stack; `TC_ACT_OK` would pass the former by.
        Verdict::Stack => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
        Verdict::Send(device) => redirect(device) as i32,
    }
}

/// Runs a packet through the gateway. The only place where packets are counted.
#[inline(always)]
fn serve<P: Hook>(context: &impl EbpfContext, packet: &mut P, parsed: &mut Parsed) -> Verdict {
    // Never missing: the array has one entry for each CPU.
    let Some(own) = Own::of_this_cpu() else { return Verdict::Drop };
    match pipeline::run(packet, parsed, own) {
        Ok(Forward { way, hop }) => {
            own.forwarded(way, packet.segments(), u64::from(parsed.length));
            Verdict::Send(hop.ifindex())
        }
        Err(Stop::Stack) => {
            own.stack(packet.length() as u64);
            Verdict::Stack
        }
        Err(Stop::Held) => {
            own.held(u64::from(parsed.length));
            Verdict::Drop
        }
        Err(Stop::Divided(way)) => {
            own.forwarded(way, 1, u64::from(parsed.length));
            Verdict::Drop
        }
        Err(Stop::Reply(reply)) => {
            let answered = packet.reply(parsed, reply).is_ok();
            if answered && !reply.is_refusal() {
                own.replied(u64::from(parsed.length));
            } else {
                count::dropped(reply.otherwise(), parsed, packet.ingress());
            }
            if answered { Verdict::Send(packet.ingress()) } else { Verdict::Drop }
        }
        Err(Stop::Drop(reason)) => {
            log::refused(context, reason, parsed);
            count::dropped(reason, parsed, packet.ingress());
            Verdict::Drop
        }
    }
}

/// Ends idle sessions; run by the controller, never attached. So what it returns is no verdict, but its answer.
#[xdp]
pub fn natgw_age(_context: XdpContext) -> u32 {
    age::run()
}

/// The verdict that sends the packet out of `device`.
#[inline(always)]
fn redirect(device: u32) -> i64 {
    // SAFETY: the helper only notes the device for the hook; it takes no pointers.
    unsafe { bpf_redirect(device, 0) }
}

/// The verifier proves that no panic is reachable; the compiler wants a handler all the same.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel hands helpers such as `bpf_fib_lookup` only to programs under the GPL (or dual-licensed with it).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
