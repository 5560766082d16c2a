//! What can go wrong between natgw and its host.

use std::{io, net::Ipv4Addr, path::PathBuf};

/// A request the host did not fulfil.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No netlink socket to be had.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused a netlink request for lack of privilege.
    #[error("not allowed to {request}; run natgw as root or give it CAP_NET_ADMIN")]
    NotPermitted {
        /// What was asked for, as in "add 203.0.113.10 to interface 3".
        request: String,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {request}: {source}")]
    Netlink {
        /// What was asked for, as in "add 203.0.113.10 to interface 3".
        request: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel has no room for another neighbour.
    #[error(
        "the kernel's neighbour table is full, {address} cannot be resolved; \
         raise the sysctl net.ipv4.neigh.default.gc_thresh3 above the number of hosts"
    )]
    NeighbourTableFull {
        /// The neighbour to be resolved.
        address: Ipv4Addr,
    },
    /// A kernel setting could not be read or written.
    #[error("cannot {request} {}: {source}; is /proc/sys mounted and writable here?", path.display())]
    Sysctl {
        /// "read" or "set".
        request: &'static str,
        /// The setting's file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A gratuitous ARP could not be sent.
    #[error("cannot send a gratuitous ARP: {0}; natgw needs CAP_NET_RAW for it")]
    GratuitousArp(#[source] io::Error),
}

impl HostError {
    /// Turns the answer to the netlink request that would `request` into an error.
    pub(super) fn netlink(request: impl Into<String>, answer: rtnetlink::Error) -> Self {
        let request = request.into();
        let source = if let rtnetlink::Error::NetlinkError(refusal) = answer {
            refusal.to_io()
        } else {
            io::Error::other(answer.to_string())
        };
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::NotPermitted { request };
        }
        Self::Netlink { request, source }
    }
}

/// Whether the kernel answered `answer` with the error number `errno`.
pub(super) fn is_errno(answer: &rtnetlink::Error, errno: i32) -> bool {
    matches!(answer, rtnetlink::Error::NetlinkError(refusal) if refusal.raw_code() == -errno)
}
