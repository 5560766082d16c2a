//! NACLs: the first rule that matches decides; none denies.

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use nat_common::{
    config::slot,
    flow::Direction,
    nacl::{MAX_NACLS, MAX_RULES, NaclList, Question},
};

use crate::maps::{NACL_RULES, NACLS};

/// Whether `nacl` lets a packet cross the subnet's border in `direction`, as the subnet sees it.
#[inline(always)]
pub fn allows(nacl: u16, direction: Direction, question: &Question, generation: u32) -> bool {
    let list = (slot(generation) * MAX_NACLS + u32::from(nacl)) * 2 + direction as u32;
    nacl_list_allows(list, slot(generation), question) != 0
}

/// A global function: the verifier looks at it once, not anew on every path that leads to it.
#[unsafe(no_mangle)]
extern "C" fn nacl_list_allows(list: u32, slot: u32, question: *const Question) -> u32 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(question) = (unsafe { question.as_ref() }) else { return 0 };
    let Some(&NaclList { first, count }) = NACLS.get(list) else { return 0 };
    let mut search = Search { question: *question, next: slot * MAX_RULES + first, allow: false };
    // SAFETY: the callback has the signature that the helper calls, and `search` outlives the call.
    unsafe { bpf_loop(count, ask as *mut c_void, (&raw mut search).cast(), 0) };
    search.allow.into()
}

struct Search {
    question: Question,
    next: u32,
    allow: bool,
}

/// One step of the search; 1 ends it.
unsafe extern "C" fn ask(_step: u32, search: *mut Search) -> u64 {
    // SAFETY: the pointer that `allows` handed to the helper.
    let search = unsafe { &mut *search };
    let Some(rule) = NACL_RULES.get(search.next) else { return 1 };
    search.next += 1;
    if !rule.matches(&search.question) {
        return 0;
    }
    search.allow = rule.allow != 0;
    1
}
