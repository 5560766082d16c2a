//! natgw's data plane.
//!
//! `natgw` translates every packet; `natgw_age` ends idle sessions when the controller runs it. The programs live
//! in one object so that they share their maps.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod admit;
mod age;
mod allocate;
mod assembly;
mod clock;
mod count;
mod fib;
mod flow;
mod forward;
mod header;
mod icmp;
mod interface;
mod log;
mod maps;
mod nacl;
mod options;
mod packet;
mod parse;
mod pipeline;
mod reply;
mod route;
mod stop;
mod translate;
mod xdp;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};

use crate::{
    packet::{Hook, Packet},
    parse::Parsed,
    pipeline::Forward,
    stop::Stop,
    xdp::XdpPacket,
};

/// Every packet of every interface. The only place where a verdict is named, and where packets are counted.
#[xdp]
pub fn natgw(context: XdpContext) -> u32 {
    let mut packet = XdpPacket::attach(context.ctx);
    let mut parsed = Parsed::default();
    match pipeline::run(&mut packet, &mut parsed) {
        Ok(Forward { way, hop }) => {
            count::forwarded(way, u64::from(parsed.length));
            send(hop.ifindex(), packet.ingress(), parsed.no_transmit)
        }
        Err(Stop::Stack) => {
            count::stack(packet.length() as u64);
            xdp_action::XDP_PASS
        }
        Err(Stop::Reply(reply)) => {
            if packet.reply(&parsed, reply).is_ok() {
                count::replied(u64::from(parsed.length));
                return send(packet.ingress(), packet.ingress(), parsed.no_transmit);
            }
            count::dropped(reply.otherwise(), &parsed, packet.ingress());
            xdp_action::XDP_DROP
        }
        Err(Stop::Drop(reason)) => {
            log::refused(&context, reason, &parsed);
            count::dropped(reason, &parsed, packet.ingress());
            xdp_action::XDP_DROP
        }
    }
}

/// Ends idle sessions; run by the controller, never attached.
#[xdp]
pub fn natgw_age(_context: XdpContext) -> u32 {
    age::run();
    xdp_action::XDP_PASS
}

/// Sends the packet out of `device`; back out of the device it came from without the detour of a redirect, where
/// the driver can.
#[inline(always)]
fn send(device: u32, ingress: u32, no_transmit: bool) -> u32 {
    if device == ingress && !no_transmit {
        return xdp_action::XDP_TX;
    }
    // SAFETY: the helper only notes the device for the driver; it takes no pointers.
    unsafe { bpf_redirect(device, 0) as u32 }
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
