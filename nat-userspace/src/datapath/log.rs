//! What the data plane logs (aya-log): rare events, off by default and then free of cost.

use std::io;

use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use super::Datapath;

/// Forwards the data plane's log to this process's for as long as the returned future is polled. It ends at once when
/// the data plane was loaded without a log.
///
/// # Errors
/// What the log's ring buffer answers.
pub fn forward_log(datapath: &mut Datapath) -> io::Result<impl Future<Output = ()> + use<>> {
    let logger = match EbpfLogger::init(&mut datapath.object) {
        Ok(logger) => Some(logger),
        Err(aya_log::Error::MapNotFound) => None,
        Err(error) => return Err(io::Error::other(error)),
    };
    Ok(async move {
        let Some(logger) = logger else { return };
        // SAFETY: the logger owns its ring buffer's descriptor, and gives it to nobody else, until it is dropped.
        let Ok(mut readable) = (unsafe { AsyncFd::register(logger) }) else { return };
        while let Ok(mut ready) = readable.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    })
}
