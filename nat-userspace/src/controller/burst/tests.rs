use nat_common::burst::Lead;

use super::*;

fn able() -> Bursts {
    let plan = plan::Bursts { leads: [(2, Lead::default())].into(), ..plan::Bursts::default() };
    Bursts {
        plan,
        devices: [(2, "eth0".to_owned())].into(),
        unable: None,
        cache: 2 << 20,
        failed: None,
        pausing: false,
    }
}

fn is_on(bursts: &Bursts, wish: config::Bursts, on: bool, sessions: u64) -> bool {
    bursts.judge(wish, on, sessions).on
}

#[test]
fn bursts_begin_where_flows_fill_the_cache_and_end_at_half_of_that() {
    let auto = |on, sessions| is_on(&able(), config::Bursts::Auto, on, sessions);
    assert!(!auto(false, 32_767) && auto(false, 32_768));
    assert!(auto(true, 16_384) && !auto(true, 16_383));
}

#[test]
fn always_and_never_do_not_ask_for_the_number_of_sessions() {
    assert!(is_on(&able(), config::Bursts::Always, false, 0));
    assert!(!is_on(&able(), config::Bursts::Never, true, u64::MAX));
}

#[test]
fn there_are_no_bursts_where_they_cannot_be_or_have_failed() {
    let elsewhere = Bursts { unable: Some("at TC"), ..able() };
    let nothing = Bursts { plan: plan::Bursts::default(), ..able() };
    let failed = Bursts { failed: Some("it broke".to_owned()), ..able() };
    for bursts in [&elsewhere, &nothing, &failed] {
        assert!(!is_on(bursts, config::Bursts::Always, false, 1_000_000));
    }
    assert_eq!(failed.judge(config::Bursts::Always, false, 0).why, "it broke");
}

#[test]
fn the_reason_names_the_directions_that_are_left_out() {
    let mut one_way = able();
    one_way.plan.why_not = vec!["inbound packets are not".to_owned()];
    let state = one_way.judge(config::Bursts::Always, false, 0);
    assert_eq!(state.why, "asked for by bursts = \"always\"; inbound packets are not");
}
