//! How often an executor looks at its sockets.
//!
//! A request that has a wake-up to itself costs several times what it costs among others: the sleep and the wake of two threads, the log's
//! write, the hand-over between cores. Where many connections speak, each now and then, requests are let gather for a moment, as network
//! cards let packets; the more of them come, the more is saved, and the longer they are.
//!
//! Where clients wait for an answer before they ask again, nothing comes once all of them wait, and nothing would be gained. That shows
//! while requests gather: of the connections that were sent something since the last look, nearly all speak by the next one. Where few
//! speak, it is taken for granted.

use std::time::Duration;

use crate::base::Instant;

/// The time over which connections that speak are counted.
const WINDOW: Duration = Duration::from_millis(10);
/// From so many on in a window, what arrives is let gather.
const MANY_SOCKETS: usize = 16;
/// With so many arrivals in a window, they gather for as long as they may.
const ARRIVALS_FOR_MOST: u32 = 100;
/// With fewer, for at least this part of it.
const LEAST_PART: u32 = 4;
/// Clients wait for their answers when more than so many in a hundred of the connections that were sent something speak at once.
const SPEAK_AGAIN_PERCENT: usize = 75;
/// For so many windows, what they ask is then not let gather.
const AWAITED_WINDOWS: u32 = 64;

/// Counts the sockets that speak, and says how long to look away.
#[derive(Debug)]
pub struct Pace {
    /// How long arrivals wait for others at most.
    most: Duration,
    /// How long they do in this window.
    rest: Duration,
    /// Windows left, this one included, in which clients are known to wait for their answers.
    awaited: u32,
    window: Count,
    window_began: Instant,
    heard: Heard,
    /// Which interval between two looks it is.
    interval: Count,
}

/// Numbers windows, and intervals between looks; from 1.
type Count = u64;

/// What was heard in a window.
#[derive(Default, Debug)]
struct Heard {
    /// Arrivals: a socket counts with each look that finds something there.
    arrivals: u32,
    /// Sockets that spoke.
    sockets: usize,
    /// In each interval, the sockets that were sent something.
    sent: usize,
    /// Those of them that spoke by its end.
    again: usize,
}

/// What is remembered of one socket.
#[derive(Default, Debug)]
pub struct Voice {
    /// The window in which it spoke last.
    spoke: Count,
    /// The interval in which it was sent something last.
    sent: Count,
}

impl Pace {
    /// Nobody has spoken. `most`: how long arrivals wait for others at most; zero: never.
    pub fn new(most: Duration) -> Pace {
        Pace {
            most,
            rest: Duration::ZERO,
            awaited: 0,
            window: 1,
            window_began: Instant::ZERO,
            heard: Heard::default(),
            interval: 1,
        }
    }

    /// Something has arrived.
    pub fn hears(&mut self, voice: &mut Voice) {
        self.heard.arrivals += 1;
        if voice.spoke != self.window {
            voice.spoke = self.window;
            self.heard.sockets += 1;
        }
        if voice.sent == self.interval {
            self.heard.again += 1;
        }
    }

    /// Something was sent.
    pub fn sends(&mut self, voice: &mut Voice) {
        if voice.sent != self.interval {
            voice.sent = self.interval;
            self.heard.sent += 1;
        }
    }

    /// How long to look away after a look at `now`; zero: until the next arrival.
    pub fn rest(&mut self, now: Instant) -> Duration {
        self.interval += 1;
        let lasted = now.since(self.window_began);
        if lasted >= WINDOW {
            let heard = std::mem::take(&mut self.heard);
            self.decide(&heard, lasted);
            self.window += 1;
            self.window_began = now;
        }
        self.rest
    }

    /// How many sockets were sent something since the last look.
    #[cfg(test)]
    pub fn sent(&self) -> usize {
        self.heard.sent
    }

    /// A window is over that lasted so long.
    fn decide(&mut self, heard: &Heard, lasted: Duration) {
        let many = heard.sockets >= MANY_SOCKETS && lasted < 2 * WINDOW;
        let await_answers = heard.again * 100 > heard.sent * SPEAK_AGAIN_PERCENT;
        self.awaited =
            if many && !self.rest.is_zero() && await_answers { AWAITED_WINDOWS } else { self.awaited.saturating_sub(1) };
        let by_arrivals = self.most / ARRIVALS_FOR_MOST * heard.arrivals;
        self.rest = match many && self.awaited == 0 {
            true => by_arrivals.clamp(self.most / LEAST_PART, self.most),
            false => Duration::ZERO,
        };
    }
}

#[cfg(test)]
#[path = "pace_test.rs"]
mod tests;
