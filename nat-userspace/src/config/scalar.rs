//! Values that TOML may write in more than one way: durations, port ranges, protocols.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::text::PROTOCOLS;
use super::{MssClamp, Protocol};
use crate::ports::Ports;

/// A number or a text, not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    /// As an integer.
    Number(i64),
    /// In quotes.
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text in quotes")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// One scalar or several: `443`, `"80,443"`, `[80, "443-444"]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged, expecting = "invalid type, expected a number, a text in quotes or a list of these")]
pub(super) enum List {
    /// One, or several in one text.
    One(Scalar),
    /// Several.
    Many(Vec<Scalar>),
}

impl List {
    /// All ports of the list.
    pub(super) fn ports(&self) -> Result<Ports, Complaint> {
        self.parts().map(|part| part.ports()).collect()
    }

    /// The parts, each one port or range.
    pub(super) fn parts(&self) -> impl Iterator<Item = Scalar> {
        let scalars = match self {
            Self::One(scalar) => std::slice::from_ref(scalar),
            Self::Many(scalars) => scalars,
        };
        scalars.iter().flat_map(|scalar| match scalar {
            Scalar::Number(_) => vec![scalar.clone()],
            Scalar::Text(text) => text.split(',').map(|part| Scalar::Text(part.trim().to_owned())).collect(),
        })
    }
}

/// What is wrong with a scalar and what to write instead.
pub(super) type Complaint = (String, String);

const MAX_TIMEOUT: u64 = 31 * 24 * 60 * 60;

impl Scalar {
    /// The whole seconds of an idle timeout: `350`, `"350s"`, `"5m 50s"`.
    pub(super) fn seconds(&self) -> Result<u64, Complaint> {
        const REMEDY: &str = "write 1 to 2678400 seconds (31 days), as in 350, \"350s\" or \"5m 50s\"";
        self.seconds_in(1..=MAX_TIMEOUT, REMEDY)
    }

    /// The whole seconds that an Elastic IP drains for: as a timeout, or 0.
    pub(super) fn drain(&self) -> Result<u64, Complaint> {
        const REMEDY: &str = "write 0 to 2678400 seconds (31 days), as in 350, \"350s\" or \"5m 50s\"";
        self.seconds_in(0..=MAX_TIMEOUT, REMEDY)
    }

    /// A limit of the MSS: `"off"`, `"auto"` or bytes. What every host takes (RFC 9293 §3.7.1) is the least.
    pub(super) fn mss_clamp(&self) -> Result<MssClamp, Complaint> {
        const REMEDY: &str = "write \"off\", \"auto\", or 536 to 65495 bytes";
        match self {
            Self::Text(text) if text == "off" => Ok(MssClamp::Off),
            Self::Text(text) if text == "auto" => Ok(MssClamp::Auto),
            Self::Number(number) if (536..=65_495).contains(number) => Ok(MssClamp::Bytes(*number as u16)),
            Self::Number(_) => Err((format!("mss_clamp {self} is out of range"), REMEDY.to_owned())),
            Self::Text(_) => Err((format!("mss_clamp {self} is not understood"), REMEDY.to_owned())),
        }
    }

    fn seconds_in(&self, range: RangeInclusive<u64>, remedy: &str) -> Result<u64, Complaint> {
        let seconds = match self {
            Self::Number(number) => u64::try_from(*number).ok(),
            Self::Text(text) => whole_seconds(text),
        };
        match seconds {
            Some(seconds) if range.contains(&seconds) => Ok(seconds),
            Some(_) => Err((format!("{self} is out of range"), remedy.to_owned())),
            None => Err((format!("{self} is no duration in whole seconds"), remedy.to_owned())),
        }
    }

    /// A port range: `443`, `"443"`, `"1024-65535"`.
    pub(super) fn ports(&self) -> Result<(u16, u16), Complaint> {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.trim().to_owned(),
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let (Some(first), Some(last)) = (port(first), port(last)) else {
            return Err((
                format!("ports {self} are no port range"),
                "write ports from 1 to 65535, as in 443 or \"1024-65535\"".to_owned(),
            ));
        };
        if first > last {
            return Err((format!("port range {first}-{last} is empty"), format!("write \"{last}-{first}\"")));
        }
        Ok((first, last))
    }

    /// A protocol: `"tcp"`, `"udp"`, `"icmp"`, `"all"`, `47`.
    pub(super) fn protocol(&self) -> Result<Protocol, Complaint> {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        };
        text.parse().map_err(|_| (format!("protocol {self} is unknown"), format!("write {PROTOCOLS}")))
    }
}

fn whole_seconds(text: &str) -> Option<u64> {
    let duration = humantime::parse_duration(text).ok()?;
    (duration.subsec_nanos() == 0).then_some(duration.as_secs())
}

fn port(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    #[test]
    fn seconds_are_a_number_or_a_duration() {
        assert_eq!(Scalar::Number(350).seconds(), Ok(350));
        assert_eq!(text("350s").seconds(), Ok(350));
        assert_eq!(text("5m 50s").seconds(), Ok(350));
        assert_eq!(text("31days").seconds(), Ok(MAX_TIMEOUT));
    }

    #[test]
    fn a_timeout_of_nothing_or_beyond_a_month_is_refused() {
        for scalar in [Scalar::Number(0), Scalar::Number(-1), text("0s"), text("32days"), text("1500ms")] {
            assert!(scalar.seconds().is_err(), "{scalar}");
        }
    }

    #[test]
    fn an_elastic_ip_may_drain_for_no_time() {
        assert_eq!([Scalar::Number(0).drain(), text("0s").drain()], [Ok(0), Ok(0)]);
        assert_eq!(text("5m 50s").drain(), Ok(350));
        assert!(text("32days").drain().is_err() && Scalar::Number(-1).drain().is_err());
    }

    #[test]
    fn a_text_without_a_unit_is_no_duration() {
        assert_eq!(text("350").seconds().unwrap_err().0, "\"350\" is no duration in whole seconds");
    }

    #[test]
    fn ports_are_one_or_a_range() {
        assert_eq!(Scalar::Number(443).ports(), Ok((443, 443)));
        assert_eq!(text("443").ports(), Ok((443, 443)));
        assert_eq!(text("1024 - 65535").ports(), Ok((1024, 65535)));
    }

    #[test]
    fn a_reversed_port_range_is_refused_with_the_right_order() {
        let (message, remedy) = text("443-80").ports().unwrap_err();
        assert_eq!(message, "port range 443-80 is empty");
        assert_eq!(remedy, "write \"80-443\"");
    }

    #[test]
    fn port_0_and_ports_beyond_65535_are_refused() {
        for scalar in [Scalar::Number(0), Scalar::Number(65_536), Scalar::Number(-5), text("0-80"), text("")]
        {
            assert!(scalar.ports().is_err(), "{scalar}");
        }
    }
}
