//! What the API's two ends say to each other, and the server to the controller.

use std::{net::Ipv4Addr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::{
    config::{ChangeError, NewElasticIp},
    report::ElasticIpState,
};

/// What somebody asks of the controller.
#[derive(Debug)]
pub enum Request {
    /// List Elastic IPs.
    ElasticIps,
    /// Take an Elastic IP into use.
    Add(NewElasticIp),
    /// Take an Elastic IP out of use; without a time, by the configuration's.
    Remove(Ipv4Addr, Option<DrainTime>),
}

/// What the controller answers: the body of a success.
pub type Answer = Result<serde_json::Value, Refusal>;

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub request: Request,
    /// For the answer.
    pub answer: oneshot::Sender<Answer>,
}

/// An Elastic IP was added or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its NAT gateway.
    pub nat_gateway: String,
    /// What it is now.
    pub state: ElasticIpState,
    /// Seconds until a draining one is withdrawn; null otherwise.
    pub seconds_left: Option<u64>,
    /// The generation that this is in force with.
    pub generation: u32,
    /// What to write where, so that it stays so after a reload or a restart.
    pub to_keep: String,
}

/// Why the controller does not do it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// Whose fault it is.
    pub kind: Kind,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: Kind, message: impl ToString) -> Self {
        Self { kind, message: message.to_string() }
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It cannot be understood, or never be done.
    Invalid,
    /// It is about something that is not there.
    NotFound,
    /// It does not fit what is.
    Conflict,
    /// It should have worked.
    Failure,
    /// There is nobody to do it any more.
    Ending,
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let kind = match &error {
            ChangeError::Unknown { .. } | ChangeError::UnknownGateway { .. } => Kind::NotFound,
            ChangeError::WhichGateway { .. }
            | ChangeError::Unusable { .. }
            | ChangeError::Internal { .. }
            | ChangeError::NoBlock { .. }
            | ChangeError::Ports { .. } => Kind::Invalid,
            ChangeError::InUse { .. }
            | ChangeError::DrainsElsewhere { .. }
            | ChangeError::Last { .. }
            | ChangeError::Computed { .. }
            | ChangeError::Full => Kind::Conflict,
        };
        Self::new(kind, error)
    }
}

/// How long an Elastic IP is to drain: seconds, a text with units such as `350s`, or `now` for not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DrainTime {
    /// As whole seconds.
    pub seconds: u64,
}

/// A text that is no [`DrainTime`].
#[derive(Debug, Error)]
#[error("{0} is no time to drain; write 0 to 2678400 seconds (31 days), as in 350, 350s or 5m50s, or now")]
pub struct NoDrainTime(String);

const MAX_SECONDS: u64 = 31 * 24 * 60 * 60;

impl DrainTime {
    /// Not at all.
    pub const NOW: Self = Self { seconds: 0 };
}

impl FromStr for DrainTime {
    type Err = NoDrainTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let with_units = || humantime::parse_duration(text).ok().filter(|time| time.subsec_nanos() == 0);
        let seconds = match text {
            "now" => Some(0),
            text => text.parse().ok().or_else(|| with_units().map(|time: Duration| time.as_secs())),
        };
        match seconds {
            Some(seconds) if seconds <= MAX_SECONDS => Ok(Self { seconds }),
            _ => Err(NoDrainTime(text.to_owned())),
        }
    }
}

impl TryFrom<String> for DrainTime {
    type Error = NoDrainTime;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
