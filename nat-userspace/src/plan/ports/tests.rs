use super::*;
use crate::config::Arp;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

fn ports(text: &str) -> Ports {
    text.parse().unwrap()
}

fn elastic_ip(ports: Option<&str>, reserved: &str) -> ElasticIp {
    ElasticIp {
        address: ADDRESS,
        arp: Arp::Announce,
        ports: ports.map(|text| text.parse().unwrap()),
        reserved_ports: reserved.parse().unwrap(),
    }
}

fn bound(address: Option<Ipv4Addr>, port: u16) -> BoundPort {
    BoundPort { address, port, connected: false }
}

fn host(sockets: &[BoundPort]) -> HostPorts {
    HostPorts { ephemeral: ports("32768-60999"), reserved: Ports::NONE, bound: sockets.to_vec() }
}

fn lent(elastic_ip: &ElasticIp, host: &HostPorts) -> String {
    spare(elastic_ip, host).unwrap().ports.to_string()
}

#[test]
fn without_ports_the_hosts_ephemeral_range_is_spared() {
    let shared = spare(&elastic_ip(None, ""), &host(&[])).unwrap();
    assert_eq!(shared.ports.to_string(), "1024-32767,61000-65535");
    assert_eq!(shared.warnings, [""; 0]);
}

#[test]
fn sockets_on_the_address_or_on_all_are_spared_and_those_on_others_are_not() {
    let host = host(&[
        bound(Some(ADDRESS), 8080),
        bound(None, 9000),
        bound(Some(Ipv4Addr::LOCALHOST), 10_000),
        bound(None, 22),
    ]);
    assert_eq!(lent(&elastic_ip(None, ""), &host), "1024-8079,8081-8999,9001-32767,61000-65535");
    assert_eq!(lent(&elastic_ip(Some("8000-9999"), ""), &host), "8000-8079,8081-8999,9001-9999");
}

#[test]
fn reserved_ports_are_never_lent_and_neither_are_those_the_kernel_reserves() {
    let host = HostPorts { reserved: ports("30000-30010,40000"), ..host(&[]) };
    let lent = lent(&elastic_ip(None, "2000-2999,61000"), &host);
    assert_eq!(lent, "1024-1999,3000-29999,30011-32767,61001-65535");
}

#[test]
fn ports_asked_for_in_the_ephemeral_range_are_lent_with_a_warning() {
    let shared = spare(&elastic_ip(Some("1024-65535"), ""), &host(&[])).unwrap();
    assert_eq!(shared.ports, ports("1024-65535"));
    assert_eq!(shared.warnings.len(), 1);
    assert!(
        shared.warnings[0].starts_with("ports 32768-60999 are also the host's own ephemeral ports: "),
        "{shared:?}"
    );
    let kept_free = HostPorts { reserved: ports("40000-49999"), ..host(&[]) };
    let shared = spare(&elastic_ip(Some("40000-49999"), ""), &kept_free).unwrap();
    assert_eq!(shared.warnings, [""; 0], "the kernel hands none of them out");
}

#[test]
fn clients_of_the_host_make_no_holes_in_the_ephemeral_range_and_services_do() {
    let client = BoundPort { connected: true, ..bound(Some(ADDRESS), 40_000) };
    let elsewhere = BoundPort { connected: true, ..bound(Some(ADDRESS), 20_000) };
    let host = host(&[client, elsewhere, bound(None, 50_000)]);
    assert_eq!(lent(&elastic_ip(Some("20000-60000"), ""), &host), "20001-49999,50001-60000");
}

#[test]
fn with_too_many_holes_the_largest_ranges_are_lent_and_the_rest_is_told() {
    let sockets: Vec<_> = (0..200).map(|number| bound(None, 2_000 + number * 2)).collect();
    let shared = spare(&elastic_ip(None, ""), &host(&sockets)).unwrap();
    assert_eq!(shared.ports.ranges().len(), MAX_SHARED_RANGES);
    assert!(shared.ports.contains(1_024) && shared.ports.contains(65_535));
    assert!(shared.warnings[0].contains("202 ranges"), "{shared:?}");
}

#[test]
fn an_address_whose_ports_the_host_uses_all_is_refused_with_a_remedy() {
    let host = HostPorts { ephemeral: ports("1024-65535"), ..HostPorts::default() };
    let error = spare(&elastic_ip(None, ""), &host).unwrap_err();
    assert_eq!(error, PlanError::NoPorts { address: ADDRESS });
    assert!(error.to_string().contains("name ports"), "{error}");
}

/// A small generator of numbers: the same on every run.
fn random(state: &mut u64) -> u16 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 48) as u16
}

#[test]
fn of_any_host_every_port_is_lent_but_those_reserved_bound_or_ephemeral() {
    let mut state = 3;
    for round in 0..100 {
        let sockets: Vec<_> = (0..random(&mut state) % 60).map(|_| bound(None, random(&mut state))).collect();
        let at = random(&mut state);
        let reserved: Ports = Ports::range(at, at.saturating_add(random(&mut state) % 500));
        let asked = (round % 2 == 0).then_some("1024-65535");
        let shared = spare(&elastic_ip(asked, &reserved.to_string()), &host(&sockets)).unwrap();
        for port in 0..=u16::MAX {
            let own = reserved.contains(port)
                || sockets.iter().any(|socket| socket.port == port)
                || (asked.is_none() && (32_768..=60_999).contains(&port));
            assert_eq!(shared.ports.contains(port), port >= 1_024 && !own, "{port} in round {round}");
        }
    }
}
