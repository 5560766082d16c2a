//! An outside probe tells how the gateway behaves (RFC 5780), and it is as configured.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use natgw_tests::lab::coturn::{Coturn, discover};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::{Lab, Plan};

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_probe_finds_mapping_and_filtering_by_address_and_port_unless_told,
        Plan::two_armed() => a_probe_finds_an_independent_mapping_with_filtering_by_address_and_port,
        Plan::two_armed() => a_probe_finds_an_independent_mapping_with_filtering_by_address,
        Plan::two_armed() => a_probe_finds_independent_mapping_and_filtering_and_a_hairpin,
        Plan::one_armed() => with_one_arm_a_probe_finds_independent_mapping_and_filtering_and_a_hairpin,
    ]
}

const BY_PORT: &str = "Address and Port Dependent";
const BY_ADDRESS: &str = "Address Dependent";
const INDEPENDENT: &str = "Endpoint Independent";

fn a_probe_finds_mapping_and_filtering_by_address_and_port_unless_told(lab: &Lab) -> Result<()> {
    probe(lab, "", (BY_PORT, BY_PORT), false)
}

fn a_probe_finds_an_independent_mapping_with_filtering_by_address_and_port(lab: &Lab) -> Result<()> {
    probe(lab, "mapping = \"endpoint-independent\"", (INDEPENDENT, BY_PORT), false)
}

fn a_probe_finds_an_independent_mapping_with_filtering_by_address(lab: &Lab) -> Result<()> {
    let fields = "mapping = \"endpoint-independent\"\nfiltering = \"address-dependent\"";
    probe(lab, fields, (INDEPENDENT, BY_ADDRESS), false)
}

fn a_probe_finds_independent_mapping_and_filtering_and_a_hairpin(lab: &Lab) -> Result<()> {
    let fields = "mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"";
    probe(lab, fields, (INDEPENDENT, INDEPENDENT), true)
}

fn with_one_arm_a_probe_finds_independent_mapping_and_filtering_and_a_hairpin(lab: &Lab) -> Result<()> {
    a_probe_finds_independent_mapping_and_filtering_and_a_hairpin(lab)
}

/// Asks from inside, behind a gateway with these fields, and expects the classes of mapping and filtering that the probe
/// knows.
fn probe(lab: &Lab, fields: &str, classes: (&str, &str), hairpin: bool) -> Result<()> {
    let coturn = Coturn::start(lab)?;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()).gateway_option(fields))?;
    let [mapping, filtering, turned] = thread::scope(|scope| {
        ["-m", "-f", "-H"].map(|flag| scope.spawn(move || discover(lab, &[flag]))).map(|probe| probe.join())
    });
    let said = |answer: thread::Result<Result<String>>, expected: &str| -> Result<()> {
        let answer = answer.map_err(|_| anyhow!("the probe panicked"))??;
        ensure!(answer.contains(expected), "the probe does not say {expected:?} but: {answer}");
        ensure!(answer.contains("No ALG: Mapped == XOR-Mapped"), "the probe says: {answer}");
        Ok(())
    };
    let mappings = gateway.json(&["flows", "--mappings"])?;
    let is_listed = mappings.as_array().is_some_and(|mappings| !mappings.is_empty());
    ensure!(is_listed == (classes.0 == INDEPENDENT), "flows --mappings lists {mappings}");
    said(mapping, &format!("NAT with {} Mapping!", classes.0))?;
    said(filtering, &format!("NAT with {} Filtering!", classes.1))?;
    said(turned, if hairpin { "successful hairpinning" } else { "STUN receive timeout" })?;
    drop((gateway, coturn));
    Ok(())
}
