//! How a session is woken: one signal for the whole, and a list of the streams that have something to do.
//!
//! Wakers are `Send` by contract, so these use atomics and a mutex; in truth everything happens on one thread, and no lock is ever waited
//! for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Wakes the session's task, except from within its own turn: that looks at [`Signal::take`] itself.
#[derive(Default)]
pub(super) struct Signal {
    in_turn: AtomicBool,
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Signal {
    /// The session's task runs, and its waker is `task`.
    pub fn enter(&self, task: &Waker) {
        self.in_turn.store(true, Ordering::SeqCst);
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// The turn ends. False when something came in since the last [`Signal::take`]: then it must go on.
    pub fn leave(&self) -> bool {
        self.in_turn.store(false, Ordering::SeqCst);
        !self.woken.load(Ordering::SeqCst)
    }

    /// Whether something came in, and forgets it.
    pub fn take(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    pub fn raise(&self) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.in_turn.load(Ordering::SeqCst)
            && let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner)
        {
            task.wake_by_ref();
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

/// The streams (by their slots) that were woken and not looked at yet.
#[derive(Default)]
pub(super) struct ReadyStreams {
    slots: Mutex<Vec<usize>>,
}

impl ReadyStreams {
    /// Moves them to `into`, which is empty.
    pub fn drain(&self, into: &mut Vec<usize>) {
        assert!(into.is_empty(), "the last ones were not all looked at");
        std::mem::swap(into, &mut self.slots.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn is_empty(&self) -> bool {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Puts a slot on the list. Stays with the slot, so a stream costs no waker of its own.
pub(super) struct StreamSignal {
    slot: usize,
    listed: AtomicBool,
    ready: Arc<ReadyStreams>,
    session: Arc<Signal>,
}

impl StreamSignal {
    pub fn new(slot: usize, ready: Arc<ReadyStreams>, session: Arc<Signal>) -> Arc<StreamSignal> {
        Arc::new(StreamSignal { slot, listed: AtomicBool::new(false), ready, session })
    }

    /// The slot is taken off the list: the next wake lists it again.
    pub fn looked_at(&self) {
        self.listed.store(false, Ordering::SeqCst);
    }
}

impl Wake for StreamSignal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::SeqCst) {
            self.ready.slots.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
            self.session.raise();
        }
    }
}
