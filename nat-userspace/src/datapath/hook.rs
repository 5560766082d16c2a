//! Which hook of the kernel an interface is served at. Pure.

use std::fmt;

use crate::{config::Mode, host::preflight::KernelVersion};

/// Where in the kernel the data plane meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the kernel's stack.
    XdpGeneric,
    /// TC ingress, by a TCX link.
    Tc,
    /// TC ingress, by a filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// Those with a name of their own.
    const ALL: [Self; 3] = [Self::XdpNative, Self::XdpGeneric, Self::Tc];

    /// The name that `natgw status` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc | Self::Clsact => "tc",
        }
    }

    /// The hook called `name`, of the two at TC ingress the one by TCX.
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

/// How the program gets to TC ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TcAttach {
    /// By TCX where the kernel has it
    #[default]
    Auto,
    /// By a TCX link (Linux 6.6)
    Tcx,
    /// By a filter of the clsact qdisc
    Clsact,
}

/// The first kernel with TCX.
const TCX: KernelVersion = KernelVersion { major: 6, minor: 6 };

/// The hook that TC means on this kernel, and why where it is not the one by TCX.
#[must_use]
pub fn tc_hook(asked: TcAttach, kernel: KernelVersion) -> Choice {
    let clsact = |why: String| Choice { hook: Hook::Clsact, why: format!("by a clsact filter: {why}") };
    match asked {
        TcAttach::Clsact => clsact("asked for by --tc-attach clsact".to_owned()),
        TcAttach::Auto if kernel < TCX => clsact(format!("Linux {kernel} has no TCX, which came with {TCX}")),
        TcAttach::Auto | TcAttach::Tcx => Choice { hook: Hook::Tc, why: String::new() },
    }
}

/// The largest MTU whose frames fit one buffer of every driver with native XDP.
const ONE_BUFFER: u32 = 3_498;
/// The first kernel that redirects frames in several buffers; those before lose them.
const REDIRECTS_FRAGS: KernelVersion = KernelVersion { major: 6, minor: 3 };

/// Whether native XDP carries the frames of a device with this MTU on this kernel.
#[must_use]
pub fn native_xdp_carries(mtu: u32, kernel: KernelVersion) -> bool {
    mtu <= ONE_BUFFER || kernel >= REDIRECTS_FRAGS
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
/// physical. `tc` is what TC means here, as [`tc_hook`] says.
///
/// All devices are served at the same hook: what XDP redirects to a device without XDP may be lost silently. In
/// `auto`, devices made of software get TC, because XDP there costs their peers the segmentation and checksum
/// offloads, which is most of what TCP achieves; physical ones get XDP where the driver has it, and TC before XDP in the
/// stack, which copies or linearizes what TC takes as it is.
#[must_use]
pub fn choices<'a>(
    mode: Mode,
    tc: &Choice,
    devices: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Vec<Choice> {
    let one = |hook| vec![Choice { hook, why: format!("asked for by mode = \"{mode}\"") }];
    let mut choices = match mode {
        Mode::Xdp => one(Hook::XdpNative),
        Mode::XdpGeneric => one(Hook::XdpGeneric),
        Mode::Tc => one(Hook::Tc),
        Mode::Auto => automatic(devices.into_iter().find_map(|(name, kind)| Some((name, kind?)))),
    };
    for choice in choices.iter_mut().filter(|choice| choice.hook == Hook::Tc && tc.hook != Hook::Tc) {
        choice.hook = tc.hook;
        choice.why = format!("{}; {}", choice.why, tc.why);
    }
    choices
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

    const NEW: KernelVersion = KernelVersion { major: 6, minor: 12 };

    fn tcx() -> Choice {
        tc_hook(TcAttach::Auto, NEW)
    }

    fn hooks(mode: Mode, devices: &[(&str, Option<&str>)]) -> Vec<Hook> {
        choices(mode, &tcx(), devices.iter().copied()).into_iter().map(|choice| choice.hook).collect()
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
            let chosen = choices(Mode::Auto, &tcx(), mixed);
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
        assert_eq!(choices(Mode::Tc, &tcx(), veth)[0].why, "asked for by mode = \"tc\"");
    }

    #[test]
    fn kernels_before_6_6_get_tc_by_clsact() {
        let hook = |asked, major, minor| tc_hook(asked, KernelVersion { major, minor }).hook;
        assert_eq!([hook(TcAttach::Auto, 6, 6), hook(TcAttach::Auto, 7, 2)], [Hook::Tc; 2]);
        assert_eq!([hook(TcAttach::Auto, 5, 18), hook(TcAttach::Auto, 6, 5)], [Hook::Clsact; 2]);
        assert_eq!([hook(TcAttach::Tcx, 6, 1), hook(TcAttach::Clsact, 6, 12)], [Hook::Tc, Hook::Clsact]);
    }

    #[test]
    fn native_xdp_carries_jumbo_frames_since_6_3() {
        let carries = |mtu, major, minor| native_xdp_carries(mtu, KernelVersion { major, minor });
        assert!(carries(1_500, 5, 18) && carries(3_498, 6, 2) && carries(9_000, 6, 3));
        assert!(!carries(9_000, 6, 2) && !carries(3_499, 5, 18));
    }

    #[test]
    fn clsact_takes_the_place_of_tcx_and_the_reason_says_so() {
        let clsact = tc_hook(TcAttach::Auto, KernelVersion { major: 6, minor: 1 });
        let chosen = choices(Mode::Auto, &clsact, [("eth0", None)]);
        let hooks: Vec<_> = chosen.iter().map(|choice| choice.hook).collect();
        assert_eq!(hooks, [Hook::XdpNative, Hook::Clsact, Hook::XdpGeneric]);
        let why =
            "native XDP is not available; by a clsact filter: Linux 6.1 has no TCX, which came with 6.6";
        assert_eq!(chosen[1].why, why);
        assert_eq!(chosen[1].hook.name(), "tc");
    }

    #[test]
    fn every_hook_is_found_by_its_name() {
        for hook in Hook::ALL {
            assert_eq!(Hook::from_name(&hook.to_string()), Some(hook));
        }
        assert_eq!(Hook::from_name("xdp"), None);
    }
}
