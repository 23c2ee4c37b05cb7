//! Room for what ranges gather: however many large ones there are at a time, and however slowly their answers are taken, a front holds a
//! bounded number of bytes for them.
//!
//! A range has its first slice as soon as it asks; small ones need no more. While there is room it has further ones, too. When there is
//! none, ranges wait with what they have, and one of them goes on alone to its end, the one that began first; with it there is room
//! again, or the next one has its turn. Answers that no client takes are counted as well. If these alone are more than is to be held,
//! nothing goes on, and new ranges are refused, until clients take them or go away.

use std::collections::BTreeMap;

use crate::base::limits::{GATHERED_BYTES_MAX, UNSENT_BYTES_MAX};

use super::call::CallId;
use super::range::Asked;

/// How much a front may hold for ranges.
#[derive(Clone, Copy, Debug)]
pub struct RoomSize {
    /// Bytes gathered or not taken by clients, from which on ranges go on one at a time.
    pub gathered_max: usize,
    /// Bytes of answers that clients have not taken, from which on none goes on.
    pub unsent_max: usize,
}

impl Default for RoomSize {
    fn default() -> RoomSize {
        RoomSize { gathered_max: GATHERED_BYTES_MAX, unsent_max: UNSENT_BYTES_MAX }
    }
}

/// One of a call's reads.
type Part = (CallId, u32);

/// What a front holds for ranges, and those that wait for room.
pub struct Room {
    size: RoomSize,
    /// Bytes of slices that came, of calls that are not answered.
    gathered: usize,
    /// Bytes of answers that clients have not taken.
    unsent: usize,
    /// The call that goes on though there is no room.
    alone: Option<CallId>,
    /// What waits, oldest call first.
    waiting: BTreeMap<Part, Vec<Asked>>,
}

impl Room {
    /// Nothing held yet.
    pub fn new(size: RoomSize) -> Room {
        Room { size, gathered: 0, unsent: 0, alone: None, waiting: BTreeMap::new() }
    }

    /// What the transport says is not taken.
    pub fn set_unsent(&mut self, bytes: usize) {
        self.unsent = bytes;
    }

    /// Whether new ranges are to be refused.
    pub fn is_full(&self) -> bool {
        self.unsent > self.size.unsent_max
    }

    /// Whether anything waits.
    pub fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes of slices that came, of calls that are not answered.
    #[cfg(test)]
    pub fn gathered(&self) -> usize {
        self.gathered
    }

    /// A slice of so many bytes is here.
    pub fn gather(&mut self, bytes: usize) {
        self.gathered += bytes;
    }

    /// A call has read all, or is over; it had gathered so much.
    pub fn let_go(&mut self, call: CallId, bytes: usize) {
        self.gathered -= bytes;
        self.alone.take_if(|alone| *alone == call);
        while let Some((&part, _)) = self.waiting.range((call, 0)..=(call, u32::MAX)).next() {
            self.waiting.remove(&part);
        }
    }

    /// A read wants further slices.
    pub fn wait(&mut self, call: CallId, part: u32, wanted: Vec<Asked>) {
        self.waiting.entry((call, part)).or_default().extend(wanted);
    }

    /// The next read that may go on, and what it asks for.
    pub fn next(&mut self) -> Option<(CallId, u32, Vec<Asked>)> {
        if self.gathered + self.unsent < self.size.gathered_max {
            let ((call, part), wanted) = self.waiting.pop_first()?;
            return Some((call, part, wanted));
        }
        if self.is_full() {
            return None;
        }
        let &(oldest, _) = self.waiting.first_key_value()?.0;
        let alone = *self.alone.get_or_insert(oldest);
        let &part = self.waiting.range((alone, 0)..=(alone, u32::MAX)).next()?.0;
        Some((part.0, part.1, self.waiting.remove(&part)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: RoomSize = RoomSize { gathered_max: 100, unsent_max: 200 };

    fn next(room: &mut Room) -> Option<u64> {
        room.next().map(|(call, ..)| call.0)
    }

    #[test]
    fn without_room_the_oldest_goes_on_alone_to_its_end() {
        let mut room = Room::new(SIZE);
        for call in [3, 1, 2] {
            room.gather(40);
            room.wait(CallId(call), 0, Vec::new());
        }
        room.wait(CallId(1), 1, Vec::new());
        assert_eq!((next(&mut room), next(&mut room), next(&mut room)), (Some(1), Some(1), None));
        // An older one that comes to wait meanwhile has the next turn.
        room.wait(CallId(0), 0, Vec::new());
        assert_eq!(next(&mut room), None);
        room.gather(40);
        room.wait(CallId(1), 0, Vec::new());
        assert_eq!((next(&mut room), next(&mut room)), (Some(1), None));
        room.let_go(CallId(1), 80);
        room.set_unsent(120);
        assert_eq!((next(&mut room), next(&mut room)), (Some(0), None));
        room.let_go(CallId(0), 0);
        assert_eq!((next(&mut room), next(&mut room)), (Some(2), None));
        room.set_unsent(10);
        assert_eq!((next(&mut room), room.is_waited_for()), (Some(3), false));
    }

    #[test]
    fn nothing_goes_on_before_clients_take_what_they_asked_for() {
        let mut room = Room::new(SIZE);
        room.wait(CallId(1), 0, Vec::new());
        room.wait(CallId(1), 1, Vec::new());
        room.wait(CallId(2), 0, Vec::new());
        room.set_unsent(201);
        assert!(room.is_full() && next(&mut room).is_none());
        room.let_go(CallId(1), 0);
        room.set_unsent(200);
        assert_eq!((room.is_full(), next(&mut room)), (false, Some(2)));
    }
}
