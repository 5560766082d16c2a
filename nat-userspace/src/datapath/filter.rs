//! TC ingress without TCX: a filter of the interface's clsact qdisc. It is no link that could be pinned; the kernel keeps
//! it until somebody removes it. So directories below the pin directory record it, before it is there: a controller that
//! is killed in between forgets nothing.
//!
//! ```text
//! filters/<interface>/netns-<inode>    the network namespace that it is in
//!                     qdisc-<index>    natgw has made the qdisc, of the interface with this index
//! ```

use std::{
    fs, io, mem,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, TcError,
    links::Link,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use nix::net::if_::if_nametoindex;

use super::{DatapathError, error::with_sources, qdisc};

/// First of all filters: an internal packet that another one lets out of the gateway's hands would leave untranslated.
const PRIORITY: u16 = 1;
/// Tells natgw's filter from others of that priority: "natg".
const HANDLE: TcHandle = TcHandle::new(0x6e61, 0x7467);

/// What marks of network namespaces begin with.
const NAMESPACE: &str = "netns-";

/// natgw's filter on an interface.
pub struct Filter<'a> {
    interface: &'a str,
    record: PathBuf,
}

impl<'a> Filter<'a> {
    /// The filter on `interface` that is recorded, or to be recorded, in the directory `record`.
    pub fn new(interface: &'a str, record: PathBuf) -> Self {
        Self { interface, record }
    }

    /// Whether it is recorded. It may be gone all the same, as when its interface went.
    pub fn is_recorded(&self) -> bool {
        self.record.is_dir()
    }

    /// Puts the program in the place of the filter's, which the kernel does in one step; false if there is no filter.
    pub fn replace(&self, program: &mut SchedClassifier) -> bool {
        let replaced = self.link().map_err(ProgramError::IOError).and_then(|link| {
            let id = program.attach_to_link(link)?;
            keep(program.take_link(id)?);
            Ok(())
        });
        replaced.is_ok()
    }

    /// Adds the filter, with the program, and the qdisc if there is none. If that fails, nothing has been added.
    ///
    /// # Errors
    /// The kernel's answer: `EEXIST` if a filter of natgw's is there that this pin directory does not know of, `EINVAL`
    /// or `ENOSPC` if a filter of another kind or protocol holds the priority.
    pub fn add(&self, program: &mut SchedClassifier) -> Result<(), ProgramError> {
        let was_recorded = self.is_recorded();
        fs::create_dir_all(self.record.join(namespace()?))?;
        let added = self.add_qdisc().map_err(ProgramError::IOError).and_then(|()| {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            let options = TcAttachOptions::Netlink(options);
            let id = program.attach_with_options(self.interface, TcAttachType::Ingress, options)?;
            keep(program.take_link(id)?);
            Ok(())
        });
        if added.is_err() {
            // The failure above is what there is to tell.
            let _ = self.remove_qdisc();
            if !was_recorded {
                let _ = self.forget();
            }
        }
        added
    }

    /// Takes the filter off, and the qdisc if natgw made it and nobody else's filters are on it. That the interface or
    /// the filter has gone is no failure.
    ///
    /// # Errors
    /// [`DatapathError::Detach`] if the kernel refuses, [`DatapathError::Pin`] if the pin directory does.
    pub fn take_off(&self) -> Result<(), DatapathError> {
        if self.is_elsewhere() {
            tracing::warn!(
                "natgw's filter on interface {0} is in another network namespace, and stays if that still exists: run \
                 `tc filter del dev {0} ingress prio {PRIORITY}` there",
                self.interface
            );
            return self.forget();
        }
        let refused = |error: &dyn std::error::Error| DatapathError::Detach {
            interface: self.interface.to_owned(),
            cause: with_sources(error),
        };
        // An interface that has gone has taken filter and qdisc along.
        if let Ok(link) = self.link() {
            match link.detach() {
                Err(error) if !is_gone(number(&error)) => return Err(refused(&error)),
                _ => self.remove_qdisc().map_err(|error| refused(&error))?,
            }
        }
        self.forget()
    }

    /// Whether the record is of another network namespace than this one.
    pub fn is_elsewhere(&self) -> bool {
        let Ok(here) = namespace() else { return false };
        let mut places = self.markers().filter(|name| name.starts_with(NAMESPACE)).peekable();
        places.peek().is_some() && places.all(|place| place != here)
    }

    /// Removes the record alone.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the pin directory refuses.
    pub fn forget(&self) -> Result<(), DatapathError> {
        for name in self.markers() {
            let path = self.record.join(name);
            fs::remove_dir(&path).map_err(DatapathError::pin("remove", &path))?;
        }
        fs::remove_dir(&self.record).map_err(DatapathError::pin("remove", &self.record))
    }

    fn link(&self) -> io::Result<SchedClassifierLink> {
        SchedClassifierLink::attached(self.interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)
    }

    /// Adds the qdisc and marks it as natgw's, if there is none.
    fn add_qdisc(&self) -> io::Result<()> {
        let index = if_nametoindex(self.interface)?;
        let marker = self.marker(index);
        let was_marked = marker.is_dir();
        if !was_marked {
            fs::create_dir(&marker)?;
        }
        let added = qdisc::add(index);
        if !was_marked && !matches!(added, Ok(true)) {
            fs::remove_dir(&marker)?;
        }
        added.map(drop)
    }

    /// Removes the qdisc if it is natgw's and no filter is on it.
    fn remove_qdisc(&self) -> io::Result<()> {
        let index = if_nametoindex(self.interface)?;
        let marker = self.marker(index);
        if !marker.is_dir() {
            return Ok(());
        }
        match qdisc::remove_unused(index) {
            Err(error) if !is_gone(error.raw_os_error()) => Err(error),
            _ => fs::remove_dir(&marker),
        }
    }

    /// The mark of a qdisc of natgw's. It bears the interface's index: another interface of the same name may come,
    /// with a qdisc that is not natgw's.
    fn marker(&self, index: u32) -> PathBuf {
        self.record.join(format!("qdisc-{index}"))
    }

    fn markers(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(&self.record).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    }
}

/// The mark of this thread's network namespace.
fn namespace() -> io::Result<String> {
    Ok(format!("{NAMESPACE}{}", fs::metadata("/proc/thread-self/ns/net")?.ino()))
}

/// The names of the interfaces with a filter that is recorded in the directory `records`.
pub fn recorded(records: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(records) {
        Ok(entries) => {
            Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Lets the filter outlive this process: the kernel would keep it, aya removes it with the value.
fn keep(link: SchedClassifierLink) {
    mem::forget(link);
}

/// Whether that is the kernel's answer about something that is not there. `EINVAL` is what it says of a filter without its qdisc.
fn is_gone(number: Option<i32>) -> bool {
    matches!(number, Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}

/// The number of the kernel's answer.
pub fn number(error: &ProgramError) -> Option<i32> {
    if let ProgramError::NetlinkError(error) | ProgramError::TcError(TcError::NetlinkError(error)) = error {
        return error.raw_os_error();
    }
    if let ProgramError::IOError(error) = error { error.raw_os_error() } else { None }
}
