//! On which external interfaces ports can be chosen so that answers come in on the queue of their session's packets.

use std::collections::BTreeSet;

use nat_common::rss::{KEY_BYTES, MAX_DEVICES, MAX_ENTRIES, Rss};
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::host::{HostFacts, HostRss};

/// Whether `same_queue` is in force on an external interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameQueue {
    /// The protocols it is in force for.
    pub protocols: Vec<String>,
    /// The queues that the interface receives on.
    pub queues: u32,
    /// Why it is not in force for others, each with its remedy.
    pub why_not: Vec<String>,
}

impl Plan {
    /// Describes the devices of the external interfaces, and says for each what that is worth.
    pub(super) fn add_rss(&mut self, facts: &HostFacts) {
        let interfaces: BTreeSet<u32> = self.gateways.iter().map(|gateway| gateway.ifindex).collect();
        for index in interfaces {
            let device = self.interfaces.get(&index).and_then(|role| facts.interface_at(role.device));
            let Some(device) = device else { continue };
            let (mut report, rss) = judge(&device.name, device.rss.as_ref());
            if let Some(rss) = rss {
                if self.rss.len() < MAX_DEVICES as usize {
                    self.rss.push(rss);
                    let number = self.rss.len() as u8;
                    let served = self.gateways.iter_mut().filter(|gateway| gateway.ifindex == index);
                    served.for_each(|gateway| gateway.rss = number);
                } else {
                    let why = format!("{MAX_DEVICES} interfaces have it already; use fewer external ones");
                    report = SameQueue { why_not: vec![why], ..SameQueue::default() };
                }
            }
            self.same_queue.insert(index, report);
        }
    }
}

/// What `rss` of `device` is good for.
fn judge(device: &str, rss: Option<&HostRss>) -> (SameQueue, Option<Rss>) {
    let off = |why| (SameQueue { why_not: vec![why], ..SameQueue::default() }, None);
    let Some(rss) = rss else {
        return off("its driver does not tell how it chooses queues; use another network card".to_owned());
    };
    let table = match usable_table(device, rss) {
        Ok(table) => table,
        Err(why) => return off(why),
    };
    let mut report = SameQueue { queues: queues(&table), ..SameQueue::default() };
    let mut bits = 0;
    for (name, has_ports, bit) in [("tcp", rss.tcp_ports, Rss::TCP), ("udp", rss.udp_ports, Rss::UDP)] {
        if has_ports {
            bits |= bit;
            report.protocols.push(name.to_owned());
        } else {
            report.why_not.push(format!(
                "for {name} it does not hash addresses and ports; set it with \
                 `ethtool -N {device} rx-flow-hash {name}4 sdfn`"
            ));
        }
    }
    let rss = if bits == 0 { None } else { Rss::new(&rss.key, &table, bits) };
    (report, rss)
}

/// The table of queues, if the data plane can follow the device's choice.
fn usable_table(device: &str, rss: &HostRss) -> Result<Vec<u16>, String> {
    let entries = rss.table.len();
    let table: Result<Vec<u16>, _> = rss.table.iter().map(|queue| u16::try_from(*queue)).collect();
    if rss.key.is_empty() || entries == 0 {
        return Err(
            "its driver does not tell the key and the table of its hash; use another network card".into()
        );
    }
    if !rss.toeplitz {
        return Err(format!(
            "its hash function is not Toeplitz; set it with `ethtool -X {device} hfunc toeplitz`"
        ));
    }
    if rss.symmetric {
        return Err(format!("it hashes symmetrically; set it with `ethtool -X {device} xfrm none`"));
    }
    if rss.key.len() < KEY_BYTES {
        return Err(format!(
            "its hash key has {} bytes, and {KEY_BYTES} are needed; use another network card",
            rss.key.len()
        ));
    }
    match table {
        Ok(table) if entries.is_power_of_two() && entries <= MAX_ENTRIES => {
            if queues(&table) < 2 {
                return Err(format!(
                    "it receives on one queue; give it more with `ethtool -L` and `ethtool -X {device} default`"
                ));
            }
            Ok(table)
        }
        _ => Err(format!(
            "its table of queues has {entries} entries, and the data plane takes a power of two up to {MAX_ENTRIES}; \
             use another network card"
        )),
    }
}

/// How many different queues a table names.
fn queues(table: &[u16]) -> u32 {
    table.iter().collect::<BTreeSet<_>>().len() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rss() -> HostRss {
        HostRss {
            toeplitz: true,
            symmetric: false,
            key: vec![1; 40],
            table: (0..128).map(|entry| entry % 8).collect(),
            tcp_ports: true,
            udp_ports: true,
        }
    }

    fn why_not(rss: &HostRss) -> String {
        let (report, described) = judge("eth0", Some(rss));
        assert!(described.is_none() && report.protocols.is_empty(), "{report:?}");
        report.why_not.join("\n")
    }

    #[test]
    fn a_device_that_hashes_ports_is_described() {
        let (report, described) = judge("eth0", Some(&rss()));
        assert_eq!((report.protocols.join(" "), report.queues), ("tcp udp".into(), 8));
        assert!(report.why_not.is_empty());
        let described = described.unwrap();
        assert_eq!([0, 1, 9].map(|hash| described.queue(hash)), [0, 1, 1]);
        assert!(described.hashes(6) && described.hashes(17));
    }

    #[test]
    fn a_protocol_whose_ports_are_not_hashed_is_left_out_with_the_remedy() {
        let (report, described) = judge("eth0", Some(&HostRss { udp_ports: false, ..rss() }));
        assert_eq!(report.protocols, ["tcp"]);
        assert_eq!(
            report.why_not,
            [
                "for udp it does not hash addresses and ports; set it with `ethtool -N eth0 rx-flow-hash udp4 sdfn`"
            ]
        );
        let described = described.unwrap();
        assert!(described.hashes(6) && !described.hashes(17));
        let (report, described) =
            judge("eth0", Some(&HostRss { udp_ports: false, tcp_ports: false, ..rss() }));
        assert_eq!((report.why_not.len(), described), (2, None));
    }

    #[test]
    fn a_device_whose_choice_cannot_be_followed_is_left_out_with_the_reason() {
        assert!(judge("eth0", None).0.why_not[0].starts_with("its driver does not tell how"));
        assert!(why_not(&HostRss { key: vec![], ..rss() }).contains("does not tell the key"));
        assert!(why_not(&HostRss { table: vec![], ..rss() }).contains("does not tell the key"));
        assert!(why_not(&HostRss { toeplitz: false, ..rss() }).contains("hfunc toeplitz"));
        assert!(why_not(&HostRss { symmetric: true, ..rss() }).contains("xfrm none"));
        assert!(why_not(&HostRss { key: vec![1; 15], ..rss() }).contains("15 bytes"));
        assert!(why_not(&HostRss { table: vec![0; 128], ..rss() }).contains("one queue"));
        for table in [vec![0, 1, 2], vec![0; 4_096], vec![0, 70_000]] {
            let entries = format!("{} entries", table.len());
            assert!(why_not(&HostRss { table, ..rss() }).contains(&entries));
        }
    }
}
