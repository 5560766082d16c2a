//! How to make a change that was made at run time last: the lines to write. Pure.

use std::{net::Ipv4Addr, path::Path};

use crate::config::{Arp, Config, ElasticIp};

/// What to write so that `address`, which `config` has by now, stays in use.
pub(super) fn to_keep_added(file: Option<&Path>, config: &Config, address: Ipv4Addr) -> String {
    let Some(file) = file else {
        return format!("start `natgw run` with `--elastic-ip {address}` besides");
    };
    let definition = config.elastic_ip(address).map(definition).unwrap_or_default();
    let gateway = config.owner(address).map_or("?", |gateway| gateway.name.as_str());
    format!(
        "write into {}:\n\n{definition}\nand in [[nat_gateway]] {gateway}:\n\n{}\n",
        file.display(),
        elastic_ips(config, gateway)
    )
}

/// What to write so that `address`, which `config` has no more, stays out of use.
pub(super) fn to_keep_removed(
    file: Option<&Path>,
    config: &Config,
    address: Ipv4Addr,
    gateway: &str,
) -> String {
    let Some(file) = file else {
        return format!("start `natgw run` without `--elastic-ip {address}`");
    };
    format!(
        "delete the [[elastic_ip]] {address} from {}, and write in [[nat_gateway]] {gateway}:\n\n{}\n",
        file.display(),
        elastic_ips(config, gateway)
    )
}

fn definition(elastic_ip: &ElasticIp) -> String {
    let ElasticIp { address, arp, ports, reserved_ports } = elastic_ip;
    let arp = if *arp == Arp::default() { String::new() } else { format!("arp = \"{arp}\"\n") };
    let ports = ports.as_ref().map_or_else(String::new, |ports| format!("ports = \"{ports}\"\n"));
    let reserved = if reserved_ports.is_empty() {
        String::new()
    } else {
        format!("reserved_ports = \"{reserved_ports}\"\n")
    };
    format!("[[elastic_ip]]\naddress = \"{address}\"\n{arp}{ports}{reserved}")
}

fn elastic_ips(config: &Config, gateway: &str) -> String {
    let addresses = config.nat_gateway(gateway).map_or(&[][..], |gateway| &gateway.elastic_ips);
    let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("elastic_ips = [{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NewElasticIp, SAMPLE};

    const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
    const FILE: &str = "natgw.toml";

    fn two() -> Config {
        let ports = Some("2000-2999".into());
        let wanted = NewElasticIp { address: SECOND, nat_gateway: None, arp: Some(Arp::Routed), ports };
        let sample = Config::from_toml(SAMPLE, Path::new(FILE)).unwrap();
        sample.with_elastic_ip(&wanted, None).unwrap()
    }

    /// The sample with the lines of some advice written where it says.
    fn written(advice: &str) -> Config {
        let list = advice.lines().find(|line| line.starts_with("elastic_ips")).unwrap();
        let mut text = SAMPLE.replace("elastic_ips = [\"203.0.113.10\"]", list);
        let definition = advice.lines().skip_while(|line| *line != "[[elastic_ip]]");
        definition.take_while(|line| !line.is_empty()).for_each(|line| text.push_str(&format!("\n{line}")));
        Config::from_toml(&text, Path::new(FILE)).unwrap()
    }

    #[test]
    fn the_lines_advised_make_an_added_elastic_ip_last() {
        let advice = to_keep_added(Some(Path::new(FILE)), &two(), SECOND);
        assert!(advice.starts_with("write into natgw.toml:\n"), "{advice}");
        assert_eq!(written(&advice), two());
    }

    #[test]
    fn the_line_advised_makes_a_removal_last() {
        let left = two().without_elastic_ip(FIRST).unwrap();
        let advice = to_keep_removed(Some(Path::new(FILE)), &left, FIRST, "nat-a");
        assert_eq!(
            advice,
            "delete the [[elastic_ip]] 203.0.113.10 from natgw.toml, and write in [[nat_gateway]] nat-a:\n\n\
             elastic_ips = [\"203.0.113.11\"]\n"
        );
    }

    #[test]
    fn where_there_is_no_file_flags_are_advised() {
        assert_eq!(
            to_keep_added(None, &two(), SECOND),
            "start `natgw run` with `--elastic-ip 203.0.113.11` besides"
        );
        let removed = to_keep_removed(None, &two(), SECOND, "nat");
        assert_eq!(removed, "start `natgw run` without `--elastic-ip 203.0.113.11`");
    }
}
