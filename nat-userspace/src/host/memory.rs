//! Whether the host has the memory for the flow table, which the kernel allocates whole.

use std::{fs, io};

use nat_common::table::table_bytes;

/// Why a flow table cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The table would take nearly all that the host has left, and the kernel would kill for it.
    #[error(
        "max_sessions = {sessions} takes {} MB for the flow table, and this host has {} MB available; write {most} or less",
        .needed / MEGABYTE, .available / MEGABYTE
    )]
    TooLittle {
        /// Sessions asked for.
        sessions: u32,
        /// Bytes that their table takes.
        needed: u64,
        /// Bytes that the host has.
        available: u64,
        /// Sessions that it has room for.
        most: u64,
    },
    /// The kernel does not tell.
    #[error("cannot read /proc/meminfo: {0}; is /proc mounted?")]
    Unknown(#[source] io::Error),
}

/// Checks that a new flow table for `sessions` leaves the host a tenth of the memory that it has available.
///
/// # Errors
/// [`MemoryError::TooLittle`], with a number that fits.
pub fn check_memory(sessions: u32) -> Result<(), MemoryError> {
    let text = fs::read_to_string("/proc/meminfo").map_err(MemoryError::Unknown)?;
    fits(sessions, available(&text).ok_or_else(|| MemoryError::Unknown(io::ErrorKind::InvalidData.into()))?)
}

fn fits(sessions: u32, available: u64) -> Result<(), MemoryError> {
    let (needed, spare) = (table_bytes(sessions), available / 10 * 9);
    if needed <= spare {
        return Ok(());
    }
    Err(MemoryError::TooLittle { sessions, needed, available, most: spare / table_bytes(1) })
}

/// Bytes that can be had without swapping, as the kernel estimates them.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

const MEGABYTE: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_its_line() {
        let meminfo = "MemTotal:       24105000 kB\nMemFree:  1 kB\nMemAvailable:   16777216 kB\n";
        assert_eq!(available(meminfo), Some(16 << 30));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_table_larger_than_nine_tenths_of_the_memory_is_refused_with_a_number_that_fits() {
        let available = 1_000_000_000;
        assert!(fits(3_000_000, available).is_ok());
        let error = fits(16_000_000, available).unwrap_err();
        let MemoryError::TooLittle { most, .. } = error else { panic!("{error}") };
        assert!(fits(u32::try_from(most).unwrap(), available).is_ok());
        assert_eq!(
            error.to_string(),
            "max_sessions = 16000000 takes 4096 MB for the flow table, and this host has 1000 MB available; \
             write 3515625 or less"
        );
    }
}
