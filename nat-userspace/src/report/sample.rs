//! A gateway made by hand, for the tests of reports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use nat_common::{protocol, tcp::Phase};

use crate::config::{Config, SAMPLE};
use crate::datapath::{Applied, AppliedInterface, BurstState, Flow, Session};

/// The one Elastic IP of the sample configuration.
pub const ELASTIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// The sample configuration in force on eth1 (index 2, internal) and eth0 (index 3, external).
pub fn applied() -> Applied {
    let config = Config::from_toml(SAMPLE, Path::new("sample.toml")).unwrap();
    let interface = |name: &str, index, role: &str| AppliedInterface {
        name: name.to_owned(),
        index,
        device: name.to_owned(),
        roles: vec![role.to_owned()],
        mode: "xdp-native".to_owned(),
        why: "the driver offers it".to_owned(),
        same_queue: None,
    };
    let interfaces = vec![interface("eth1", 2, "internal"), interface("eth0", 3, "external")];
    let bursts = BurstState { on: false, why: "the processor's cache holds the sessions".to_owned() };
    Applied { interfaces, bursts, ..Applied::new(4711, config) }
}

/// An established TCP session from 10.0.1.5 to 192.0.2.80:443, opened at tick 100 and last seen at tick 200.
pub fn session(internal_port: u16, external_port: u16) -> Session {
    Session {
        protocol: protocol::TCP,
        zone: 1,
        internal: SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 5), internal_port),
        external: SocketAddrV4::new(ELASTIC_IP, external_port),
        remote: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 80), 443),
        phase: Some(Phase::Established),
        opened: 100,
        outbound: Flow { packets: 10, bytes: 1_000, last_seen: 200 },
        inbound: Flow { packets: 20, bytes: 30_000, last_seen: 190 },
    }
}
