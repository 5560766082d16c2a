//! What a failed test prints: everything.

use std::{fmt::Write, net::SocketAddrV4};

use nat_common::{
    drop::DropReason,
    flow::{Direction, FlowEntry4, FlowKey4, address},
};
use nat_userspace::datapath::Maps;

use super::state::State;

/// A frame in hexadecimal, with the bytes that differ from `other` marked.
pub fn frame(bytes: &[u8], other: Option<&[u8]>) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "  {:04x} ", line * 16);
        for (column, byte) in chunk.iter().enumerate() {
            let differs = other.is_some_and(|other| other.get(line * 16 + column) != Some(byte));
            let _ = write!(text, "{}{byte:02x}", if differs { '*' } else { ' ' });
        }
        text.push('\n');
    }
    text
}

/// Every flow and every drop reason with its latest sample.
pub fn state(state: &State, maps: &Maps) -> String {
    let mut text = String::from("flows:\n");
    for (key, entry) in &state.flows {
        let _ = writeln!(text, "  {}", flow(key, entry));
    }
    text += "drops:\n";
    for reason in DropReason::ALL {
        if let Ok(Some(sample)) = maps.drop_sample(*reason) {
            let _ = writeln!(text, "  {}: {} latest {sample:?}", reason.name(), state.drops()[reason.name()]);
        }
    }
    text
}

fn flow(key: &FlowKey4, entry: &FlowEntry4) -> String {
    let source = endpoint(key.source, key.source_port);
    let destination = endpoint(key.destination, key.destination_port);
    let rewrite = endpoint(entry.address, entry.port);
    let FlowEntry4 { tcp_seen, generation, last_seen, opened, packets, .. } = entry;
    let way = match key.direction() {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
    };
    format!(
        "{way} protocol {} zone {} {source} -> {destination} rewrites to {rewrite}, tcp {tcp_seen:#x}, generation \
         {generation}, opened {opened}, last seen {last_seen}, {packets} packets, {} bytes",
        key.protocol,
        key.zone,
        entry.byte_count()
    )
}

fn endpoint(raw: u32, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address(raw), u16::from_be(port))
}
