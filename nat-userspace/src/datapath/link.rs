//! Taking a program off an interface, so that it is off when the call returns: the kernel lets go of a link that merely
//! loses its pin a little later.

use std::{
    ffi::CString,
    fs, io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

use super::DatapathError;

/// Detaches the link that is pinned at `path`, and removes the pin.
///
/// # Errors
/// [`DatapathError::Pin`] if the pin directory refuses. A link whose interface has gone is no failure.
pub fn take_off(path: &Path) -> Result<(), DatapathError> {
    if let Ok(link) = open(path) {
        // What the kernel refuses here it does by itself once the pin has gone.
        let _ = detach(&link);
    }
    fs::remove_file(path).map_err(DatapathError::pin("remove", path))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attributes: bpf_attr = unsafe { mem::zeroed() };
    attributes.__bindgen_anon_4.pathname = name.as_ptr() as u64;
    let descriptor = bpf(bpf_cmd::BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel has just handed out the descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    // SAFETY: all-zero is a valid `bpf_attr`.
    let mut attributes: bpf_attr = unsafe { mem::zeroed() };
    attributes.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attributes).map(drop)
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attributes are the kernel's own layout and outlive the call, as does what they point to.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes, mem::size_of::<bpf_attr>() as libc::c_uint)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as i32) }
}
