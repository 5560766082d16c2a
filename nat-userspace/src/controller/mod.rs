//! The controller: puts a configuration into force on this host, and keeps it so.

mod advice;
mod ageing;
mod apply;
mod burst;
mod busy;
mod detach;
mod drain;
mod elastic_ips;
mod events;
mod handover;
mod resets;
mod run;
mod slow;
mod spare;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use nat_common::pool::MAX_ELASTIC_IPS;

use crate::{
    api::{Api, socket},
    cli::args::RunArgs,
    config::{Config, IdleReset},
    datapath::{Applied, Datapath, LiveChanges, LoadOptions, Lock, Pins, Programs, milliseconds},
    host::{Host, HostFacts, HostPorts, check_memory, enable_fib_lookup, preflight},
    plan::{self, Draining, Plan, SharedAddress},
};

pub use detach::detach;

/// A gateway in operation.
pub struct Controller {
    args: RunArgs,
    host: Host,
    pins: Pins,
    /// Its socket goes before the lock does; `None` if it cannot be served.
    api: Option<Api>,
    watch: drain::Watch,
    busy: busy::Busy,
    rhythm: ageing::Rhythm,
    bursts: burst::Bursts,
    /// Held for as long as this controller lives.
    _lock: Lock,
    datapath: Datapath,
    config: Config,
    plan: Plan,
    applied: Applied,
    /// The host's own ports, as last followed.
    host_ports: Option<HostPorts>,
    spared: spare::Spared,
}

/// What comes into force as one: a configuration, and what drains beside it.
#[derive(Clone)]
struct Desired {
    config: Config,
    draining: Vec<Draining>,
    changes: LiveChanges,
}

impl Desired {
    /// What a configuration that was read makes of what was in force before.
    fn after(before: &Applied, config: Config) -> Self {
        let draining = plan::draining(&before.config, &before.draining, &config, milliseconds());
        Self { config, draining, changes: LiveChanges::default() }
    }

    /// Whether there are more Elastic IPs than the data plane has room for.
    fn has_too_many(&self) -> bool {
        self.config.addresses().count() + self.draining.len() > MAX_ELASTIC_IPS as usize
    }
}

impl Controller {
    /// Puts the configuration that `args` name into force: on state that is pinned in `pin_dir`, or from nothing.
    ///
    /// # Errors
    /// Everything that stands in the way, before anything is attached; what was attached by this call is taken off
    /// again, and what ran before goes on.
    pub async fn start(args: &RunArgs, pin_dir: PathBuf) -> Result<Self> {
        let config = args.configuration()?;
        preflight::check(&pin_dir)?;
        let host = Host::open()?;
        let facts = facts_for(&host, &config).await?;
        let desired = Desired { config, draining: Vec::new(), changes: LiveChanges::default() };
        let plan = plan_for(args, &desired, &facts)?;
        let config = desired.config;
        report_warnings(&config, &facts, &plan);
        let pins = Pins::new(&pin_dir);
        let fresh = !pins.exist();
        if fresh {
            check_memory(config.max_sessions)?;
        }
        pins.create()?;
        let lock = handover::take_lock(&pins).await?;
        let begun = Self::begin(args, host, &pins, lock, config, &facts).await;
        if begun.is_err() && fresh {
            pins.remove().context("after the failure below, not everything could be removed")?;
        }
        begun
    }

    async fn begin(
        args: &RunArgs,
        host: Host,
        pins: &Pins,
        lock: Lock,
        config: Config,
        facts: &HostFacts,
    ) -> Result<Self> {
        let loopback_enabled = enable_fib_lookup()?;
        let options = LoadOptions {
            max_sessions: config.max_sessions,
            max_fragmented_datagrams: config.max_fragmented_datagrams,
            log_level: args.data_plane_log.level(),
            programs: Programs::All,
            bursts: burst::are_possible(&config, facts),
            resets_at_expiry: config.idle_reset == IdleReset::AtExpiry,
        };
        let datapath = Datapath::pinned(&options, pins)?;
        let before = datapath.maps.applied()?;
        let mut applied = before.unwrap_or_else(|| Applied::new(std::process::id(), config.clone()));
        applied.loopback_enabled |= loopback_enabled;
        let capacity = datapath.maps.max_sessions()?;
        if capacity != config.max_sessions {
            tracing::warn!(
                "the flow table taken over holds {capacity} sessions; max_sessions = {} takes effect after `natgw detach`",
                config.max_sessions
            );
        }
        let busy = busy::Busy::new(&datapath.maps)?;
        let mut controller = Self {
            args: args.clone(),
            host,
            pins: pins.clone(),
            api: None,
            watch: drain::Watch::default(),
            busy,
            rhythm: ageing::Rhythm::new(Instant::now()),
            bursts: burst::Bursts::default(),
            _lock: lock,
            datapath,
            config: config.clone(),
            plan: Plan::default(),
            applied,
            host_ports: None,
            spared: spare::Spared::default(),
        };
        controller.datapath.maps.set_locals(&plan::locals(facts))?;
        let desired = Desired::after(&controller.applied, config);
        let plan = plan_for(args, &desired, facts)?;
        drain::report(&controller.applied, &desired);
        controller.put_into_force(desired, plan, facts).await?;
        controller.datapath.pin_programs(pins)?;
        controller.serve_api();
        Ok(controller)
    }

    /// Without the API the gateway does all but change at run time.
    fn serve_api(&mut self) {
        match Api::serve(self.pins.root()) {
            Ok(api) => self.api = Some(api),
            Err(error) => tracing::warn!(
                "cannot serve the API at {}: {error}; `natgw eip add` and `natgw eip remove` will not work",
                socket(self.pins.root()).display()
            ),
        }
    }

    /// What is in force, as a beginning for what is to follow.
    fn desired(&self) -> Desired {
        Desired {
            config: self.config.clone(),
            draining: self.applied.draining.clone(),
            changes: self.applied.changes.clone(),
        }
    }

    /// The generation in force.
    ///
    /// # Errors
    /// As the map of generations answers.
    pub fn generation(&self) -> Result<u32> {
        Ok(self.datapath.maps.generation()?)
    }
}

/// The facts that `config` depends on.
async fn facts_for(host: &Host, config: &Config) -> Result<HostFacts> {
    let mut facts = host.facts().await?;
    if config.same_queue {
        facts.add_rss(config.external_interfaces());
    }
    if config.elastic_ips.iter().any(|elastic_ip| plan::is_shared(elastic_ip.address, &facts)) {
        facts.ports = Some(HostPorts::read()?);
    }
    Ok(facts)
}

/// The plan, or an error that names the place in the configuration as far as there is one.
fn plan_for(args: &RunArgs, desired: &Desired, facts: &HostFacts) -> Result<Plan> {
    let plan = Plan::new(&desired.config, facts).map_err(|error| {
        match error.interface().and_then(|name| args.place_of_interface(name)) {
            Some(place) => anyhow::anyhow!("{place}: {error}"),
            None => error.into(),
        }
    });
    let mut plan = plan?;
    plan.add_draining(&desired.config, facts, &desired.draining);
    Ok(plan)
}

/// Says what is valid but probably not meant.
fn report_warnings(config: &Config, facts: &HostFacts, plan: &Plan) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    report_shared(plan);
    for (index, same_queue) in &plan.same_queue {
        let name = facts.interface_at(*index).map_or("?", |interface| interface.name.as_str());
        for why in &same_queue.why_not {
            tracing::warn!("same_queue is not in force on interface {name}: {why}");
        }
    }
    let indexes: Vec<u32> = plan.interfaces.keys().copied().collect();
    let forwarding = crate::host::forwarding_interfaces(&indexes).unwrap_or_default();
    for interface in forwarding.iter().filter_map(|index| facts.interface_at(*index)) {
        tracing::warn!(
            "the kernel forwards packets of {0} itself: whenever natgw is off, internal packets leave untranslated; \
             switch it off with `sysctl -w net.ipv4.conf.{0}.forwarding=0` if nothing else on this host routes",
            interface.name
        );
    }
}

/// Says which ports are lent of addresses that the host has itself.
fn report_shared(plan: &Plan) {
    for SharedAddress { address, ports, warnings } in &plan.shared {
        tracing::info!(
            "elastic ip {address} is shared with the host; {} ports are lent: {ports}",
            ports.count()
        );
        for warning in warnings {
            tracing::warn!("elastic ip {address}: {warning}");
        }
    }
}
