//! How a NAT gateway maps internal endpoints, and what it lets in to them (RFC 4787 §4 and §5).

use serde::{Deserialize, Serialize};

/// Mapping and filtering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// On what the external endpoint of an internal endpoint depends.
    pub mapping: Mapping,
    /// What comes in to an external endpoint without a session.
    pub filtering: Filtering,
    /// Whether a session gets an external endpoint toward its remote alone where there is no other.
    pub overload: bool,
    /// Whether external ports are even where internal ones are, and below 1024 where those are.
    pub port_parity: bool,
}

/// On what the external endpoint of an internal endpoint depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// On the remote endpoint too: each session has its own
    #[default]
    AddressAndPortDependent,
    /// On nothing else: it is the same toward every remote
    EndpointIndependent,
}

/// What comes in to an external endpoint from a remote that its internal endpoint has no session with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Nothing
    #[default]
    AddressAndPortDependent,
    /// What comes from an address that it has a session with
    AddressDependent,
    /// Everything
    EndpointIndependent,
}
