//! Changes as they happen.

use std::{net::Ipv4Addr, time::Duration};

use futures_util::{Stream, StreamExt};
use nat_userspace::host::{HostChange, batched};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder, packet_route::neighbour::NeighbourState};
use tokio::time::timeout;

use crate::{
    Test,
    lab::{self, Lab, REMOTE_ADDRESS, REMOTE_MAC},
    tests,
};

const MOVED_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];

pub fn trials() -> Vec<Test> {
    tests![
        interfaces_that_come_change_and_go_are_told,
        an_address_that_comes_and_goes_is_told,
        an_address_added_again_is_no_change,
        a_route_that_comes_and_goes_is_told,
        a_neighbour_is_told_when_its_mac_changes_and_not_when_it_ages,
        a_neighbour_that_stops_answering_is_told,
        a_burst_of_changes_is_one_batch,
        lost_changes_are_told,
    ]
}

fn interfaces_that_come_change_and_go_are_told() {
    lab::run(|lab| async move {
        let mut changes = lab.host.watch().await.unwrap();
        let links = lab.host.handle().link();
        links.add(LinkVeth::new("new", "new-end").build()).execute().await.unwrap();
        let ifindex = lab::index(&lab.host, "new").await;
        let link = HostChange::Link { ifindex };
        assert!(told(&mut changes).await.contains(&link));
        links.change(LinkUnspec::new_with_index(ifindex).mtu(1400).build()).execute().await.unwrap();
        assert!(told(&mut changes).await.contains(&link));
        // The kernel tells of this too, but it changes nothing for natgw.
        links.change(LinkUnspec::new_with_index(ifindex).promiscuous(true).build()).execute().await.unwrap();
        assert_eq!(told(&mut changes).await, []);
        links.del(ifindex).execute().await.unwrap();
        assert!(told(&mut changes).await.contains(&link));
    });
}

fn an_address_that_comes_and_goes_is_told() {
    lab::run(|lab| async move {
        let elastic_ip = Ipv4Addr::new(203, 0, 113, 10);
        let mut changes = settled(&lab).await;
        lab.host.announce(lab.external, elastic_ip).await.unwrap();
        assert!(told(&mut changes).await.contains(&HostChange::Address));
        lab.host.withdraw(lab.external, elastic_ip).await.unwrap();
        assert!(told(&mut changes).await.contains(&HostChange::Address));
    });
}

fn an_address_added_again_is_no_change() {
    lab::run(|lab| async move {
        let mut changes = settled(&lab).await;
        let again = lab.host.handle().address().add(lab.external, lab::HOST_ADDRESS.into(), 24);
        again.replace().execute().await.unwrap();
        assert_eq!(told(&mut changes).await, []);
    });
}

fn a_route_that_comes_and_goes_is_told() {
    lab::run(|lab| async move {
        let mut changes = settled(&lab).await;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(REMOTE_ADDRESS).build();
        lab.host.handle().route().add(route.clone()).execute().await.unwrap();
        assert_eq!(told(&mut changes).await, [HostChange::Route]);
        lab.host.handle().route().del(route).execute().await.unwrap();
        assert_eq!(told(&mut changes).await, [HostChange::Route]);
    });
}

fn a_neighbour_is_told_when_its_mac_changes_and_not_when_it_ages() {
    lab::run(|lab| async move {
        let mut changes = settled(&lab).await;
        lab.set_neighbour(REMOTE_ADDRESS, REMOTE_MAC, NeighbourState::Reachable).await;
        assert_eq!(told(&mut changes).await, [neighbour(&lab, None, Some(REMOTE_MAC))]);
        lab.set_neighbour(REMOTE_ADDRESS, REMOTE_MAC, NeighbourState::Stale).await;
        lab.set_neighbour(REMOTE_ADDRESS, REMOTE_MAC, NeighbourState::Reachable).await;
        assert_eq!(told(&mut changes).await, []);
        lab.set_neighbour(REMOTE_ADDRESS, MOVED_MAC, NeighbourState::Reachable).await;
        assert_eq!(told(&mut changes).await, [neighbour(&lab, Some(REMOTE_MAC), Some(MOVED_MAC))]);
    });
}

fn a_neighbour_that_stops_answering_is_told() {
    lab::run(|lab| async move {
        let changes = settled(&lab).await;
        lab.set_neighbour(REMOTE_ADDRESS, MOVED_MAC, NeighbourState::Stale).await;
        lab.on_remote(|remote| async move {
            let index = lab::index(&remote, lab::REMOTE).await;
            let down = LinkUnspec::new_with_index(index).arp(false).build();
            remote.handle().link().change(down).execute().await.unwrap();
        });
        lab.host.resolve(lab.external, REMOTE_ADDRESS).await.unwrap();
        let lost = neighbour(&lab, Some(MOVED_MAC), None);
        let found =
            timeout(Duration::from_secs(10), changes.any(|change| std::future::ready(change == lost)));
        assert_eq!(found.await, Ok(true));
    });
}

fn a_burst_of_changes_is_one_batch() {
    lab::run(|lab| async move {
        let mut batches = Box::pin(batched(settled(&lab).await, Duration::from_millis(200)));
        add_routes(&lab, 50);
        assert_eq!(timeout(Duration::from_secs(5), batches.next()).await, Ok(Some(vec![HostChange::Route])));
        assert!(timeout(Duration::from_millis(300), batches.next()).await.is_err());
    });
}

fn lost_changes_are_told() {
    lab::run(|lab| async move {
        let mut changes = settled(&lab).await;
        add_routes(&lab, 5000);
        assert!(told(&mut changes).await.contains(&HostChange::Missed));
    });
}

/// Adds `count` routes while nobody on the test's thread can read the news of it.
fn add_routes(lab: &Lab, count: u32) {
    lab.meanwhile_on_host(|host| async move {
        for number in 0..count {
            let destination = Ipv4Addr::from(0x0a00_0000 | number);
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(destination, 32);
            host.handle().route().add(route.gateway(REMOTE_ADDRESS).build()).execute().await.unwrap();
        }
    });
}

/// A watch, begun after the stir of the lab's own making.
async fn settled(lab: &Lab) -> impl Stream<Item = HostChange> + Unpin + use<> {
    let mut changes = lab.host.watch().await.unwrap();
    told(&mut changes).await;
    changes
}

/// What is told within a quarter of a second.
async fn told(changes: &mut (impl Stream<Item = HostChange> + Unpin)) -> Vec<HostChange> {
    let mut told = Vec::new();
    let mut end = std::pin::pin!(tokio::time::sleep(Duration::from_millis(250)));
    loop {
        tokio::select! {
            Some(change) = changes.next() => told.push(change),
            () = &mut end => return told,
        }
    }
}

fn neighbour(lab: &Lab, before: Option<[u8; 6]>, mac: Option<[u8; 6]>) -> HostChange {
    HostChange::Neighbour { ifindex: lab.external, address: REMOTE_ADDRESS, before, mac }
}
