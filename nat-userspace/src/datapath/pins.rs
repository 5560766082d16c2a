//! What outlives the controller: the pin directory.
//!
//! ```text
//! <pin dir>/maps-<schema>/<map>     every map
//!           programs/<program>      the programs
//!           links/<interface>       the attachments: removing one detaches at once
//!           filters/<interface>     a record of those that are no links: filters of the clsact qdisc
//! ```

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use nat_common::SCHEMA;
use nix::fcntl::{Flock, FlockArg};

use super::{
    DatapathError,
    filter::{Filter, recorded},
    link::take_off,
};

/// A pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pin directory at `root`, which need not exist.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where maps are pinned.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-{SCHEMA}"))
    }

    /// Where the map with this name is pinned: lower case, as all pins are.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name.to_lowercase())
    }

    /// Where the program with this name is pinned.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// Where attachments are pinned.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Where the attachment to this interface is pinned.
    #[must_use]
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface)
    }

    /// Where attachments that cannot be pinned are recorded.
    #[must_use]
    pub fn filters(&self) -> PathBuf {
        self.root.join("filters")
    }

    /// The filter on this interface, and its record.
    pub(super) fn filter<'a>(&self, interface: &'a str) -> Filter<'a> {
        Filter::new(interface, self.filters().join(interface))
    }

    /// Whether a data plane is pinned here.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.maps().is_dir()
    }

    /// Creates the directories.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the BPF file system is not mounted or not writable.
    pub fn create(&self) -> Result<(), DatapathError> {
        for directory in [self.maps(), self.root.join("programs"), self.links()] {
            fs::create_dir_all(&directory).map_err(DatapathError::pin("create", &directory))?;
        }
        Ok(())
    }

    /// Names of the interfaces with an attachment, pinned or recorded, sorted.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the directory cannot be read.
    pub fn attached(&self) -> Result<Vec<String>, DatapathError> {
        let links = self.links();
        let entries = match fs::read_dir(&links) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DatapathError::pin("read", &links)(error)),
        };
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let filters = self.filters();
        names.extend(recorded(&filters).map_err(DatapathError::pin("read", &filters))?);
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Takes whatever is attached to an interface off.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the pin directory refuses, [`DatapathError::Detach`] if the kernel does.
    pub fn release(&self, interface: &str) -> Result<(), DatapathError> {
        let link = self.link(interface);
        if link.exists() {
            take_off(&link)?;
        }
        let filter = self.filter(interface);
        if filter.is_recorded() { filter.take_off() } else { Ok(()) }
    }

    /// Takes everything off: attachments first, so that no packet meets half a data plane.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] or [`DatapathError::Detach`] naming what could not be removed.
    pub fn remove(&self) -> Result<(), DatapathError> {
        for interface in self.attached()? {
            self.release(&interface)?;
        }
        remove_tree(&self.root)
    }

    /// Takes the lock that a controller holds while it lives; `None` if another holds it.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the directory cannot be opened.
    pub fn lock(&self) -> Result<Option<Lock>, DatapathError> {
        self.try_lock(FlockArg::LockExclusiveNonblock)
    }

    /// Whether a controller lives. Those who only ask do not take each other for one.
    ///
    /// # Errors
    /// [`DatapathError::Pin`] if the directory cannot be opened.
    pub fn controller_runs(&self) -> Result<bool, DatapathError> {
        Ok(self.try_lock(FlockArg::LockSharedNonblock)?.is_none())
    }

    fn try_lock(&self, how: FlockArg) -> Result<Option<Lock>, DatapathError> {
        let directory = File::open(&self.root).map_err(DatapathError::pin("open", &self.root))?;
        match Flock::lock(directory, how) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(DatapathError::pin("lock", &self.root)(error)),
        }
    }
}

/// The controller's lock on its pin directory; the kernel releases it however the controller ends.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl AsFd for Lock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The BPF file system knows no recursive removal of its own.
fn remove_tree(directory: &Path) -> Result<(), DatapathError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DatapathError::pin("read", directory)(error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_tree(&path)?;
        } else {
            fs::remove_file(&path).map_err(DatapathError::pin("remove", &path))?;
        }
    }
    fs::remove_dir(directory).map_err(DatapathError::pin("remove", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_seen_while_it_holds_the_lock_and_askers_are_not() {
        let root = std::env::temp_dir().join(format!("natgw-pins-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let pins = Pins::new(&root);
        let asker = pins.try_lock(FlockArg::LockSharedNonblock).unwrap();
        let beside_an_asker = pins.controller_runs().unwrap();
        drop(asker);
        let controller = pins.lock().unwrap();
        let beside_a_controller = pins.controller_runs().unwrap();
        drop(controller);
        let afterwards = pins.controller_runs().unwrap();
        fs::remove_dir(&root).unwrap();
        assert_eq!([beside_an_asker, beside_a_controller, afterwards], [false, true, false]);
    }
}
