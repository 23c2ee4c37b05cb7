//! When the allocator gives memory back to the system.
//!
//! mimalloc does that in whichever thread allocates next when something has been free for a second. On an executor all connections then
//! wait: after each Range of 100 MB it stood still for tens of milliseconds, 4 MiB of pages at a time, and had to fault the same pages in
//! again for the next one. So what is free stays with the process for a while, and a thread that serves nobody gives it back.

use std::ffi::c_long;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc 3, which its crate does not name: for how many milliseconds what is free is kept.
const PURGE_DELAY: mi_option_t = 15;
/// Far longer than [`GIVE_BACK_INTERVAL`]: executors come to it only if nobody has given anything back for so long.
const PURGE_DELAY_MILLIS: c_long = 60_000;
/// How often what is free is given back.
pub const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(10);

/// From here on threads that allocate keep what is free.
pub fn keep() {
    // SAFETY: the option is a number that is read when something is freed; any thread may set it.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MILLIS) };
}

/// Gives back what is free now, whichever thread freed it.
pub fn give_back() {
    // SAFETY: any thread may; only its own small blocks and what is free in all threads' arenas are touched.
    unsafe { mi_collect(true) };
}
