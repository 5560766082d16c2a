//! Remotes toward which ports run short: told before sessions fail, and their port maps kept.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nat_common::flow::raw;

use crate::{
    datapath::{BusyRemote, BusyRemotes, DatapathError, Maps, now},
    plan::Plan,
    report::protocol_name,
};

/// How often the port maps are looked at.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// Percent of an Elastic IP's ports taken toward one remote at which that is told, and below which it may be told anew.
const LEVELS: [u64; 2] = [80, 95];
const CALM: u64 = 70;
/// Ticks after the last search for a port, when few ports are taken, until a port map is put away.
const IDLE: u32 = 60;
/// The same, however many are taken, where another remote needs the room.
const IDLE_IN_A_CROWD: u32 = 5;
/// "Few": one port in so many.
const FEW: u32 = 8;
/// Longer than any packet stays in the data plane.
const GRACE: Duration = Duration::from_secs(3);
/// Internal hosts named in a warning.
const NAMED: usize = 3;

/// What is known of the port maps.
pub(super) struct Busy {
    remotes: BusyRemotes,
    /// By number: whose it was, and how many of the levels it has passed.
    known: HashMap<u32, (BusyRemote, usize)>,
    /// By number: since when nobody finds it any more.
    retired: HashMap<u32, Instant>,
}

impl Busy {
    /// The port maps beside `maps`.
    pub(super) fn new(maps: &Maps) -> Result<Self, DatapathError> {
        Ok(Self { remotes: BusyRemotes::new(maps)?, known: HashMap::new(), retired: HashMap::new() })
    }

    /// Completes port maps that have begun, tells of remotes whose ports run short, and puts away what is idle.
    pub(super) fn keep(&mut self, plan: &Plan) {
        let all = self.remotes.all();
        self.known.retain(|number, (known, _)| {
            all.iter().any(|(other, remote)| number == other && known.is_same(remote))
        });
        for (number, remote) in &all {
            if !self.known.contains_key(number) {
                self.remotes.complete(*number);
            }
            self.tell(*number, remote, plan);
            if self.is_idle(*number, remote, plan) {
                self.remotes.retire(*number);
            }
        }
        self.free_retired();
    }

    fn is_idle(&self, number: u32, remote: &BusyRemote, plan: &Plan) -> bool {
        let idle = now().saturating_sub(remote.searched);
        let few = remote.taken < ports_of(remote, plan) / FEW;
        idle > IDLE && few || idle > IDLE_IN_A_CROWD && self.remotes.is_crowded(number)
    }

    /// One warning when a level is passed.
    fn tell(&mut self, number: u32, remote: &BusyRemote, plan: &Plan) {
        let ports = ports_of(remote, plan);
        let percent = u64::from(remote.taken) * 100 / u64::from(ports.max(1));
        let passed = LEVELS.iter().filter(|level| percent >= **level).count();
        let (_, told) = self.known.entry(number).or_insert((*remote, 0));
        if percent < CALM {
            *told = 0;
        }
        if passed <= *told || ports == 0 {
            return;
        }
        *told = passed;
        let holders = self.remotes.holders(number);
        let named: Vec<_> =
            holders.iter().take(NAMED).map(|(host, ports)| format!("{host} ({ports})")).collect();
        tracing::warn!(
            elastic_ip = %remote.elastic_ip,
            destination = %remote.remote.map_or_else(|| "any".to_owned(), |remote| remote.to_string()),
            protocol = %protocol_name(remote.protocol),
            taken = remote.taken,
            ports,
            "ports run short: {percent} % of this Elastic IP's are taken toward this destination, most by {}; give the \
             NAT gateway another Elastic IP",
            named.join(", ")
        );
    }

    fn free_retired(&mut self) {
        let waiting: Vec<_> = self.remotes.retired().collect();
        self.retired.retain(|number, _| waiting.contains(number));
        for number in waiting {
            if self.retired.entry(number).or_insert_with(Instant::now).elapsed() > GRACE {
                self.remotes.free(number);
            }
        }
    }
}

/// How many ports of its Elastic IP are lent.
fn ports_of(remote: &BusyRemote, plan: &Plan) -> u32 {
    let address = raw(remote.elastic_ip);
    plan.lent.iter().find(|lent| lent.address == address).map_or(0, |lent| lent.ports)
}
