//! Attaching: links that are pinned, so that they outlive the controller, and replaced in place, so that no packet
//! passes without a program.

use std::{fs, io, path::Path};

use aya::programs::{
    ProgramError, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};

use super::{
    Datapath, DatapathError, Pins,
    error::with_sources,
    load::{AGE, PROGRAM, xdp},
};
use crate::config::Mode;

/// How an interface is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// `xdp-native` or `xdp-generic`.
    pub mode: String,
    /// Why this mode.
    pub why: String,
}

impl Attached {
    /// Whether this attachment is one that `mode` asks for.
    fn serves(&self, mode: Mode) -> bool {
        match mode {
            Mode::Auto => true,
            Mode::Xdp => self.mode == NATIVE,
            Mode::XdpGeneric => self.mode == GENERIC,
        }
    }
}

const NATIVE: &str = "xdp-native";
const GENERIC: &str = "xdp-generic";

impl Datapath {
    /// Attaches the program to an interface, or puts it in the place of the one that is pinned for it, which was
    /// attached as `before` tells.
    ///
    /// # Errors
    /// [`DatapathError::Attach`] if the kernel refuses or another program holds the interface.
    pub fn attach(
        &mut self,
        pins: &Pins,
        interface: &str,
        ifindex: u32,
        mode: Mode,
        before: Option<Attached>,
    ) -> Result<Attached, DatapathError> {
        let path = pins.link(interface);
        if path.exists() {
            match before {
                Some(before) if before.serves(mode) && self.replace(&path)? => return Ok(before),
                _ => fs::remove_file(&path).map_err(DatapathError::pin("remove", &path))?,
            }
        }
        let (link, attached) = self.attach_anew(interface, ifindex, mode)?;
        link.pin(&path).map_err(DatapathError::pin("pin", &path))?;
        Ok(attached)
    }

    /// Puts the program in the place of the pinned link's. False if the link is dead, as after its device went.
    fn replace(&mut self, path: &Path) -> Result<bool, DatapathError> {
        let link = PinnedLink::from_pin(path).map_err(DatapathError::pin("open", path))?;
        let link: Result<XdpLink, LinkError> = FdLink::from(link).try_into();
        let link = link.map_err(DatapathError::pin("open", path))?;
        Ok(xdp(&mut self.object, PROGRAM).attach_to_link(link).is_ok())
    }

    fn attach_anew(
        &mut self,
        interface: &str,
        ifindex: u32,
        mode: Mode,
    ) -> Result<(FdLink, Attached), DatapathError> {
        let (first, fallback) = match mode {
            Mode::Auto => (XdpMode::Driver, true),
            Mode::Xdp => (XdpMode::Driver, false),
            Mode::XdpGeneric => (XdpMode::Skb, false),
        };
        match self.attach_in(ifindex, first) {
            Ok(link) => Ok((link, attachment_of(first, mode, None))),
            Err(error) if fallback && !is(&error, libc::EBUSY) => {
                let reason = with_sources(&error);
                let link =
                    self.attach_in(ifindex, XdpMode::Skb).map_err(|error| refused(interface, &error))?;
                Ok((link, attachment_of(XdpMode::Skb, mode, Some(reason))))
            }
            Err(error) => Err(refused(interface, &error)),
        }
    }

    fn attach_in(&mut self, ifindex: u32, mode: XdpMode) -> Result<FdLink, ProgramError> {
        let program = xdp(&mut self.object, PROGRAM);
        let id = program.attach_to_if_index(ifindex, mode)?;
        let link = program.take_link(id)?;
        FdLink::try_from(link).map_err(|error| ProgramError::IOError(io::Error::other(error)))
    }

    /// Takes the program off an interface.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the pin directory refuses.
    pub fn detach(&self, pins: &Pins, interface: &str) -> Result<(), DatapathError> {
        let path = pins.link(interface);
        fs::remove_file(&path).map_err(DatapathError::pin("remove", &path))
    }

    /// Pins the programs in the place of those pinned before.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the pin directory refuses.
    pub fn pin_programs(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        for name in [PROGRAM, AGE] {
            let path = pins.program(name);
            if path.exists() {
                fs::remove_file(&path).map_err(DatapathError::pin("remove", &path))?;
            }
            xdp(&mut self.object, name).pin(&path).map_err(DatapathError::pin("pin", &path))?;
        }
        Ok(())
    }
}

fn attachment_of(how: XdpMode, asked: Mode, refused: Option<String>) -> Attached {
    let (mode, why) = match (how, asked, refused) {
        (XdpMode::Skb, _, Some(reason)) => (GENERIC, format!("the driver has no native XDP ({reason})")),
        (XdpMode::Skb, _, None) => (GENERIC, "asked for by mode = \"xdp-generic\"".into()),
        (_, Mode::Auto, _) => (NATIVE, "the driver has native XDP".into()),
        _ => (NATIVE, "asked for by mode = \"xdp\"".into()),
    };
    Attached { mode: mode.into(), why }
}

fn refused(interface: &str, error: &ProgramError) -> DatapathError {
    let remedy = if is(error, libc::EBUSY) {
        "; another XDP program holds it: `ip link show` names it, detach it first"
    } else if is(error, libc::EOPNOTSUPP) {
        "; its driver has no native XDP: use mode = \"auto\" or \"xdp-generic\""
    } else if is(error, libc::EINVAL) || is(error, libc::ERANGE) {
        "; its MTU may be too large for native XDP (about 3,500 bytes): lower it, or use mode = \"xdp-generic\""
    } else {
        ""
    };
    DatapathError::Attach { interface: interface.to_owned(), cause: with_sources(error), remedy }
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
