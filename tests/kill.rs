//! Members in processes of their own: killed, stopped, started, damaged. Nothing acknowledged is lost, nothing wrong is served.
//!
//! `ETCRING_KILLS=500 cargo test --release --test kill kill_9 -- --nocapture` kills 500 times; a seed that was printed is
//! given again in `ETCRING_TEST_SEED`.

#[allow(dead_code, reason = "each test program uses its own part of it")]
mod support;

#[path = "kill/checker.rs"]
mod checker;
#[path = "kill/copying.rs"]
mod copying;
#[path = "kill/damage.rs"]
mod damage;
#[path = "kill/full.rs"]
mod full;
#[path = "kill/growth.rs"]
mod growth;
#[path = "kill/history.rs"]
mod history;
#[path = "kill/lease.rs"]
mod lease;
#[path = "kill/load.rs"]
mod load;
#[path = "kill/quota.rs"]
mod quota;
#[path = "kill/rounds.rs"]
mod rounds;
#[path = "kill/sigterm.rs"]
mod sigterm;
