//! Sequences as text: one line for each step, as regressions are kept.
//!
//! ```text
//! int0 tcp 10.0.1.10:5000 > 192.0.2.10:443 flags=0x02 seq=1000
//! ext0 tcp 192.0.2.10:443 > @6/10.0.1.10:5000/192.0.2.10:443 flags=0x12 ack=1001
//! ext0 icmp 192.0.2.66:0 > @17/10.0.1.10:5000/192.0.2.10:53 error=3/3 keep=28 quoting ext0 udp ... > ...
//! pass 40
//! age
//! ```
//!
//! `@protocol/host/remote` is the external endpoint of that session. What is not said is as in a plain packet.

use std::{fmt::Write, net::Ipv4Addr, str::FromStr};

use crate::datapath::Side;

use super::{
    configuration::Configuration,
    step::{Body, Damage, End, Spec, Step},
};

const SIDES: [Side; 4] = [Side::Internal, Side::InternalB, Side::External, Side::Unconfigured];

/// The text of a sequence.
#[must_use]
pub fn print(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Packet(spec) => text += &packet(spec),
            Step::Pass(ticks) => {
                let _ = write!(text, "pass {ticks}");
            }
            Step::Age => text += "age",
            Step::Renew => text += "renew",
            Step::Configure(configuration) => {
                let _ = write!(text, "configure {}", configuration.name());
            }
        }
        text.push('\n');
    }
    text
}

fn packet(spec: &Spec) -> String {
    let plain = Spec::plain(spec.arrives, spec.source, spec.destination, spec.body.clone());
    let name = match spec.body {
        Body::Tcp { .. } => "tcp".to_owned(),
        Body::Udp { .. } => "udp".to_owned(),
        Body::Icmp { .. } | Body::Error { .. } => "icmp".to_owned(),
        Body::Other { protocol, .. } => format!("protocol-{protocol}"),
    };
    let mut text =
        format!("{} {name} {} > {}", spec.arrives.device(), end(spec.source), end(spec.destination));
    let mut field = |name: &str, value: String, as_usual: bool| {
        if !as_usual {
            let _ = write!(text, " {name}={value}");
        }
    };
    field("ttl", spec.ttl.to_string(), spec.ttl == plain.ttl);
    field("service", format!("{:#04x}", spec.service), spec.service == plain.service);
    field("id", format!("{:#06x}", spec.identification), spec.identification == plain.identification);
    field("fragment", format!("{:#06x}", spec.fragment), spec.fragment == plain.fragment);
    let options = spec.options.iter().map(|byte| format!("{byte:02x}")).collect();
    field("options", options, spec.options.is_empty());
    field("padding", spec.padding.to_string(), spec.padding == 0);
    match &spec.body {
        Body::Tcp { flags, sequence, acknowledgement, options, data } => {
            field("flags", format!("{flags:#04x}"), false);
            field("seq", sequence.to_string(), false);
            field("ack", acknowledgement.to_string(), *acknowledgement == 0);
            field("nops", options.to_string(), *options == 0);
            field("data", data.to_string(), *data == 0);
        }
        Body::Udp { checksum, data } => {
            field("checksum", "none".into(), *checksum);
            field("data", data.to_string(), *data == 0);
        }
        Body::Icmp { kind, code, data } => {
            field("type", format!("{kind}/{code}"), false);
            field("data", data.to_string(), *data == 0);
        }
        Body::Error { kind, code, rest, keep, .. } => {
            field("error", format!("{kind}/{code}"), false);
            field("rest", format!("{rest:#010x}"), *rest == 0);
            field("keep", keep.to_string(), false);
        }
        Body::Other { data, .. } => field("data", data.to_string(), *data == 0),
    }
    for damage in &spec.damage {
        match damage {
            Damage::Flip(at, with) => field("flip", format!("{at}:{with:#04x}"), false),
            Damage::Mend => field("mend", "ip".into(), false),
            Damage::Cut(length) => field("cut", length.to_string(), false),
        }
    }
    if let Body::Error { quote, .. } = &spec.body {
        text += " quoting ";
        text += &packet(quote);
    }
    text
}

fn end(end: End) -> String {
    match end {
        End::At(address, port) => format!("{address}:{port}"),
        End::Lent { protocol, internal, remote } => {
            format!("@{protocol}/{}:{}/{}:{}", internal.0, internal.1, remote.0, remote.1)
        }
    }
}

/// Reads a sequence; empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// The line that cannot be read, and why.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let steps = lines.map(|(number, line)| {
        step(line).map_err(|problem| format!("line {}: {problem}: {line}", number + 1))
    });
    steps.collect()
}

fn step(line: &str) -> Result<Step, String> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    match first {
        "pass" => Ok(Step::Pass(number(rest)?)),
        "age" => Ok(Step::Age),
        "renew" => Ok(Step::Renew),
        "configure" => {
            let named = Configuration::ALL.into_iter().find(|known| known.name() == rest);
            named.map(Step::Configure).ok_or_else(|| format!("there is no configuration `{rest}`"))
        }
        _ => spec(line).map(|spec| Step::Packet(Box::new(spec))),
    }
}

fn spec(text: &str) -> Result<Spec, String> {
    let (own, quoted) = match text.split_once(" quoting ") {
        Some((own, quoted)) => (own, Some(spec(quoted)?)),
        None => (text, None),
    };
    let mut words = own.split(' ');
    let mut next = || words.next().ok_or("the line ends too early".to_owned());
    let (device, protocol, source) = (next()?, next()?, next()?);
    if next()? != ">" {
        return Err("write `>` between the ends".into());
    }
    let destination = next()?;
    let arrives = SIDES.into_iter().find(|side| side.device() == device);
    let arrives = arrives.ok_or_else(|| format!("there is no interface `{device}`"))?;
    let fields = words
        .map(|word| word.split_once('=').ok_or_else(|| format!("`{word}` is no field")))
        .collect::<Result<Vec<_>, _>>()?;
    let body = body(protocol, &fields, quoted)?;
    let mut spec = Spec::plain(arrives, read_end(source)?, read_end(destination)?, body);
    for (name, value) in fields {
        field(&mut spec, name, value)?;
    }
    Ok(spec)
}

fn field(spec: &mut Spec, name: &str, value: &str) -> Result<(), String> {
    match name {
        "ttl" => spec.ttl = number(value)?,
        "service" => spec.service = number(value)?,
        "id" => spec.identification = number(value)?,
        "fragment" => spec.fragment = number(value)?,
        "padding" => spec.padding = number(value)?,
        "options" => {
            let pairs = (0..value.len() / 2).map(|place| value.get(place * 2..place * 2 + 2));
            let bytes = pairs.map(|pair| u8::from_str_radix(pair.unwrap_or_default(), 16));
            spec.options = bytes.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        }
        "flip" => {
            let (at, with) = value.split_once(':').ok_or("write `flip=offset:value`")?;
            spec.damage.push(Damage::Flip(number(at)?, number(with)?));
        }
        "mend" => spec.damage.push(Damage::Mend),
        "cut" => spec.damage.push(Damage::Cut(number(value)?)),
        "flags" | "seq" | "ack" | "nops" | "data" | "checksum" | "type" | "error" | "rest" | "keep" => {}
        _ => return Err(format!("there is no field `{name}`")),
    }
    Ok(())
}

fn body(protocol: &str, fields: &[(&str, &str)], quoted: Option<Spec>) -> Result<Body, String> {
    let value = |name| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let data = value("data").map_or(Ok(0), number)?;
    let pair = |value: &str| {
        let (kind, code) = value.split_once('/').ok_or("write `type/code`")?;
        Ok::<_, String>((number(kind)?, number(code)?))
    };
    match (protocol, quoted) {
        ("tcp", None) => Ok(Body::Tcp {
            flags: value("flags").map_or(Ok(0), number)?,
            sequence: value("seq").map_or(Ok(0), number)?,
            acknowledgement: value("ack").map_or(Ok(0), number)?,
            options: value("nops").map_or(Ok(0), number)?,
            data,
        }),
        ("udp", None) => Ok(Body::Udp { checksum: value("checksum") != Some("none"), data }),
        ("icmp", None) => {
            let (kind, code) = pair(value("type").ok_or("an ICMP message has a type")?)?;
            Ok(Body::Icmp { kind, code, data })
        }
        ("icmp", Some(quote)) => {
            let (kind, code) = pair(value("error").ok_or("an ICMP error has a type")?)?;
            let rest = value("rest").map_or(Ok(0), number)?;
            let keep = number(value("keep").ok_or("say how much is quoted")?)?;
            Ok(Body::Error { kind, code, rest, quote: Box::new(quote), keep })
        }
        (other, None) => {
            let protocol = other.strip_prefix("protocol-").ok_or_else(|| format!("what is `{other}`?"))?;
            Ok(Body::Other { protocol: number(protocol)?, data })
        }
        (other, Some(_)) => Err(format!("`{other}` quotes nothing")),
    }
}

fn read_end(text: &str) -> Result<End, String> {
    let Some(session) = text.strip_prefix('@') else {
        let (address, port) = endpoint(text)?;
        return Ok(End::At(address, port));
    };
    let mut parts = session.split('/');
    let mut next = || parts.next().ok_or_else(|| format!("`{text}` is no session"));
    Ok(End::Lent { protocol: number(next()?)?, internal: endpoint(next()?)?, remote: endpoint(next()?)? })
}

fn endpoint(text: &str) -> Result<(Ipv4Addr, u16), String> {
    let (address, port) = text.split_once(':').ok_or_else(|| format!("`{text}` is no endpoint"))?;
    let address = address.parse().map_err(|_| format!("`{address}` is no address"))?;
    Ok((address, number(port)?))
}

/// A number, decimal or with `0x`.
fn number<T: FromStr + TryFrom<u64>>(text: &str) -> Result<T, String> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse::<u64>().ok(),
    };
    value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| format!("`{text}` is no number that fits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::sequence;

    #[test]
    fn what_is_printed_is_read_back_as_it_was() {
        for seed in 0..50 {
            let steps = sequence(seed, 500);
            assert_eq!(parse(&print(&steps)).unwrap(), steps, "seed {seed}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        assert!(parse("age\nint0 tcp 10.0.1.10 > 192.0.2.10:1\n").unwrap_err().starts_with("line 2: "));
    }
}
