//! The gateway under test: `natgw`, or the kernel's own NAT as the baseline.

use anyhow::Result;

use crate::lab::Lab;
use crate::lab::kernel::KernelNat;
use crate::lab::natgw::Natgw;
use crate::lab::settings::Settings;

/// What can stand in the gateway's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The real thing.
    Natgw,
    /// nftables source NAT.
    Kernel,
}

/// A running gateway; gone, with all that it set up, when dropped.
pub enum Gateway {
    /// The real thing.
    Natgw(Box<Natgw>),
    /// nftables source NAT.
    Kernel(KernelNat),
}

impl Gateway {
    /// Starts a gateway of `kind` with the lab's usual settings and waits until packets pass.
    ///
    /// # Errors
    /// When it does not start or the private hosts reach no server.
    pub fn start(lab: &Lab, kind: Kind) -> Result<Self> {
        let gateway = match kind {
            Kind::Natgw => Self::Natgw(Box::new(Natgw::start(lab, &Settings::of(lab.plan()))?)),
            Kind::Kernel => Self::Kernel(KernelNat::start(lab)?),
        };
        lab.warm_up()?;
        Ok(gateway)
    }

    /// Takes it off in order and looks for leftovers; a mere drop takes it off too, but says nothing.
    ///
    /// # Errors
    /// When something is left behind.
    pub fn stop(self) -> Result<()> {
        match self {
            Self::Natgw(natgw) => natgw.detach(),
            Self::Kernel(kernel) => kernel.stop(),
        }
    }
}
