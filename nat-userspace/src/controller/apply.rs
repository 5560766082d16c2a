//! From one configuration to the next: everything that can be refused comes first, then the maps change at once.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use nat_common::flow::raw;

use super::{Controller, Desired, drain, plan_for, report_shared, report_warnings};
use crate::{
    config::{Config, IdleReset},
    datapath::{AppliedInterface, DatapathError, Hook, choices, native_xdp_carries, tc_hook},
    host::{
        Announced, HostFacts, HostInterface,
        preflight::{self, KernelVersion},
    },
    plan::{self, Plan},
};

/// How long to wait for the next hops that the routing table names, before the gateway is called ready.
const RESOLVE: Duration = Duration::from_millis(1_500);

/// Refuses a hook that would lose frames of one of the devices.
fn suits(devices: &[&HostInterface], hook: Hook, kernel: KernelVersion) -> Result<(), DatapathError> {
    let lost = |device: &&&HostInterface| !native_xdp_carries(device.mtu, kernel);
    match devices.iter().find(lost).filter(|_| hook == Hook::XdpNative) {
        None => Ok(()),
        Some(device) => Err(DatapathError::Attach {
            interface: device.name.clone(),
            cause: format!("Linux {kernel} redirects no frames as large as its MTU of {}", device.mtu),
            remedy: "; lower it to 3,498 or less, use mode = \"tc\", or Linux 6.3 or later",
            held: false,
        }),
    }
}

impl Controller {
    /// Reads the configuration again and puts it into force, or says why not; then the old one is still in force.
    pub(super) async fn reload(&mut self) -> Result<u32> {
        let config = self.args.configuration()?;
        let facts = self.facts_for(&config).await?;
        let desired = Desired::after(&self.applied, config);
        let plan = plan_for(&self.args, &desired, &facts)?;
        let config = &desired.config;
        if *config == self.config && plan == self.plan {
            self.applied.changes = desired.changes;
            self.datapath.maps.set_applied(&self.applied)?;
            return self.generation();
        }
        report_warnings(config, &facts, &plan);
        if config.max_sessions != self.config.max_sessions {
            tracing::warn!("max_sessions takes effect after `natgw detach` and a new start");
        }
        if config.idle_reset == IdleReset::AtExpiry && !self.datapath.resets_at_expiry() {
            tracing::warn!("idle_reset = \"at-expiry\" takes effect at the next start");
        }
        let (before, after) = (self.applied.clone(), desired.clone());
        self.put_into_force(desired, plan, &facts).await?;
        drain::report(&before, &after);
        self.generation()
    }

    /// Follows a change of the host: its addresses, and whatever of the plan depends on them; where packets leave, if
    /// the change `concerns` that.
    pub(super) async fn follow_host(&mut self, concerns: bool) -> Result<()> {
        crate::host::enable_fib_lookup()?;
        let facts = self.facts_for(&self.config.clone()).await?;
        let desired = self.desired();
        let plan = plan_for(&self.args, &desired, &facts);
        if plan.as_ref().map_or(true, |plan| self.bursts_change(plan, &facts)) {
            self.suspend_bursts();
        }
        self.datapath.maps.set_locals(&plan::locals(&facts))?;
        let plan = plan?;
        if plan.shared != self.plan.shared {
            report_shared(&plan);
        }
        if plan != self.plan {
            self.put_into_force(desired, plan, &facts).await?;
            return Ok(());
        }
        self.plan_bursts_again(&facts);
        self.keep_bursts();
        if concerns {
            self.datapath.maps.renew_generation()?;
        }
        Ok(())
    }

    /// Attaches what is new, changes the maps, and lets go of what is no longer named.
    pub(super) async fn put_into_force(
        &mut self,
        desired: Desired,
        plan: Plan,
        facts: &HostFacts,
    ) -> Result<()> {
        self.end_bursts();
        let attached = self.attach(&desired.config, &plan, facts)?;
        let known = self.applied.announced.len();
        let announced = self.announce(&plan).await;
        if let Err(error) = announced.and_then(|()| Ok(self.datapath.maps.apply(&plan)?)) {
            let added = self.applied.announced.split_off(known);
            self.withdraw(added).await;
            return Err(error);
        }
        let withdrawn = self.applied.addresses().any(|address| !plan.elastic_ips.contains_key(&raw(address)));
        // From here on it is in force: what fails is told after it was written down.
        let detached = self.detach_others(&plan, facts);
        self.withdraw_others(&plan).await;
        let counted =
            if plan.counts_hosts() || self.plan.counts_hosts() { self.datapath.recount() } else { Ok(()) };
        let aged = if withdrawn { self.datapath.age(true, 0).map(drop) } else { Ok(()) };
        let Desired { config, draining, changes } = desired;
        self.watch.begin(&draining);
        self.config = config;
        self.plan = plan;
        self.rhythm.hurry(Instant::now(), self.shortest_timeout());
        self.host_ports.clone_from(&facts.ports);
        self.applied.pid = std::process::id();
        self.applied.config = self.config.clone();
        self.applied.draining = draining;
        self.applied.changes = changes;
        self.applied.interfaces = attached;
        self.applied.shared.clone_from(&self.plan.shared);
        self.plan_bursts(facts);
        self.datapath.maps.set_applied(&self.applied)?;
        self.keep_bursts();
        detached.and(aged.and(counted).map_err(Into::into))?;
        self.resolve_next_hops(facts).await;
        Ok(())
    }

    /// Attaches every device of the plan, at the best hook that all of them take.
    fn attach(&mut self, config: &Config, plan: &Plan, facts: &HostFacts) -> Result<Vec<AppliedInterface>> {
        let devices: Vec<_> = plan.devices.iter().filter_map(|index| facts.interface_at(*index)).collect();
        let kinds = devices.iter().map(|device| (device.name.as_str(), device.driver_kind.as_deref()));
        let kernel = preflight::kernel()?;
        let tc = tc_hook(self.args.tc_attach, kernel);
        let mut choices = choices(config.mode, &tc, kinds).into_iter();
        let mut failed: Option<DatapathError> = None;
        let choice = loop {
            let Some(mut choice) = choices.next() else {
                return Err(
                    failed.map_or_else(|| anyhow!("the configuration names no interface"), Into::into)
                );
            };
            if let Some(error) = &failed {
                choice.why = format!("{} ({error})", choice.why);
            }
            let attached =
                suits(&devices, choice.hook, kernel).and_then(|()| self.attach_all(&devices, choice.hook));
            match attached {
                Ok(()) => break choice,
                Err(error @ DatapathError::Attach { held: false, .. }) => failed = failed.or(Some(error)),
                Err(error) => return Err(error.into()),
            }
        };
        let interfaces = plan.interfaces.iter().filter_map(|(index, role)| {
            let interface = facts.interface_at(*index)?;
            let device = facts.interface_at(role.device)?;
            let roles = [(role.zone != 0, "internal"), (role.is_external(), "external")];
            Some(AppliedInterface {
                name: interface.name.clone(),
                index: *index,
                device: device.name.clone(),
                roles: roles.into_iter().filter(|(has, _)| *has).map(|(_, role)| role.to_owned()).collect(),
                mode: choice.hook.to_string(),
                why: choice.why.clone(),
                same_queue: plan.same_queue.get(index).cloned(),
            })
        });
        Ok(interfaces.collect())
    }

    /// Attaches the devices at one hook. If one refuses, those attached by this call are taken off again.
    fn attach_all(&mut self, devices: &[&HostInterface], hook: Hook) -> Result<(), DatapathError> {
        let present = self.pins.attached()?;
        for (number, device) in devices.iter().enumerate() {
            let before = self.applied.interfaces.iter().find(|before| before.device == device.name);
            let before = before.and_then(|before| Hook::from_name(&before.mode));
            if let Err(error) = self.datapath.attach(&self.pins, &device.name, hook, before) {
                for device in devices[..number].iter().filter(|device| !present.contains(&device.name)) {
                    self.datapath.detach(&self.pins, &device.name)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the program off the devices that the plan does not name.
    fn detach_others(&self, plan: &Plan, facts: &HostFacts) -> Result<()> {
        for name in self.pins.attached()? {
            let named =
                facts.interface(&name).is_some_and(|interface| plan.devices.contains(&interface.index));
            if !named {
                self.datapath.detach(&self.pins, &name)?;
            }
        }
        Ok(())
    }

    /// Withdraws the Elastic IPs that natgw had added and the plan does not name. The plan is in force by now, so one
    /// that stays is no reason to refuse it.
    async fn withdraw_others(&mut self, plan: &Plan) {
        let (kept, gone) =
            self.applied.announced.iter().partition(|address| plan.announced.contains(address));
        self.applied.announced = kept;
        self.withdraw(gone).await;
    }

    async fn withdraw(&self, announced: Vec<(u32, Ipv4Addr)>) {
        for (ifindex, address) in announced {
            if let Err(error) = self.host.withdraw(ifindex, address).await {
                tracing::warn!("the Elastic IP {address} stays on its interface: {error}");
            }
        }
    }

    /// Adds the plan's Elastic IPs to their interfaces, before the plan is in force: a refusal changes nothing for
    /// packets.
    async fn announce(&mut self, plan: &Plan) -> Result<()> {
        for &(ifindex, address) in &plan.announced {
            let announced = self.host.announce(ifindex, address).await?;
            if announced == Announced::Foreign {
                tracing::info!(
                    "{address} is an address of the host itself: what belongs to no session goes to its stack"
                );
            } else if !self.applied.announced.contains(&(ifindex, address)) {
                self.applied.announced.push((ifindex, address));
            }
        }
        Ok(())
    }

    /// Has the kernel find the next hops of its routes, so that the first packet finds them.
    async fn resolve_next_hops(&self, facts: &HostFacts) {
        let mut waiting: Vec<(u32, Ipv4Addr)> = facts
            .gateways
            .iter()
            .filter(|(ifindex, _)| self.plan.interfaces.contains_key(ifindex))
            .copied()
            .collect();
        for &(ifindex, address) in &waiting {
            if let Err(error) = self.host.keep_resolved(ifindex, address).await {
                tracing::warn!("next hop {address} cannot be resolved: {error}");
            }
        }
        let deadline = tokio::time::Instant::now() + RESOLVE;
        while !waiting.is_empty() && tokio::time::Instant::now() < deadline {
            let known = self.host.neighbours().await.unwrap_or_default();
            waiting.retain(|&(ifindex, address)| {
                !known
                    .iter()
                    .any(|found| found.ifindex == ifindex && found.address == address && found.mac.is_some())
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (_, address) in waiting {
            tracing::warn!("next hop {address} does not answer ARP yet");
        }
    }
}
