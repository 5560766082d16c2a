//! The program that rigs run, and what it says.

use std::cell::Cell;

/// What the program says to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The program failed.
    Aborted,
    /// Refused.
    Drop,
    /// To the stack.
    Pass,
    /// Back out of the device it came from.
    Tx,
    /// Out of another device.
    Redirect,
}

impl Verdict {
    pub(super) const fn of_xdp(number: u32) -> Self {
        match number {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }

    pub(super) const fn of_tc(number: u32) -> Self {
        match number {
            2 => Self::Drop,
            7 => Self::Redirect,
            // "Not mine": what follows at this hook, and then the stack.
            u32::MAX => Self::Pass,
            _ => Self::Aborted,
        }
    }

    /// How the hook of this thread says it: TC has one verdict for all that leaves.
    #[must_use]
    pub fn at_this_hook(self) -> Self {
        if self == Self::Tx && Hook::of_this_thread() == Hook::Tc { Self::Redirect } else { self }
    }
}

/// The program that rigs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP's.
    Xdp,
    /// TC's.
    Tc,
}

thread_local! {
    static HOOK: Cell<Hook> = const { Cell::new(Hook::Xdp) };
}

impl Hook {
    /// Has the rigs of this thread run the program of this hook.
    pub fn take(self) {
        HOOK.set(self);
    }

    /// The one whose program they run.
    pub(super) fn of_this_thread() -> Self {
        HOOK.get()
    }
}
