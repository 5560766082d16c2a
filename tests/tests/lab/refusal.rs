//! Bad input: one clear message, exit status 2, nothing attached.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::natgw::{self, Natgw};
use natgw_tests::lab::process::Output;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::{Lab, Node, Plan};

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => an_unknown_field_is_refused,
        Plan::two_armed() => overlapping_cidrs_are_refused,
        Plan::two_armed() => an_elastic_ip_used_twice_is_refused,
        Plan::two_armed() => a_rule_number_used_twice_is_refused,
        Plan::two_armed() => a_missing_interface_is_refused,
        Plan::two_armed() => no_privilege_is_refused,
        Plan::two_armed() => a_missing_file_is_refused,
        Plan::two_armed() => verbs_without_a_gateway_say_that_nothing_runs,
    ]
}

fn an_unknown_field_is_refused(lab: &Lab) -> Result<()> {
    let text = format!("colour = \"blue\"\n{}", settings(lab).to_toml());
    refuse(lab, &text, "colour", Some("colour ="))
}

fn overlapping_cidrs_are_refused(lab: &Lab) -> Result<()> {
    let external = lab.plan().external();
    let text = format!(
        "\n[[subnet]]\nname = \"private-b\"\nvpc = \"main\"\ncidr = \"10.0.1.128/25\"\ninterface = \"{external}\"\n\
         route_table = \"private\"\n"
    );
    refuse(lab, &settings(lab).append(&text).to_toml(), "10.0.1.128/25", None)
}

fn an_elastic_ip_used_twice_is_refused(lab: &Lab) -> Result<()> {
    let text = "\n[[elastic_ip]]\naddress = \"203.0.113.10\"\n";
    refuse(lab, &settings(lab).append(text).to_toml(), "203.0.113.10", None)
}

fn a_rule_number_used_twice_is_refused(lab: &Lab) -> Result<()> {
    let rule = r#"{ rule = 100, action = "deny", protocol = "tcp", cidr = "0.0.0.0/0" }"#;
    refuse(lab, &settings(lab).outbound_rule(rule).to_toml(), "100", None)
}

fn a_missing_interface_is_refused(lab: &Lab) -> Result<()> {
    let text = settings(lab).to_toml().replace(lab.plan().internal(), "eth9");
    refuse(lab, &text, "eth9", Some("interface = \"eth9\""))
}

fn a_missing_file_is_refused(lab: &Lab) -> Result<()> {
    let gateway = Natgw::absent(lab)?;
    let output = gateway.cli(&["run", "--config", "/nonexistent/natgw.toml"])?;
    expect_refusal(&gateway, &output, "/nonexistent/natgw.toml")
}

/// Nobody may not load programs; the binary is copied to where nobody may run it.
fn no_privilege_is_refused(lab: &Lab) -> Result<()> {
    let gateway = Natgw::absent(lab)?;
    gateway.write(&settings(lab).to_toml())?;
    let copy = lab.directory().join("natgw");
    fs::copy(natgw::binary()?, &copy).context("cannot copy the binary")?;
    for path in [lab.directory(), &copy, gateway.config()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let (copy, pins, config) =
        (copy.to_string_lossy(), gateway.pins().to_string_lossy(), gateway.config().to_string_lossy());
    let command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", &copy];
    let command = [&command[..], &["--pin-dir", &pins, "run", "--config", &config]].concat();
    let output = lab.host(Node::Gateway).try_run(&command)?;
    expect_refusal(&gateway, &output, "CAP_BPF")
}

fn verbs_without_a_gateway_say_that_nothing_runs(lab: &Lab) -> Result<()> {
    let gateway = Natgw::absent(lab)?;
    for verb in ["status", "flows", "drops", "detach"] {
        let output = gateway.cli(&[verb])?;
        ensure!(
            output.status.code() == Some(1),
            "natgw {verb} ended with {}: {}",
            output.status,
            output.stderr
        );
        ensure!(output.stderr.lines().count() == 1, "natgw {verb} says: {:?}", output.stderr);
    }
    gateway.assert_nothing_attached()
}

fn settings(lab: &Lab) -> Settings {
    Settings::of(lab.plan())
}

/// `natgw run` and `natgw check` refuse `text` with the file and a line, naming `object`. With `at`, the line is the
/// first that contains it.
fn refuse(lab: &Lab, text: &str, object: &str, at: Option<&str>) -> Result<()> {
    let gateway = Natgw::absent(lab)?;
    gateway.write(text)?;
    let config = gateway.config().to_string_lossy();
    let output = gateway.cli(&["run", "--config", &config])?;
    expect_refusal(&gateway, &output, object)?;
    let (_, after) = output
        .stderr
        .split_once(&format!("{config}:"))
        .with_context(|| format!("no file: {}", output.stderr))?;
    let line: String = after.chars().take_while(char::is_ascii_digit).collect();
    let line: usize = line.parse().with_context(|| format!("no line number: {}", output.stderr))?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!((1..=lines.len()).contains(&line), "line {line} is not in the file: {}", output.stderr);
    if let Some(wanted) = at {
        let expected =
            lines.iter().position(|held| held.contains(wanted)).context("the text holds no such line")? + 1;
        ensure!(line == expected, "the message names line {line}, not {expected}: {}", output.stderr);
    }
    Ok(())
}

fn expect_refusal(gateway: &Natgw, output: &Output, object: &str) -> Result<()> {
    ensure!(output.status.code() == Some(2), "natgw ended with {}: {}", output.status, output.stderr);
    ensure!(output.stderr.contains(object), "the message does not name {object}: {}", output.stderr);
    ensure!(!output.stderr.contains("panicked"), "natgw panicked: {}", output.stderr);
    let messages = output.stderr.lines().filter(|line| line.starts_with("natgw: ")).count();
    ensure!(messages == 1, "{messages} messages instead of one: {}", output.stderr);
    gateway.assert_nothing_attached()
}
