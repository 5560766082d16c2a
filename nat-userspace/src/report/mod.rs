//! What a running gateway has to say, as values: the stable JSON of the listing verbs. Pure.
//!
//! Each report is made from what was read off the maps ([`crate::datapath`]) and from the configuration in force.

mod destination;
mod drops;
mod eip;
mod flows;
mod mappings;
mod metrics;
mod nacl;
mod route;
mod status;
mod who;

pub use destination::{DestinationReport, HolderReport, destinations};
pub(crate) use drops::protocol as protocol_name;
pub use drops::{DropReading, DropReport, LatestDrop, drops};
pub use eip::{ElasticIpReport, ElasticIpState, Usage, busiest, elastic_ips, usage};
pub use flows::{FlowFilter, FlowProtocol, FlowReport, FlowSort, FlowState, NotFound, flows};
pub use mappings::{MappingReport, mappings};
pub use metrics::{Measured, metrics};
pub use nacl::{LAST_RULE, NaclDirection, RuleReport, rules};
pub use route::{RouteReport, RouteState, routes};
pub use status::{
    Controller, ElasticIpUse, FlowTable, GatewayReport, InterfaceReport, Observation, StatusReport,
    counter_descriptions, status,
};

pub use who::{HeldBy, PortHolder, who};

#[cfg(test)]
pub(crate) mod sample;
