//! Neighbours found and confirmed without application traffic.

use std::{net::Ipv4Addr, time::Duration};

use nat_userspace::host::preflight::KernelVersion;
use rtnetlink::packet_route::neighbour::NeighbourState;
use tokio::time::sleep;

use crate::{
    Test,
    lab::{self, Arp, HOST_ADDRESS, Lab, REMOTE, REMOTE_ADDRESS, REMOTE_MAC},
    tests,
};

const LATECOMER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

pub fn trials() -> Vec<Test> {
    let mut trials = tests![
        an_unknown_neighbour_is_asked_for_at_once,
        a_stale_neighbour_is_confirmed_at_once_and_stays_in_use,
        a_neighbour_just_confirmed_is_not_asked_again,
        a_permanent_neighbour_is_left_alone,
        a_neighbour_that_failed_is_asked_for_again,
    ];
    // The first kernel with NTF_EXT_MANAGED.
    let since = KernelVersion { major: 5, minor: 16 };
    let kept = tests![
        a_kept_neighbour_that_comes_late_is_found_by_the_kernel_itself,
        resolving_a_kept_neighbour_keeps_it_kept,
    ];
    trials.extend(kept.into_iter().map(|test| Test { since, ..test }));
    trials
}

fn an_unknown_neighbour_is_asked_for_at_once() {
    lab::run(|lab| async move {
        let capture = lab.capture_arp();
        lab.host.resolve(lab.external, REMOTE_ADDRESS).await.unwrap();
        becomes(&lab, REMOTE_ADDRESS, NeighbourState::Reachable).await;
        assert_eq!(lab.neighbour(REMOTE_ADDRESS).await.unwrap().mac, Some(REMOTE_MAC));
        assert_eq!(requests(&capture), [request(true)]);
    });
}

fn a_stale_neighbour_is_confirmed_at_once_and_stays_in_use() {
    lab::run(|lab| async move {
        lab.set_neighbour(REMOTE_ADDRESS, REMOTE_MAC, NeighbourState::Stale).await;
        let capture = lab.capture_arp();
        lab.host.resolve(lab.external, REMOTE_ADDRESS).await.unwrap();
        assert_eq!(lab.neighbour(REMOTE_ADDRESS).await.unwrap().mac, Some(REMOTE_MAC));
        // The kernel's own way by state DELAY would take 5 s.
        sleep(Duration::from_millis(500)).await;
        assert_eq!(lab.neighbour(REMOTE_ADDRESS).await.unwrap().state, NeighbourState::Reachable);
        assert_eq!(requests(&capture), [request(false)]);
    });
}

fn a_neighbour_just_confirmed_is_not_asked_again() {
    lab::run(|lab| async move {
        lab.set_neighbour(REMOTE_ADDRESS, REMOTE_MAC, NeighbourState::Reachable).await;
        let capture = lab.capture_arp();
        lab.host.resolve(lab.external, REMOTE_ADDRESS).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        assert_eq!(requests(&capture), []);
    });
}

fn a_permanent_neighbour_is_left_alone() {
    lab::run(|lab| async move {
        let elsewhere = [2, 0, 0, 0, 0, 99];
        lab.set_neighbour(REMOTE_ADDRESS, elsewhere, NeighbourState::Permanent).await;
        lab.host.resolve(lab.external, REMOTE_ADDRESS).await.unwrap();
        lab.host.keep_resolved(lab.external, REMOTE_ADDRESS).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let neighbour = lab.neighbour(REMOTE_ADDRESS).await.unwrap();
        assert_eq!((neighbour.state, neighbour.mac), (NeighbourState::Permanent, Some(elsewhere)));
    });
}

fn a_neighbour_that_failed_is_asked_for_again() {
    lab::run(|lab| async move {
        lab.host.resolve(lab.external, LATECOMER).await.unwrap();
        becomes(&lab, LATECOMER, NeighbourState::Failed).await;
        assert_eq!(lab.neighbour(LATECOMER).await.unwrap().mac, None);
        latecomer_comes(&lab);
        lab.host.resolve(lab.external, LATECOMER).await.unwrap();
        becomes(&lab, LATECOMER, NeighbourState::Reachable).await;
    });
}

fn a_kept_neighbour_that_comes_late_is_found_by_the_kernel_itself() {
    lab::run(|lab| async move {
        lab.host.keep_resolved(lab.external, LATECOMER).await.unwrap();
        becomes(&lab, LATECOMER, NeighbourState::Failed).await;
        latecomer_comes(&lab);
        becomes(&lab, LATECOMER, NeighbourState::Reachable).await;
    });
}

fn resolving_a_kept_neighbour_keeps_it_kept() {
    lab::run(|lab| async move {
        lab.host.keep_resolved(lab.external, REMOTE_ADDRESS).await.unwrap();
        lab.host.keep_resolved(lab.external, LATECOMER).await.unwrap();
        becomes(&lab, REMOTE_ADDRESS, NeighbourState::Reachable).await;
        for address in [REMOTE_ADDRESS, LATECOMER] {
            lab.host.resolve(lab.external, address).await.unwrap();
            assert!(lab.neighbour(address).await.unwrap().managed, "{address}");
        }
    });
}

fn latecomer_comes(lab: &Lab) {
    lab.on_remote(|remote| async move { lab::add_address(&remote, REMOTE, LATECOMER, 24).await });
}

async fn becomes(lab: &Lab, address: Ipv4Addr, state: NeighbourState) {
    lab::eventually(&format!("{address} becomes {state}"), || async {
        lab.neighbour(address).await.is_some_and(|neighbour| neighbour.state == state)
    })
    .await;
}

fn request(broadcast: bool) -> Arp {
    Arp { broadcast, request: true, sender: HOST_ADDRESS, target: REMOTE_ADDRESS }
}

/// The requests the remote got from the host.
fn requests(capture: &lab::ArpCapture) -> Vec<Arp> {
    let packets = capture.packets().into_iter();
    packets.filter(|arp| arp.request && arp.sender == HOST_ADDRESS).collect()
}
