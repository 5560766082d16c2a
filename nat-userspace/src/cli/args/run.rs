//! `natgw run`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::Ipv4Net;

use crate::{
    config::{Arp, Config, ConfigError, Flags, Mode, Place},
    datapath::TcAttach,
};

/// `natgw run`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Signals:
  SIGHUP           reads the configuration again and applies it whole, or refuses it whole
  SIGTERM, SIGINT  end the controller; the data plane goes on, unless --detach-on-exit

Examples:
  natgw run --config /etc/natgw.toml
  natgw run --internal eth1 --external eth0 --elastic-ip 203.0.113.10 --private-cidr 10.0.0.0/16
  natgw run --internal eth0 --external eth0 --elastic-ip 203.0.113.10 --private-cidr 10.0.0.0/16
  natgw run --config lab.toml --mode xdp-generic --data-plane-log debug

Exit codes:
  0  ended by a signal
  2  failure or bad input; nothing was attached, or what ran before still runs")]
pub struct RunArgs {
    /// The configuration file (`natgw config sample` prints one)
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["internal", "external", "elastic_ip", "private_cidr", "arp"])]
    pub config: Option<PathBuf>,

    /// An interface toward private hosts; repeatable
    ///
    /// With several, the first --private-cidr is behind the first --internal, and so on.
    #[arg(long, value_name = "INTERFACE", required_unless_present = "config", help_heading = COMMON_CASE)]
    pub internal: Vec<String>,

    /// The interface toward the outside; the internal one on a host with one network card
    #[arg(long, value_name = "INTERFACE", required_unless_present = "config", help_heading = COMMON_CASE)]
    pub external: Option<String>,

    /// An external address; repeatable
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config", help_heading = COMMON_CASE)]
    pub elastic_ip: Vec<Ipv4Addr>,

    /// Addresses of private hosts; repeatable
    #[arg(long, value_name = "CIDR", required_unless_present = "config", help_heading = COMMON_CASE)]
    pub private_cidr: Vec<Ipv4Net>,

    /// How packets to the Elastic IPs reach this host [default: announce]
    #[arg(long, value_enum, help_heading = COMMON_CASE)]
    pub arp: Option<Arp>,

    /// How packets are intercepted; overrides the file's [default: auto]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,

    /// Sessions the flow table can hold, 1024 to 67108864; overrides the file's [default: 262144]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_024..=67_108_864))]
    pub max_sessions: Option<u32>,

    /// Choose ports so that answers come in on the queue of their session's packets; overrides the file's
    #[arg(long)]
    pub same_queue: bool,

    /// Take the data plane off when the controller ends
    #[arg(long)]
    pub detach_on_exit: bool,

    /// How TC is attached, whatever the kernel has: for tests
    #[arg(long, value_enum, value_name = "HOW", default_value_t, hide = true)]
    pub tc_attach: TcAttach,

    /// How much the data plane itself tells about rare events; never about every packet
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    pub data_plane_log: DataPlaneLog,
}

const COMMON_CASE: &str = "Without a file";

impl RunArgs {
    /// Reads the configuration these arguments ask for. A reload calls it again.
    ///
    /// # Errors
    ///
    /// As [`Config::from_file`] and [`Config::from_flags`].
    pub fn configuration(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::from_file(path)?,
            None => Config::from_flags(&self.flags())?,
        };
        config.mode = self.mode.unwrap_or(config.mode);
        config.max_sessions = self.max_sessions.unwrap_or(config.max_sessions);
        config.same_queue |= self.same_queue;
        Ok(config)
    }

    /// Where these arguments name `interface`.
    #[must_use]
    pub fn place_of_interface(&self, interface: &str) -> Option<Place> {
        if let Some(path) = &self.config {
            return Config::place_of_interface(path, interface);
        }
        let flag = if self.external.as_deref() == Some(interface) { "--external" } else { "--internal" };
        Some(Place::Flag { flag: format!("{flag} {interface}") })
    }

    fn flags(&self) -> Flags {
        Flags {
            internal: self.internal.clone(),
            external: self.external.clone().unwrap_or_default(),
            elastic_ips: self.elastic_ip.clone(),
            private_cidrs: self.private_cidr.clone(),
            mode: self.mode.unwrap_or_default(),
            arp: self.arp.unwrap_or_default(),
            max_sessions: self.max_sessions,
        }
    }
}

/// Which of the data plane's messages are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum DataPlaneLog {
    /// None
    #[default]
    Off,
    /// What should never happen
    Error,
    /// And what somebody should look at
    Warn,
    /// And what is worth knowing
    Info,
    /// And what helps to find a fault
    Debug,
}

impl DataPlaneLog {
    /// The level as the data plane's log numbers it; 0 is off.
    #[must_use]
    pub const fn level(self) -> u8 {
        self as u8
    }
}
