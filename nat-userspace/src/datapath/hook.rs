//! Which hook of the kernel an interface is served at. Pure.

use std::fmt;

use crate::config::Mode;

/// Where in the kernel the data plane meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the kernel's stack.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

impl Hook {
    const ALL: [Self; 3] = [Self::XdpNative, Self::XdpGeneric, Self::Tc];

    /// The name that `natgw status` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }

    /// The hook called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Whether it is one of XDP's, of which an interface has only one at a time.
    #[must_use]
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A hook worth trying, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The hook, for every device of the gateway.
    pub hook: Hook,
    /// The reason, as `natgw status` shows it.
    pub why: String,
}

/// The hooks to try, best first, for a gateway on these devices: their names, and what creates those that are not
/// physical.
///
/// All devices are served at the same hook: what XDP redirects to a device without XDP may be lost silently. In
/// `auto`, devices made of software get TC, because XDP there costs their peers the segmentation and checksum
/// offloads, which is most of what TCP achieves; physical ones get XDP where the driver has it, and TC before XDP in the
/// stack, which copies or linearizes what TC takes as it is.
#[must_use]
pub fn choices<'a>(mode: Mode, devices: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<Choice> {
    let one = |hook| vec![Choice { hook, why: format!("asked for by mode = \"{mode}\"") }];
    match mode {
        Mode::Xdp => one(Hook::XdpNative),
        Mode::XdpGeneric => one(Hook::XdpGeneric),
        Mode::Tc => one(Hook::Tc),
        Mode::Auto => automatic(devices.into_iter().find_map(|(name, kind)| Some((name, kind?)))),
    }
}

/// The hooks to try on devices of which one is made of software: `virtual_device`, by name and kind.
fn automatic(virtual_device: Option<(&str, &str)>) -> Vec<Choice> {
    let choice = |hook, why: &str| Choice { hook, why: why.to_owned() };
    let last = choice(Hook::XdpGeneric, "neither native XDP nor TC is available");
    match virtual_device {
        Some((name, kind)) => {
            let why = format!("{name} is a {kind} device: TC keeps its offloads, which XDP would cost");
            vec![choice(Hook::Tc, &why), choice(Hook::XdpNative, "TC is not available"), last]
        }
        None => vec![
            choice(Hook::XdpNative, "every driver has native XDP"),
            choice(Hook::Tc, "native XDP is not available"),
            last,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(mode: Mode, devices: &[(&str, Option<&str>)]) -> Vec<Hook> {
        choices(mode, devices.iter().copied()).into_iter().map(|choice| choice.hook).collect()
    }

    #[test]
    fn physical_devices_get_native_xdp_then_tc_then_generic_xdp() {
        let physical = [("eth0", None), ("eth1", None)];
        assert_eq!(hooks(Mode::Auto, &physical), [Hook::XdpNative, Hook::Tc, Hook::XdpGeneric]);
    }

    #[test]
    fn one_device_made_of_software_puts_the_whole_gateway_on_tc() {
        for kind in ["veth", "tun", "bridge", "bond"] {
            let mixed = [("eth0", None), ("int0", Some(kind))];
            let chosen = choices(Mode::Auto, mixed);
            assert_eq!(chosen[0].hook, Hook::Tc);
            let why = format!("int0 is a {kind} device: TC keeps its offloads, which XDP would cost");
            assert_eq!(chosen[0].why, why);
        }
    }

    #[test]
    fn a_mode_that_names_a_hook_allows_no_other() {
        let veth = [("int0", Some("veth"))];
        assert_eq!(hooks(Mode::Xdp, &veth), [Hook::XdpNative]);
        assert_eq!(hooks(Mode::XdpGeneric, &veth), [Hook::XdpGeneric]);
        assert_eq!(hooks(Mode::Tc, &[("eth0", None)]), [Hook::Tc]);
        assert_eq!(choices(Mode::Tc, veth)[0].why, "asked for by mode = \"tc\"");
    }

    #[test]
    fn every_hook_is_found_by_its_name() {
        for hook in Hook::ALL {
            assert_eq!(Hook::from_name(&hook.to_string()), Some(hook));
        }
        assert_eq!(Hook::from_name("xdp"), None);
    }
}
