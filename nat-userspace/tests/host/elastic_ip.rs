//! Elastic IPs on interfaces.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use futures_util::TryStreamExt;
use nat_userspace::host::{Announced, HostError};
use rtnetlink::{
    LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        neighbour::NeighbourState,
    },
};

use crate::{
    Test,
    lab::{self, Arp, HOST_ADDRESS, Lab, REMOTE},
    tests,
};

const ELASTIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

pub fn trials() -> Vec<Test> {
    tests![
        an_announced_address_is_told_to_the_neighbours_once,
        an_announced_address_answers_arp,
        an_announced_address_is_never_the_source_of_the_hosts_own_traffic,
        withdrawing_takes_back_what_announcing_added,
        the_hosts_own_addresses_are_never_withdrawn,
        announcing_on_an_interface_that_is_gone_names_address_and_interface,
        announcing_on_an_interface_that_is_down_adds_the_address,
    ]
}

fn an_announced_address_is_told_to_the_neighbours_once() {
    lab::run(|lab| async move {
        let capture = lab.capture_arp();
        assert_eq!(lab.host.announce(lab.external, ELASTIC_IP).await.unwrap(), Announced::Added);
        assert_eq!(lab.host.announce(lab.external, ELASTIC_IP).await.unwrap(), Announced::Kept);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let told = Arp { broadcast: true, request: true, sender: ELASTIC_IP, target: ELASTIC_IP };
        assert_eq!(capture.packets(), [told]);
        assert_eq!(holders(&lab, ELASTIC_IP).await, 1);
    });
}

fn an_announced_address_answers_arp() {
    lab::run(|lab| async move {
        lab.host.announce(lab.external, ELASTIC_IP).await.unwrap();
        lab.on_remote(|remote| async move {
            let index = lab::index(&remote, REMOTE).await;
            remote.resolve(index, ELASTIC_IP).await.unwrap();
            lab::eventually("the remote resolves the Elastic IP", || async {
                let neighbours = remote.neighbours().await.unwrap();
                neighbours
                    .iter()
                    .any(|entry| entry.address == ELASTIC_IP && entry.state == NeighbourState::Reachable)
            })
            .await;
        });
    });
}

/// Even when it was on the interface first, and when the interface has no other address.
fn an_announced_address_is_never_the_source_of_the_hosts_own_traffic() {
    lab::run(|lab| async move {
        let pair = LinkVeth::new("second", "second-end").build();
        lab.host.handle().link().add(pair).execute().await.unwrap();
        let second = lab::set_up(&lab.host, "second").await;
        lab.host.announce(second, ELASTIC_IP).await.unwrap();
        let default = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(second).build();
        lab.host.handle().route().add(default).execute().await.unwrap();
        assert_eq!(source_toward([198, 51, 100, 7]), HOST_ADDRESS);

        lab::add_address(&lab.host, "second", Ipv4Addr::new(192, 0, 3, 1), 24).await;
        assert_eq!(source_toward([198, 51, 100, 7]), Ipv4Addr::new(192, 0, 3, 1));
    });
}

fn source_toward(destination: [u8; 4]) -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((Ipv4Addr::from(destination), 9)).unwrap();
    socket.local_addr().unwrap().ip()
}

fn withdrawing_takes_back_what_announcing_added() {
    lab::run(|lab| async move {
        let before = lab.host.facts().await.unwrap();
        lab.host.announce(lab.external, ELASTIC_IP).await.unwrap();
        assert_eq!(holders(&lab, ELASTIC_IP).await, 1);
        assert_eq!(lab.host.facts().await.unwrap(), before, "what natgw adds is no fact about the host");
        assert!(lab.host.withdraw(lab.external, ELASTIC_IP).await.unwrap());
        assert_eq!(holders(&lab, ELASTIC_IP).await, 0);
        assert!(!lab.host.withdraw(lab.external, ELASTIC_IP).await.unwrap());
    });
}

fn the_hosts_own_addresses_are_never_withdrawn() {
    lab::run(|lab| async move {
        lab.add_address(ELASTIC_IP, 32).await;
        for own in [HOST_ADDRESS, ELASTIC_IP] {
            assert_eq!(lab.host.announce(lab.external, own).await.unwrap(), Announced::Foreign);
            assert!(!lab.host.withdraw(lab.external, own).await.unwrap());
            assert_eq!(holders(&lab, own).await, 1);
        }
    });
}

fn announcing_on_an_interface_that_is_gone_names_address_and_interface() {
    lab::run(|lab| async move {
        let error = lab.host.announce(4711, ELASTIC_IP).await.unwrap_err();
        assert!(matches!(error, HostError::Netlink { .. }));
        let text = error.to_string();
        assert!(text.starts_with("cannot add 203.0.113.10 to interface 4711: No such device"), "{text}");
    });
}

fn announcing_on_an_interface_that_is_down_adds_the_address() {
    lab::run(|lab| async move {
        let down = LinkUnspec::new_with_index(lab.external).down().build();
        lab.host.handle().link().change(down).execute().await.unwrap();
        assert_eq!(lab.host.announce(lab.external, ELASTIC_IP).await.unwrap(), Announced::Added);
        assert_eq!(holders(&lab, ELASTIC_IP).await, 1);

        let capture = lab.capture_arp();
        lab::set_up(&lab.host, lab::EXTERNAL).await;
        lab.host.gratuitous_arp(lab.external, ELASTIC_IP).await.unwrap();
        lab::eventually("the neighbours are told", || async {
            capture.packets().iter().any(|arp| arp.sender == ELASTIC_IP)
        })
        .await;
    });
}

/// How often `address` stands on the lab's external interface.
async fn holders(lab: &Lab, address: Ipv4Addr) -> usize {
    let all = lab.host.handle().address().get().set_link_index_filter(lab.external).execute();
    let all: Vec<AddressMessage> = all.try_collect().await.unwrap();
    let address = AddressAttribute::Local(address.into());
    all.iter().filter(|message| message.attributes.contains(&address)).count()
}
