//! How often an executor looks at its sockets.
//!
//! A request that has a wake-up to itself costs several times what it costs among others: the sleep and the wake of two threads, the log's
//! write, the hand-over between cores. Where many connections speak, each now and then, requests are let gather for a moment, as network
//! cards let packets. Where few speak, each waits for its answer before it asks again, and nothing would be gained.

use std::time::Duration;

use crate::base::Instant;

/// The time over which connections that speak are counted.
const WINDOW: Duration = Duration::from_millis(10);
/// From so many on in a window, what arrives is let gather.
const MANY_SOCKETS: usize = 16;

/// Counts the sockets that speak, and says how long to look away.
#[derive(Debug)]
pub struct Pace {
    gather: Duration,
    window: Window,
    window_began: Instant,
    /// Sockets that spoke in this window.
    spoke: usize,
    /// Whether they were many in the last one.
    many: bool,
}

/// The number of a window, from 1; a socket has that of the last window that it spoke in.
pub type Window = u64;

impl Pace {
    /// Nobody has spoken. `gather`: how long arrivals wait for others at most; zero: never.
    pub fn new(gather: Duration) -> Pace {
        Pace { gather, window: 1, window_began: Instant::ZERO, spoke: 0, many: false }
    }

    /// A socket speaks that last did so in the window `last`, which becomes this one.
    pub fn hears(&mut self, last: &mut Window) {
        if *last != self.window {
            *last = self.window;
            self.spoke += 1;
        }
    }

    /// How long to look away after a look at `now`; zero: until the next arrival.
    pub fn rest(&mut self, now: Instant) -> Duration {
        let lasted = now.since(self.window_began);
        if lasted >= WINDOW {
            self.many = self.spoke >= MANY_SOCKETS && lasted < 2 * WINDOW;
            self.window += 1;
            self.window_began = now;
            self.spoke = 0;
        }
        if self.many { self.gather } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: Duration = Duration::from_micros(300);

    /// Looks each millisecond for `millis`, and hears the sockets that `speaking` says for each; whether it rests at the end.
    fn rests(pace: &mut Pace, from: Instant, millis: u64, speaking: impl Fn(u64) -> std::ops::Range<usize>) -> bool {
        let mut last = [0; 100];
        let mut rest = Duration::ZERO;
        for milli in 0..millis {
            speaking(milli).for_each(|socket| pace.hears(&mut last[socket]));
            rest = pace.rest(from + Duration::from_millis(milli));
        }
        rest == GATHER
    }

    #[test]
    fn many_that_speak_now_and_then_are_let_gather() {
        let start = Instant::ZERO + Duration::from_secs(1);
        let one_of_many = |milli| (milli as usize * 2 % 100)..(milli as usize * 2 % 100 + 2);
        assert!(rests(&mut Pace::new(GATHER), start, 30, one_of_many));
        assert!(!rests(&mut Pace::new(Duration::ZERO), start, 30, one_of_many));
        let few_that_speak_much = |_| 0..MANY_SOCKETS - 1;
        assert!(!rests(&mut Pace::new(GATHER), start, 30, few_that_speak_much));
    }

    #[test]
    fn who_comes_after_a_pause_does_not_wait() {
        let mut pace = Pace::new(GATHER);
        let start = Instant::ZERO + Duration::from_secs(1);
        assert!(rests(&mut pace, start, 30, |_| 0..MANY_SOCKETS));
        let later = start + Duration::from_secs(1);
        assert!(!rests(&mut pace, later, 1, |_| 0..1));
        assert!(!rests(&mut pace, later + Duration::from_millis(1), 9, |_| 0..MANY_SOCKETS));
        assert!(rests(&mut pace, later + Duration::from_millis(10), 11, |_| 0..MANY_SOCKETS));
    }
}
