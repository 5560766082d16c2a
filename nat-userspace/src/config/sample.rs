//! The sample that `natgw config sample` prints: the documentation of every field.

/// A commented configuration file with every field.
pub const SAMPLE: &str = include_str!("sample.toml");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Arp, Config, PerHost, Protocol, Target};

    fn sample() -> Config {
        Config::from_toml(SAMPLE, Path::new("sample.toml")).unwrap()
    }

    #[test]
    fn the_sample_is_valid_and_gives_no_warning() {
        assert_eq!(sample().warnings(), []);
    }

    #[test]
    fn the_samples_values_are_the_defaults_where_there_are_any() {
        let sample = sample();
        let bare = Config::from_toml("", Path::new("bare.toml")).unwrap();
        assert_eq!((sample.mode, sample.timeouts), (bare.mode, bare.timeouts));
        assert_eq!(sample.max_sessions, bare.max_sessions);
        assert_eq!(sample.icmp_errors_per_second, bare.icmp_errors_per_second);
        assert_eq!((sample.same_queue, sample.drain), (bare.same_queue, bare.drain));
        assert_eq!((sample.idle_reset, sample.bursts), (bare.idle_reset, bare.bursts));
        assert_eq!(sample.fragments, bare.fragments);
        assert_eq!(sample.max_fragmented_datagrams, bare.max_fragmented_datagrams);
        let address = &sample.elastic_ips[0];
        assert_eq!((address.arp, address.usable_ports().to_string().as_str()), (Arp::Announce, "1024-65535"));
        assert!(address.reserved_ports.is_empty());
        assert!(!sample.nat_gateways[0].nacl_both_sides);
        assert_eq!(sample.nat_gateways[0].per_host, PerHost::default());
    }

    #[test]
    fn the_sample_leads_the_private_subnet_out_by_its_nat_gateway() {
        let sample = sample();
        let subnet = sample.subnet("private-a").unwrap();
        let table = sample.route_table(subnet.route_table.as_deref().unwrap()).unwrap();
        let default = table.routes.iter().find(|route| route.destination.prefix_len() == 0).unwrap();
        assert_eq!(default.target, Target::NatGateway("nat-a".to_owned()));
    }

    #[test]
    fn the_samples_public_nacl_lets_replies_of_every_protocol_in() {
        let sample = sample();
        let inbound = &sample.nacl("public").unwrap().inbound;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert!(
                inbound.iter().any(|rule| rule.protocol == protocol && rule.ports == Some((1024, 65535)))
            );
        }
        for kind in [0, 3, 11] {
            assert!(inbound.iter().any(|rule| rule.icmp.is_some_and(|icmp| icmp.kind == kind)));
        }
    }

    /// Asks the reader itself for its fields, so that a new one cannot be forgotten here.
    #[test]
    fn every_known_field_stands_in_the_sample() {
        let probes = [
            "[gateway]\nx = 1",
            "[timeouts]\nx = 1",
            "[[vpc]]\nx = 1",
            "[[subnet]]\nx = 1",
            "[[elastic_ip]]\nx = 1",
            "[[nat_gateway]]\nx = 1",
            "[[route_table]]\nx = 1",
            "[[route_table]]\nroutes = [{ x = 1 }]",
            "[[nacl]]\nx = 1",
            "[[nacl]]\ninbound = [{ x = 1 }]",
        ];
        for probe in probes {
            let header = probe.lines().next().unwrap();
            assert!(SAMPLE.contains(header), "{header}");
            let refusal = Config::from_toml(probe, Path::new("probe.toml")).unwrap_err().to_string();
            let known = refusal.split("unknown field `x`").nth(1).unwrap();
            let fields: Vec<_> = known.split('`').skip(1).step_by(2).collect();
            assert!(fields.len() > 1, "{refusal}");
            for field in fields {
                assert!(SAMPLE.contains(&format!("{field} = ")), "{field}");
            }
        }
    }
}
