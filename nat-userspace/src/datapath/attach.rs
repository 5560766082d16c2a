//! Attaching: links that are pinned, so that they outlive the controller, and replaced in place, so that no packet
//! passes without a program.

use std::{fs, io, path::Path};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, XdpMode,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{
    Datapath, DatapathError, Hook, Pins,
    error::with_sources,
    link::take_off,
    load::{AGE, PROGRAM, TC, tc, xdp},
};

impl Datapath {
    /// Attaches the program to an interface at `hook`, or puts it in the place of the one that is pinned for it, which
    /// was attached at `before`. If that fails at another hook, what was attached before goes on.
    ///
    /// # Errors
    /// [`DatapathError::Attach`] if the kernel refuses or another program holds the interface.
    pub fn attach(
        &mut self,
        pins: &Pins,
        interface: &str,
        hook: Hook,
        before: Option<Hook>,
    ) -> Result<(), DatapathError> {
        let path = pins.link(interface);
        let remove = || take_off(&path);
        if path.exists() {
            if before == Some(hook) && self.replace(&path, hook)? {
                return Ok(());
            }
            if before.is_none_or(|before| before == hook || (before.is_xdp() && hook.is_xdp())) {
                remove()?;
            }
        }
        let link = self.attach_anew(interface, hook);
        let link = link.map_err(|error| refused(interface, hook, &error))?;
        // Until here both hooks serve the interface; the first leaves nothing for the second.
        if path.exists() {
            remove()?;
        }
        link.pin(&path).map_err(DatapathError::pin("pin", &path))?;
        Ok(())
    }

    /// Puts the program in the place of the pinned link's. False if the link is dead, as after its device went, or at
    /// another hook.
    fn replace(&mut self, path: &Path, hook: Hook) -> Result<bool, DatapathError> {
        let link = PinnedLink::from_pin(path).map_err(DatapathError::pin("open", path))?;
        let link = FdLink::from(link);
        if hook.is_xdp() {
            let Ok(link) = XdpLink::try_from(link) else { return Ok(false) };
            return Ok(xdp(&mut self.object, PROGRAM).attach_to_link(link).is_ok());
        }
        let Ok(link) = SchedClassifierLink::try_from(link) else { return Ok(false) };
        Ok(tc(&mut self.object).attach_to_link(link).is_ok())
    }

    fn attach_anew(&mut self, interface: &str, hook: Hook) -> Result<FdLink, ProgramError> {
        match hook {
            Hook::XdpNative => self.attach_xdp(interface, XdpMode::Driver),
            Hook::XdpGeneric => self.attach_xdp(interface, XdpMode::Skb),
            Hook::Tc => attach_tc(tc(&mut self.object), interface),
        }
    }

    fn attach_xdp(&mut self, interface: &str, mode: XdpMode) -> Result<FdLink, ProgramError> {
        let program = xdp(&mut self.object, PROGRAM);
        let id = program.attach(interface, mode)?;
        let link = program.take_link(id)?;
        FdLink::try_from(link).map_err(|error| ProgramError::IOError(io::Error::other(error)))
    }

    /// Takes the program off an interface.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the pin directory refuses.
    pub fn detach(&self, pins: &Pins, interface: &str) -> Result<(), DatapathError> {
        take_off(&pins.link(interface))
    }

    /// Pins the programs in the place of those pinned before.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the pin directory refuses.
    pub fn pin_programs(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        for name in [PROGRAM, TC, AGE] {
            let path = pins.program(name);
            if path.exists() {
                fs::remove_file(&path).map_err(DatapathError::pin("remove", &path))?;
            }
            let pinned = match name {
                TC => tc(&mut self.object).pin(&path),
                _ => xdp(&mut self.object, name).pin(&path),
            };
            pinned.map_err(DatapathError::pin("pin", &path))?;
        }
        Ok(())
    }
}

/// First of all programs: an internal packet that another one lets out of the gateway's hands would leave untranslated.
fn attach_tc(program: &mut SchedClassifier, interface: &str) -> Result<FdLink, ProgramError> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
    let link = program.take_link(id)?;
    FdLink::try_from(link).map_err(|error| ProgramError::IOError(io::Error::other(error)))
}

fn refused(interface: &str, hook: Hook, error: &ProgramError) -> DatapathError {
    let held = is(error, libc::EBUSY);
    let invalid = is(error, libc::EINVAL);
    let remedy = if hook == Hook::Tc && invalid {
        "; the TC hook needs Linux 6.6 or later: use mode = \"xdp\""
    } else if hook == Hook::Tc {
        ""
    } else if held {
        "; another XDP program holds it: `ip link show` names it, detach it first"
    } else if is(error, libc::EOPNOTSUPP) {
        "; its driver has no native XDP: use mode = \"auto\", \"tc\" or \"xdp-generic\""
    } else if invalid || is(error, libc::ERANGE) {
        "; its driver may have no native XDP for so large an MTU: lower it to 3,500 or less, or use mode = \"tc\""
    } else {
        ""
    };
    DatapathError::Attach { interface: interface.to_owned(), cause: with_sources(error), remedy, held }
}

/// Whether the kernel has answered with this number.
fn is(error: &ProgramError, number: i32) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(number);
        }
        source = error.source();
    }
    false
}
