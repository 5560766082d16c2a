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
    filter::number,
    link::take_off,
    load::{AGE, PROGRAM, TC, tc, xdp},
};

impl Datapath {
    /// Attaches the program to an interface at `hook`, or puts it in the place of the one that is pinned or recorded for
    /// it, which was attached at `before`. If that fails at another hook, what was attached before goes on.
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
        // While both a link and a filter serve the interface, the first leaves nothing for the second.
        if hook == Hook::Clsact {
            self.attach_filter(pins, interface)?;
            let link = pins.link(interface);
            return if link.exists() { take_off(&link) } else { Ok(()) };
        }
        self.attach_link(pins, interface, hook, before)?;
        let filter = pins.filter(interface);
        if filter.is_recorded() { filter.take_off() } else { Ok(()) }
    }

    fn attach_filter(&mut self, pins: &Pins, interface: &str) -> Result<(), DatapathError> {
        let filter = pins.filter(interface);
        if filter.is_elsewhere() {
            filter.take_off()?;
        }
        let program = tc(&mut self.object);
        if filter.is_recorded() && filter.replace(program) {
            return Ok(());
        }
        filter.add(program).map_err(|error| refused(interface, Hook::Clsact, &error))
    }

    fn attach_link(
        &mut self,
        pins: &Pins,
        interface: &str,
        hook: Hook,
        before: Option<Hook>,
    ) -> Result<(), DatapathError> {
        let path = pins.link(interface);
        let remove = || take_off(&path);
        if path.exists() {
            if before == Some(hook) && self.replace(&path, hook, PROGRAM)? {
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

    /// Puts the program in the place of the pinned link's, at the XDP hook the one named. False if the link is dead, as
    /// after its device went, or at another hook.
    pub(super) fn replace(&mut self, path: &Path, hook: Hook, program: &str) -> Result<bool, DatapathError> {
        let link = PinnedLink::from_pin(path).map_err(DatapathError::pin("open", path))?;
        let link = FdLink::from(link);
        if hook.is_xdp() {
            let Ok(link) = XdpLink::try_from(link) else { return Ok(false) };
            let program = xdp(&mut self.object, program);
            // Its pin holds the link; this handle of it goes.
            return Ok(program.attach_to_link(link).and_then(|id| program.take_link(id)).is_ok());
        }
        let Ok(link) = SchedClassifierLink::try_from(link) else { return Ok(false) };
        let program = tc(&mut self.object);
        Ok(program.attach_to_link(link).and_then(|id| program.take_link(id)).is_ok())
    }

    fn attach_anew(&mut self, interface: &str, hook: Hook) -> Result<FdLink, ProgramError> {
        match hook {
            Hook::XdpNative => self.attach_xdp(interface, XdpMode::Driver),
            Hook::XdpGeneric => self.attach_xdp(interface, XdpMode::Skb),
            // A filter is no link: `attach` does not come here for one.
            Hook::Tc | Hook::Clsact => attach_tc(tc(&mut self.object), interface),
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
    /// As for [`Pins::release`].
    pub fn detach(&self, pins: &Pins, interface: &str) -> Result<(), DatapathError> {
        pins.release(interface)
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
    let (held, remedy) = match hook {
        Hook::Tc => (is(error, libc::EBUSY), tc_remedy(error)),
        Hook::Clsact => clsact_remedy(number(error).unwrap_or_default()),
        Hook::XdpNative | Hook::XdpGeneric => (is(error, libc::EBUSY), xdp_remedy(error)),
    };
    DatapathError::Attach { interface: interface.to_owned(), cause: with_sources(error), remedy, held }
}

fn tc_remedy(error: &ProgramError) -> &'static str {
    if is(error, libc::EINVAL) { "; this kernel has no TCX: use --tc-attach clsact" } else { "" }
}

/// Whether another's filter is in the way, and what to do, for the number of the kernel's answer.
const fn clsact_remedy(number: i32) -> (bool, &'static str) {
    match number {
        libc::EEXIST => (
            true,
            "; a filter of another gateway of natgw's is there: `natgw detach` with its --pin-dir, or `tc filter del \
             dev INTERFACE ingress prio 1` if it has none",
        ),
        libc::EINVAL | libc::ENOSPC => (
            true,
            "; another filter of its ingress has priority 1, where natgw must be: `tc filter show dev INTERFACE \
             ingress` shows it; give it a higher number, or use mode = \"xdp\"",
        ),
        libc::ENOENT => (false, "; the kernel lacks a module: `modprobe sch_ingress` and `modprobe cls_bpf`"),
        _ => (false, ""),
    }
}

fn xdp_remedy(error: &ProgramError) -> &'static str {
    if is(error, libc::EBUSY) {
        "; another XDP program holds it: `ip link show` names it, detach it first"
    } else if is(error, libc::EOPNOTSUPP) {
        "; its driver has no native XDP: use mode = \"auto\", \"tc\" or \"xdp-generic\""
    } else if is(error, libc::EINVAL) || is(error, libc::ERANGE) {
        "; its driver may have no native XDP for so large an MTU: lower it to 3,500 or less, or use mode = \"tc\""
    } else {
        ""
    }
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
