//! Fragmentation (RFC 791 §2.3, RFC 1812 §4.2.2.7): into the fewest pieces, in order.

use super::packet::{Place, set_word, sum};

/// Options that stand in every fragment have this bit (RFC 791 §3.1).
const COPIED: u8 = 0x80;

/// The fragments of `packet`, a whole one or a fragment itself, for a link that carries `mtu` bytes of IP; the packet as it
/// is if it fits. Empty if it must not be fragmented, or cannot.
#[must_use]
pub fn divide(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    if packet.len() <= mtu {
        return vec![packet.to_vec()];
    }
    let Some(place) = Place::of(packet).filter(|place| !place.atomic) else { return Vec::new() };
    let (first, content) = packet.split_at(place.header);
    let following = header_of_others(first);
    let (mut pieces, mut done) = (Vec::new(), 0);
    while done < content.len() {
        let header = if done == 0 { first } else { &following };
        let Some(room) = mtu.checked_sub(header.len()).filter(|room| *room >= 8) else { return Vec::new() };
        let left = content.len() - done;
        let taken = if left <= room { left } else { room & !7 };
        let more = place.more || taken < left;
        pieces.push(piece(header, &content[done..done + taken], place.offset + done, more));
        done += taken;
    }
    pieces
}

fn piece(header: &[u8], content: &[u8], offset: usize, more: bool) -> Vec<u8> {
    let mut piece = [header, content].concat();
    let length = piece.len() as u16;
    let bits = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    piece[2..4].copy_from_slice(&length.to_be_bytes());
    piece[6..8].copy_from_slice(&bits.to_be_bytes());
    set_word(&mut piece, 10, 0);
    let checksum = !sum(&[&piece[..header.len()]]);
    set_word(&mut piece, 10, checksum);
    piece
}

/// The header of all fragments but the first: with the options alone that are to be copied.
fn header_of_others(header: &[u8]) -> Vec<u8> {
    let mut copied = header[..20].to_vec();
    let mut options = &header[20..];
    while let [kind, rest @ ..] = options {
        match *kind {
            0 => break,
            1 => options = rest,
            kind => {
                let length = usize::from(*rest.first().unwrap_or(&0));
                let Some((option, after)) = options.split_at_checked(length).filter(|_| length >= 2) else {
                    break;
                };
                if kind & COPIED != 0 {
                    copied.extend_from_slice(option);
                }
                options = after;
            }
        }
    }
    copied.resize(copied.len().next_multiple_of(4), 0);
    copied[0] = 0x40 | (copied.len() / 4) as u8;
    copied
}
