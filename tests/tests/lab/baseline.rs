//! The lab proves itself with the kernel's NAT, so that what fails with natgw is natgw's doing.

use anyhow::Result;
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::{Lab, Plan};

use crate::{Scenario, bulk, errors, reach, sample};

pub fn scenarios() -> Vec<Scenario> {
    let scenarios = crate::scenarios![
        Plan::two_armed() => the_lab_itself_works_with_kernel_masquerade,
        Plan::one_armed() => the_one_armed_lab_works_with_kernel_masquerade,
        Plan::routed() => the_lab_with_a_routed_elastic_ip_works_with_kernel_masquerade,
        Plan { transit_mtu: 1300, ..Plan::two_armed() } => the_lab_tells_a_path_mtu_through_kernel_masquerade,
        Plan { external_mtu: 1400, ..Plan::two_armed() } => the_lab_tells_the_mtu_of_the_gateway_itself,
        Plan::two_armed() => the_captures_find_an_internal_source_that_leaks,
        Plan::two_armed() => the_captures_find_a_bad_checksum,
    ];
    scenarios.into_iter().map(|scenario| Scenario { needs_natgw: false, ..scenario }).collect()
}

fn the_lab_itself_works_with_kernel_masquerade(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Kernel)?;
    reach::everything(lab)?;
    errors::port_unreachable(lab)?;
    bulk::downloads(lab)?;
    gateway.stop()
}

fn the_one_armed_lab_works_with_kernel_masquerade(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Kernel)?;
    reach::everything(lab)?;
    gateway.stop()
}

fn the_lab_with_a_routed_elastic_ip_works_with_kernel_masquerade(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Kernel)?;
    reach::everything(lab)?;
    gateway.stop()
}

fn the_lab_tells_a_path_mtu_through_kernel_masquerade(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Kernel)?;
    errors::learn_mtu(lab, 1300)?;
    gateway.stop()
}

fn the_lab_tells_the_mtu_of_the_gateway_itself(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Kernel)?;
    errors::learn_mtu(lab, 1400)?;
    gateway.stop()
}

fn the_captures_find_an_internal_source_that_leaks(_lab: &Lab) -> Result<()> {
    // A lab of its own, because its captures must fail.
    let lab = Lab::new(Plan::two_armed())?;
    sample::leak(&lab)?;
    sample::must_be_found(&lab, "internal source outside")
}

fn the_captures_find_a_bad_checksum(_lab: &Lab) -> Result<()> {
    let lab = Lab::new(Plan::two_armed())?;
    sample::bad_checksum(&lab)?;
    sample::must_be_found(&lab, "bad UDP checksum")
}
