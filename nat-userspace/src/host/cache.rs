//! The cache that a processor has for itself.

use std::{fs, path::Path};

/// Where the kernel tells of the first processor's caches.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";
/// What it is taken for where nobody tells.
const UNKNOWN: u64 = 1 << 20;

/// Bytes of the second-level cache of a processor: what lies there costs a packet next to nothing.
#[must_use]
pub fn cache_bytes() -> u64 {
    read(Path::new(CACHES)).unwrap_or(UNKNOWN)
}

fn read(directory: &Path) -> Option<u64> {
    let caches = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let second = |cache: &std::path::PathBuf| {
        fs::read_to_string(cache.join("level")).is_ok_and(|level| level.trim() == "2")
    };
    let size = fs::read_to_string(caches.into_iter().find(second)?.join("size")).ok()?;
    bytes(size.trim())
}

/// A size as the kernel writes it.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_kernel_writes_them() {
        assert_eq!(bytes("2048K"), Some(2 << 20));
        assert_eq!((bytes("1M"), bytes("512")), (Some(1 << 20), Some(512)));
        assert_eq!((bytes("lots"), bytes("3X")), (None, None));
    }

    #[test]
    fn a_host_that_does_not_tell_has_some_cache_all_the_same() {
        assert_eq!(read(Path::new("/nonexistent")), None);
        assert!(cache_bytes() >= 1 << 16);
    }
}
