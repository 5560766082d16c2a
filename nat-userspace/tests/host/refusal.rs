//! What the kernel says when it refuses a program, and how much of it is passed on.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::MapData;
use nat_userspace::{
    datapath::{Datapath, DatapathError, LoadOptions, Pins, Programs},
    host::preflight::ensure_bpffs,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::utsname::uname,
};

use crate::{Test, lab, tests};

pub fn trials() -> Vec<Test> {
    tests![a_program_that_is_refused_is_named_with_the_reason_and_the_log_of_the_verifier_is_for_who_debugs]
}

fn a_program_that_is_refused_is_named_with_the_reason_and_the_log_of_the_verifier_is_for_who_debugs() {
    lab::in_thread(|| async {
        let pins = Pins::new(Path::new("/sys/fs/bpf/natgw"));
        own_bpffs(pins.root());
        pins.create().unwrap();
        // The program that ages sessions reads more than the four bytes that this has.
        let definition = aya_obj::Map::new_from_params(
            aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            4,
            4,
            1,
            0,
        );
        MapData::create(definition, "AGEING", None).unwrap().pin(pins.map("AGEING")).unwrap();
        let (log, error) = load(&pins);
        let Err(error @ DatapathError::Load { program: "natgw_age", .. }) = error else {
            panic!("the kernel has refused nothing");
        };
        let text = error.to_string();
        let first = text.lines().next().unwrap();
        let release = uname().unwrap().release().to_string_lossy().into_owned();
        for part in ["natgw_age", &release, "Permission denied (os error 13)"] {
            assert!(first.contains(part), "{part} is missing in: {first}");
        }
        assert!(
            text.contains("\n  invalid access to map value, value_size=4 off="),
            "the reason is missing: {text}"
        );
        assert!(text.contains("NATGW_LOG=debug"), "it does not say where there is more: {text}");
        assert!(text.lines().count() <= 12 && text.len() < 2_000, "{} bytes: {text}", text.len());
        assert!(
            log.contains("natgw_age") && log.contains("\n0: R1=ctx"),
            "the log does not begin: {log:.300}"
        );
        assert!(log.contains("invalid access to map value"), "the log does not end");
    });
}

/// A BPF file system of this thread's own, which vanishes with it.
fn own_bpffs(directory: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    ensure_bpffs(directory).unwrap();
}

/// Loads the data plane onto what is pinned: what was logged, and the outcome.
fn load(pins: &Pins) -> (String, Result<(), DatapathError>) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let options = LoadOptions {
        max_sessions: 1_024,
        max_fragmented_datagrams: 64,
        log_level: 0,
        programs: Programs::All,
        bursts: false,
        resets_at_expiry: false,
    };
    let loaded = tracing::subscriber::with_default(subscriber, || Datapath::pinned(&options, pins));
    let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (String::from_utf8(bytes).unwrap(), loaded.map(drop))
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
