//! `HOSTS` as user space sees it.

use nat_common::host::Record;

use super::{DatapathError, Maps};

impl Maps {
    /// What hosts have taken of NAT gateways that limit them: a record for each host, and one for each remote that it
    /// has sessions with.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn hosts(&self) -> Result<Vec<Record>, DatapathError> {
        let records = self.hosts.iter().map(|found| found.map(|(_, record)| record));
        records.collect::<Result<_, _>>().map_err(DatapathError::access("read", "HOSTS"))
    }
}
