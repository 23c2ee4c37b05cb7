//! Time and tasks of one executor.

use std::future::Future;
use std::time::Duration;

use crate::base::Instant;

/// The process's monotonic clock: every executor of the process reads the same one.
pub trait Clock {
    /// What time it is.
    fn now(&self) -> Instant;
}

/// How soon a task that became ready must run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Within about a millisecond, also when another thread woke it on a busy core.
    Prompt,
    /// When the prompt ones leave room: zero-filling, checkpoints, moving pages.
    Background,
}

/// Local tasks and timers.
pub trait Tasks: Clock + Clone + 'static {
    /// Runs `task` on this executor until it ends. Nothing waits for it.
    fn spawn(&self, urgency: Urgency, task: impl Future<Output = ()> + 'static);

    /// Ends after `time`.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + 'static;

    /// Ends at `when`, at once if that has passed.
    fn sleep_until(&self, when: Instant) -> impl Future<Output = ()> + 'static {
        self.sleep(when.since(self.now()))
    }

    /// Lets every other ready task run first, and I/O that has ended wake its tasks.
    fn yield_now(&self) -> impl Future<Output = ()>;

    /// From now on, what arrives on the sockets of this executor may wait so long for more to arrive.
    fn gather_arrivals(&self, wait: Duration);
}
