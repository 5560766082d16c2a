//! The plan: a configuration as a tree, from the VPC to the Elastic IPs, for people.

use std::fmt::{self, Write};

use nat_common::table::table_bytes;

use crate::config::{Bursts, Config, IdleReset, Nacl, NatGateway, Subnet, Target, Vpc};

/// Describes `config`: VPC, subnets, routes, NAT gateways, Elastic IPs, then NACLs and timeouts.
pub(super) fn plan(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, config);
    text
}

fn write(out: &mut String, config: &Config) -> fmt::Result {
    for vpc in &config.vpcs {
        write_vpc(out, config, vpc)?;
    }
    for nacl in &config.nacls {
        write_nacl(out, config, nacl)?;
    }
    let timeouts = &config.timeouts;
    writeln!(
        out,
        "idle timeouts: tcp {} s established, {} s transitory, {} s closing; udp {} s; icmp {} s; fragments {} s{}{}",
        timeouts.tcp_established,
        timeouts.tcp_transitory,
        timeouts.tcp_closing,
        timeouts.udp,
        timeouts.icmp,
        timeouts.fragments,
        if timeouts.inbound_refresh { "" } else { "; inbound packets refresh neither udp nor icmp" },
        match config.idle_reset {
            IdleReset::OnSend => "",
            IdleReset::AtExpiry => "; idle tcp sessions are reset as they end",
            IdleReset::Off => "; no resets",
        }
    )?;
    writeln!(
        out,
        "mode {}, room for {} sessions in {} MB, at most {} icmp errors per second and cpu{}{}; elastic ips drain for {} s\n",
        config.mode,
        config.max_sessions,
        table_bytes(config.max_sessions).div_ceil(1_000_000),
        config.icmp_errors_per_second,
        if config.same_queue { ", answers on the same queue" } else { "" },
        match config.bursts {
            Bursts::Auto => "",
            Bursts::Always => ", always in bursts",
            Bursts::Never => ", never in bursts",
        },
        config.drain
    )
}

fn write_vpc(out: &mut String, config: &Config, vpc: &Vpc) -> fmt::Result {
    writeln!(out, "vpc {}  {}", vpc.name, joined(&vpc.cidr))?;
    let subnets = || config.subnets.iter().filter(|subnet| subnet.vpc == vpc.name);
    for subnet in subnets() {
        if let Some(table) = &subnet.route_table {
            write_private_subnet(out, config, subnet, table)?;
        }
    }
    for subnet in subnets() {
        for gateway in config.nat_gateways.iter().filter(|gateway| gateway.subnet == subnet.name) {
            write_gateway(out, config, gateway, subnet)?;
        }
    }
    writeln!(out)
}

fn write_private_subnet(out: &mut String, config: &Config, subnet: &Subnet, table: &str) -> fmt::Result {
    writeln!(
        out,
        "  private subnet {}  {}  on {}  nacl {}",
        subnet.name, subnet.cidr, subnet.interface, subnet.nacl
    )?;
    writeln!(out, "    route table {table}")?;
    for route in config.route_table(table).map_or(&[][..], |table| &table.routes) {
        let kind = if matches!(route.target, Target::NatGateway(_)) { "nat gateway " } else { "" };
        writeln!(out, "      {:<18} → {kind}{}", route.destination.to_string(), route.target)?;
    }
    Ok(())
}

fn write_gateway(out: &mut String, config: &Config, gateway: &NatGateway, subnet: &Subnet) -> fmt::Result {
    let sides = if gateway.nacl_both_sides { " (both sides)" } else { "" };
    writeln!(
        out,
        "  nat gateway {}  in {} {}  on {}  nacl {}{sides}",
        gateway.name, subnet.name, subnet.cidr, subnet.interface, subnet.nacl
    )?;
    for elastic_ip in gateway.elastic_ips.iter().filter_map(|address| config.elastic_ip(*address)) {
        let ports = elastic_ip.usable_ports();
        writeln!(
            out,
            "    elastic ip {:<15}  ports {ports} ({} toward each destination)  arp {}",
            elastic_ip.address.to_string(),
            ports.count(),
            elastic_ip.arp
        )?;
    }
    Ok(())
}

fn write_nacl(out: &mut String, config: &Config, nacl: &Nacl) -> fmt::Result {
    let users = config.subnets.iter().filter(|subnet| subnet.nacl == nacl.name).map(|subnet| &subnet.name);
    let users = joined(users);
    if users.is_empty() {
        return Ok(());
    }
    writeln!(out, "nacl {}  of {users}", nacl.name)?;
    for (direction, rules) in [("inbound", &nacl.inbound), ("outbound", &nacl.outbound)] {
        for rule in rules {
            let cidr = rule.cidr.to_string();
            let service = rule.service();
            writeln!(
                out,
                "  {direction:<8} {:>5}  {:<5}  {:<4}  {cidr:<18}  {service}",
                rule.number, rule.action, rule.protocol
            )?;
        }
        writeln!(out, "  {direction:<8}     *  deny   all   0.0.0.0/0           all")?;
    }
    writeln!(out)
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::SAMPLE;

    #[test]
    fn the_plan_leads_from_the_private_subnet_to_the_elastic_ip() {
        let plan = plan(&Config::from_toml(SAMPLE, Path::new("sample.toml")).unwrap());
        let lines = [
            "vpc main  10.0.0.0/16",
            "  private subnet private-a  10.0.1.0/24  on eth1  nacl default",
            "      0.0.0.0/0          → nat gateway nat-a",
            "      10.0.0.0/16        → local",
            "  nat gateway nat-a  in public-a 198.51.100.0/24  on eth0  nacl public",
            "    elastic ip 203.0.113.10     ports 1024-65535 (64512 toward each destination)  arp announce",
            "  inbound    130  allow  icmp  0.0.0.0/0           type 3",
        ];
        let mut rest = plan.lines();
        for line in lines {
            assert!(rest.any(|found| found == line), "{line} is missing or out of order in\n{plan}");
        }
    }
}
