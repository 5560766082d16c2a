//! The comparison's rig: what it counts has been carried and translated, and it finds out a gateway that cheats.

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use nat_common::rig::pattern;
use nat_userspace::datapath::Rig;
use natgw_tests::bench::cpu::Core;
use natgw_tests::bench::gateway::{Gateway, Kind};
use natgw_tests::bench::packets::{Figures, Road, Traffic};

const TRAFFIC: Traffic = Traffic { pattern: pattern::SPREAD, sessions: 2_000, length: 46, packets: 10_000 };

/// The tests of the rig; they have namespaces of their own.
pub fn trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($body:ident),+ $(,)?) => { vec![$(crate::privileged(stringify!($body), true, $body)),+] };
    }
    trials![
        the_rig_carries_every_packet_through_natgw_and_back,
        the_rig_carries_every_packet_through_the_kernel_and_back,
        the_rig_carries_frames_of_full_size,
        the_rig_finds_out_a_gateway_that_does_not_translate,
        the_rig_finds_out_a_gateway_that_leaves_wrong_checksums,
        the_rig_finds_out_a_gateway_that_loses_packets,
    ]
}

fn the_rig_carries_every_packet_through_natgw_and_back() -> Result<()> {
    is_carried(&Kind::NatgwXdp, TRAFFIC)
}

fn the_rig_carries_every_packet_through_the_kernel_and_back() -> Result<()> {
    is_carried(&Kind::Nftables, TRAFFIC)
}

fn the_rig_carries_frames_of_full_size() -> Result<()> {
    is_carried(&Kind::Bare, Traffic { length: 1_500, ..TRAFFIC })
}

fn the_rig_finds_out_a_gateway_that_does_not_translate() -> Result<()> {
    is_found_out("sleep 60", "wrong addresses")
}

fn the_rig_finds_out_a_gateway_that_leaves_wrong_checksums() -> Result<()> {
    is_found_out(&masquerade("udp checksum set 0xbeef"), "0 had wrong addresses, 0 wrong IP checksums, ")
}

fn the_rig_finds_out_a_gateway_that_loses_packets() -> Result<()> {
    is_found_out(&masquerade("numgen inc mod 100 0 drop"), "packets 1980 arrived")
}

/// A command that masquerades, and does this to forwarded packets.
fn masquerade(rule: &str) -> String {
    format!(
        "nft 'table ip bench {{
           chain translate {{ type nat hook postrouting priority srcnat; oifname ext0 masquerade; }}
           chain spoil {{ type filter hook forward priority filter; {rule}; }}
         }}' && sleep 60"
    )
}

fn is_carried(kind: &Kind, traffic: Traffic) -> Result<()> {
    let figures = measure(kind, traffic)?;
    let all = [figures.new, figures.outbound, figures.inbound];
    ensure!(all.iter().all(|ns| (10.0..1e6).contains(ns)), "no plausible figures: {figures:?}");
    Ok(())
}

fn is_found_out(command: &str, expected: &str) -> Result<()> {
    let kind = Kind::Peer { name: "a cheat".to_owned(), command: command.to_owned() };
    match measure(&kind, TRAFFIC) {
        Ok(figures) => bail!("it was measured: {figures:?}"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains(expected), "found out for another reason: {text}");
            Ok(())
        }
    }
}

fn measure(kind: &Kind, traffic: Traffic) -> Result<Figures> {
    let (core, mut rig) = (Core::last()?, Rig::load(traffic.sessions)?);
    let gateway = Gateway::start(kind, &mut rig, traffic.sessions)?;
    let figures = Road::new(&gateway, kind, &mut rig, &core)?.measure(traffic);
    gateway.stop()?;
    figures
}
