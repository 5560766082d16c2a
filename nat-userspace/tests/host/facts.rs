//! What the host looks like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use rtnetlink::{LinkUnspec, RouteMessageBuilder, RouteNextHopBuilder, packet_route::route::RouteType};

use crate::{
    Test,
    lab::{self, EXTERNAL, HOST_ADDRESS, REMOTE, REMOTE_MAC},
    tests,
};

pub fn trials() -> Vec<Test> {
    tests![
        an_interface_tells_its_kind_mtu_mac_and_addresses,
        an_interface_without_carrier_is_not_up,
        a_device_whose_driver_tells_nothing_of_its_queues_has_no_rss,
        every_address_of_the_host_is_local,
        next_hops_of_plain_and_multipath_routes_in_all_tables_are_gateways,
    ]
}

fn an_interface_tells_its_kind_mtu_mac_and_addresses() {
    lab::run(|lab| async move {
        lab.add_address(Ipv4Addr::new(198, 51, 100, 1), 28).await;
        let facts = lab.host.facts().await.unwrap();
        let external = facts.interface(EXTERNAL).unwrap();
        assert_eq!(Some(external), facts.interface_at(lab.external));
        assert_eq!((external.driver_kind.as_deref(), external.mtu), (Some("veth"), 1500));
        assert_eq!((external.parent, external.vlan, external.up), (None, None, true));
        let addresses: Vec<Ipv4Net> =
            vec!["192.0.2.1/24".parse().unwrap(), "198.51.100.1/28".parse().unwrap()];
        assert_eq!(external.addresses, addresses);

        let remote = lab.on_remote(|remote| async move { remote.facts().await.unwrap() });
        assert_eq!(remote.interface(REMOTE).unwrap().mac, REMOTE_MAC);
    });
}

fn an_interface_without_carrier_is_not_up() {
    lab::run(|lab| async move {
        lab.on_remote(|remote| async move {
            let down = LinkUnspec::new_with_name(REMOTE).down().build();
            remote.handle().link().change(down).execute().await.unwrap();
        });
        lab::eventually("the carrier is lost", || async {
            !lab.host.facts().await.unwrap().interface(EXTERNAL).unwrap().up
        })
        .await;
    });
}

fn a_device_whose_driver_tells_nothing_of_its_queues_has_no_rss() {
    lab::run(|lab| async move {
        let mut facts = lab.host.facts().await.unwrap();
        let before = facts.clone();
        facts.add_rss([EXTERNAL, "no-such-device0"]);
        assert_eq!(facts, before);
    });
}

fn every_address_of_the_host_is_local() {
    lab::run(|lab| async move {
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        lab.host.handle().address().add(lab.external, v6.into(), 64).execute().await.unwrap();
        let locals = lab.host.facts().await.unwrap().locals;
        for address in [IpAddr::V4(HOST_ADDRESS), v6.into(), Ipv4Addr::LOCALHOST.into()] {
            assert!(locals.contains(&address), "{address} is not among {locals:?}");
        }
    });
}

fn next_hops_of_plain_and_multipath_routes_in_all_tables_are_gateways() {
    lab::run(|lab| async move {
        let hop = |last| Ipv4Addr::new(192, 0, 2, last);
        let route =
            |network: [u8; 4]| RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network.into(), 24);
        let path = |last| {
            let path = RouteNextHopBuilder::new_ipv4().interface(lab.external);
            path.via(hop(last).into()).unwrap().build()
        };
        let routes = [
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(hop(9)).build(),
            route([198, 51, 100, 0]).multipath(vec![path(11), path(10)]).build(),
            route([203, 0, 113, 0]).table_id(1000).gateway(hop(12)).build(),
            route([203, 0, 112, 0]).gateway(hop(9)).build(),
            route([203, 0, 111, 0]).kind(RouteType::BlackHole).build(),
        ];
        for route in routes {
            lab.host.handle().route().add(route).execute().await.unwrap();
        }
        let expected = [9, 10, 11, 12].map(|last| (lab.external, hop(last)));
        assert_eq!(lab.host.facts().await.unwrap().gateways, expected);
    });
}
