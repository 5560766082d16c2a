//! Ageing beside a gateway that does nothing: it rests, and sessions end on time all the same.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nat_userspace::datapath::Maps;
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::{Lab, Node, Plan, check};

use crate::control::wait_for_no_session;
use crate::{Scenario, policy, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => ageing_rests_while_no_session_can_end_until_a_reload_says_otherwise,
        Plan::two_armed() => a_session_ends_on_time_after_ageing_has_rested,
        Plan::two_armed() => loopbacks_switch_is_set_again_while_ageing_rests,
    ]
}

/// Longer than ageing pauses where something may have to end.
const REST: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(50);

/// Settings with a table that is aged in no time.
fn settings(lab: &Lab) -> Settings {
    Settings::of(lab.plan()).gateway("max_sessions = 16384")
}

/// Waits until ageing has rested for `rest`.
fn wait_for_rest(maps: &mut Maps, rest: Duration, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut since = begin;
    while since.elapsed() < rest {
        ensure!(begin.elapsed() < limit, "in {limit:?} ageing has never rested for {rest:?}");
        thread::sleep(POLL);
        if maps.has_aged()? {
            since = Instant::now();
        }
    }
    Ok(())
}

/// Waits until the table is aged.
fn wait_for_ageing(maps: &mut Maps, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    while !maps.has_aged()? {
        ensure!(begin.elapsed() < limit, "nothing is aged in {limit:?}");
        thread::sleep(POLL);
    }
    Ok(())
}

fn ageing_rests_while_no_session_can_end_until_a_reload_says_otherwise(lab: &Lab) -> Result<()> {
    let settings = settings(lab);
    let mut gateway = Natgw::start(lab, &settings)?;
    let mut maps = Maps::of_pins(gateway.pins())?;
    lab.warm_up()?;
    check::udp(lab)?;
    wait_for_rest(&mut maps, 2 * REST, 4 * REST)?;
    ensure!(gateway.sessions()? >= 2, "the sessions have ended");
    let settings = settings.timeout("udp", 2).timeout("icmp", 2);
    policy::accept(gateway.reload(&settings)?)?;
    wait_for_no_session(&gateway, Duration::from_secs(4))?;
    gateway.detach()
}

fn a_session_ends_on_time_after_ageing_has_rested(lab: &Lab) -> Result<()> {
    let timeout = Duration::from_secs(6);
    let names = ["tcp_established", "tcp_transitory", "tcp_closing", "udp", "icmp"];
    let settings =
        names.iter().fold(settings(lab), |settings, name| settings.timeout(name, timeout.as_secs()));
    let gateway = Natgw::start(lab, &settings)?;
    let mut maps = Maps::of_pins(gateway.pins())?;
    lab.warm_up()?;
    wait_for_no_session(&gateway, 3 * timeout)?;
    wait_for_rest(&mut maps, timeout / 2, 2 * timeout)?;
    wait_for_ageing(&mut maps, timeout)?;
    // The next pass comes shortly before it ends, and none would for as long again.
    check::udp(lab)?;
    let begin = Instant::now();
    ensure!(gateway.sessions()? == 1, "the session is not counted");
    // A tick for the clock, and one for the pause after that pass.
    wait_for_no_session(&gateway, timeout + Duration::from_secs(3))?;
    ensure!(begin.elapsed() > timeout - Duration::from_millis(100), "it ends after {:?}", begin.elapsed());
    gateway.detach()
}

fn loopbacks_switch_is_set_again_while_ageing_rests(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &settings(lab))?;
    let mut maps = Maps::of_pins(gateway.pins())?;
    wait_for_rest(&mut maps, REST, 3 * REST)?;
    lab.host(Node::Gateway).within(|| {
        let switch = "/proc/sys/net/ipv4/conf/lo/forwarding";
        fs::write(switch, "0")?;
        let begin = Instant::now();
        while fs::read_to_string(switch)?.trim() != "1" {
            ensure!(begin.elapsed() < REST, "it is still off after {REST:?}");
            thread::sleep(POLL);
        }
        Ok(())
    })?;
    ensure!(!maps.has_aged()?, "ageing does not rest");
    lab.warm_up().context("with the switch set again")?;
    gateway.detach()
}
