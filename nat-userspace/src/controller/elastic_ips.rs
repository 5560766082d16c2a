//! What the API asks for: Elastic IPs listed, added and removed while the gateway runs.

use std::net::Ipv4Addr;

use super::{Controller, Desired, advice, plan_for};
use crate::{
    api::{Answer, Changed, DrainTime, Kind, Refusal, Request},
    config::{ChangeError, NewElasticIp},
    datapath::milliseconds,
    plan::Draining,
    report::{self, ElasticIpState},
};

impl Controller {
    /// Does what `request` asks, whole or not at all.
    pub(super) async fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::ElasticIps => {
                let sessions = self.datapath.maps.sessions().map_err(failure)?;
                json(&report::elastic_ips(&self.applied, &sessions, milliseconds()))
            }
            Request::Add(wanted) => json(&self.add(&wanted).await?),
            Request::Remove(address, drain) => json(&self.remove(address, drain).await?),
        }
    }

    async fn add(&mut self, wanted: &NewElasticIp) -> Result<Changed, Refusal> {
        let address = wanted.address;
        let mut desired = self.desired();
        let drained = desired.draining.iter().position(|drain| drain.address() == address);
        let drained = drained.map(|position| desired.draining.remove(position));
        let mut wanted = wanted.clone();
        if let Some(Draining { nat_gateway: gateway, .. }) = &drained {
            if wanted.nat_gateway.as_ref().is_some_and(|named| named != gateway) {
                return Err(ChangeError::DrainsElsewhere { address, gateway: gateway.clone() }.into());
            }
            wanted.nat_gateway = Some(gateway.clone());
        }
        let before = drained.as_ref().map(|drain| &drain.elastic_ip);
        desired.config = self.config.with_elastic_ip(&wanted, before)?;
        if desired.has_too_many() {
            return Err(ChangeError::Full.into());
        }
        desired.changes.add(address);
        self.put(desired).await?;
        tracing::info!("{address} was added, and new sessions get it");
        let to_keep = advice::to_keep_added(self.args.config.as_deref(), &self.config, address);
        self.changed(address, None, to_keep)
    }

    async fn remove(&mut self, address: Ipv4Addr, drain: Option<DrainTime>) -> Result<Changed, Refusal> {
        let now = milliseconds();
        let seconds = drain.map_or(self.config.drain, |time| time.seconds);
        let mut desired = self.desired();
        let known = desired.draining.iter().position(|drain| drain.address() == address);
        let removed = match known.map(|position| desired.draining.remove(position)) {
            Some(known) => Draining { deadline: now.saturating_add(seconds * 1_000), ..known },
            None => {
                desired.config = self.config.without_elastic_ip(address)?;
                desired.changes.remove(address);
                Draining::begin(&self.config, address, now, seconds)
                    .ok_or(ChangeError::Unknown { address })?
            }
        };
        if seconds != 0 {
            desired.draining.push(removed.clone());
        }
        self.put(desired).await?;
        match seconds {
            0 => tracing::info!("{address} was removed, and its sessions have ended"),
            _ => tracing::info!("{address} drains for {seconds} s"),
        }
        let gateway = &removed.nat_gateway;
        let to_keep = advice::to_keep_removed(self.args.config.as_deref(), &self.config, address, gateway);
        self.changed(address, Some(&removed), to_keep)
    }

    async fn put(&mut self, desired: Desired) -> Result<(), Refusal> {
        let facts = self.facts_for(&desired.config).await.map_err(failure)?;
        let plan = plan_for(&self.args, &desired, &facts).map_err(failure)?;
        self.put_into_force(desired, plan, &facts).await.map_err(failure)
    }

    /// What has become of `address`; `removed` if it is in use no longer.
    fn changed(
        &self,
        address: Ipv4Addr,
        removed: Option<&Draining>,
        to_keep: String,
    ) -> Result<Changed, Refusal> {
        let owner = self.config.owner(address).map(|gateway| &gateway.name);
        let draining = self.applied.draining.iter().find(|drain| drain.address() == address);
        let state = match (owner, draining) {
            (Some(_), _) => ElasticIpState::InUse,
            (None, Some(_)) => ElasticIpState::Draining,
            (None, None) => ElasticIpState::Removed,
        };
        Ok(Changed {
            address,
            nat_gateway: owner.or(removed.map(|drain| &drain.nat_gateway)).cloned().unwrap_or_default(),
            state,
            seconds_left: draining.map(|drain| drain.seconds_left(milliseconds())),
            generation: self.generation().map_err(failure)?,
            to_keep,
        })
    }
}

/// The whole story on one line, as the log has it.
fn failure(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::new(Kind::Failure, format!("{:#}", error.into()))
}

fn json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(failure)
}
