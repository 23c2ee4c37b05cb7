//! Where the connections of an executor meet the pump: calls' events in one list, answers out to the sessions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use slab::Slab;

use super::signal::Signal;
use crate::base::limits::CALLS_PER_EXECUTOR_MAX;
use crate::front::{CallId, CallOptions, Method, Status};

/// What a call's client did.
#[derive(Debug)]
pub enum Incoming {
    /// A call begins.
    Open {
        /// Its name from here on.
        call: CallId,
        /// What it asks for.
        method: Method,
        /// What its headers say.
        options: CallOptions,
        /// Always the one message of a method that takes one (and then the client sends no more); never that of another.
        message: Option<Bytes>,
    },
    /// A message on a call that takes any number.
    Message {
        /// The call.
        call: CallId,
        /// The protobuf, unframed.
        message: Bytes,
    },
    /// The client sends no more messages on a call that takes any number.
    HalfClose {
        /// The call.
        call: CallId,
    },
    /// The client, or its connection, is gone. The call has ended: nothing is sent on it any more.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// Bytes given to [`Port::send`] fit the client's window and left (not reported for unary calls).
    Sent {
        /// The call.
        call: CallId,
        /// How many, prefixes included.
        bytes: usize,
    },
}

/// What the front answers, on its way to a session.
pub(super) enum Outgoing {
    Send {
        slot: usize,
        call: CallId,
        bytes: Bytes,
    },
    Finish {
        slot: usize,
        call: CallId,
        status: Status,
    },
    /// The last message, the parts behind the first in reverse, and then a good end.
    Reply {
        slot: usize,
        call: CallId,
        bytes: Bytes,
        rest: Vec<Bytes>,
    },
}

/// A session's side of the port: what is on its way to it.
pub(super) struct Mailbox {
    pub outgoing: RefCell<Vec<Outgoing>>,
    pub signal: Arc<Signal>,
}

impl Mailbox {
    fn put(&self, outgoing: Outgoing) {
        let mut list = self.outgoing.borrow_mut();
        list.push(outgoing);
        if list.len() == 1 {
            self.signal.raise();
        }
    }
}

/// A call that is neither finished nor cancelled.
struct Open {
    call: CallId,
    mailbox: Rc<Mailbox>,
    slot: usize,
}

#[derive(Default)]
struct State {
    incoming: Vec<Incoming>,
    pump: Option<Waker>,
    calls: Slab<Open>,
    opened: u64,
    /// Bytes of answers to unary calls that the sockets have not taken.
    unsent_answers: Rc<Cell<usize>>,
    /// Bytes that streams have to send and their clients' windows have no room for.
    queued: Rc<Cell<usize>>,
}

/// The meeting place of one executor; clones are handles to the same one.
///
/// A [`CallId`] is a count of the calls opened, above the place in the table of the open ones.
#[derive(Clone, Default)]
pub struct Port(Rc<RefCell<State>>);

const PLACE_BITS: u32 = CALLS_PER_EXECUTOR_MAX.trailing_zeros();
const _: () = assert!(CALLS_PER_EXECUTOR_MAX.is_power_of_two());

/// The place of a call in the table of the open ones: lower than [`CALLS_PER_EXECUTOR_MAX`], and used again when the call has ended.
pub fn place(call: CallId) -> usize {
    (call.0 & (CALLS_PER_EXECUTOR_MAX as u64 - 1)) as usize
}

impl Port {
    /// A port without calls.
    pub fn new() -> Port {
        Port::default()
    }

    /// Moves what came in, in order, to the end of `into`. Pending when there is nothing: the waker is then woken once, by the first event.
    pub fn poll_incoming(&self, cx: &mut Context<'_>, into: &mut Vec<Incoming>) -> Poll<()> {
        if self.take_incoming(into) {
            return Poll::Ready(());
        }
        let mut state = self.0.borrow_mut();
        if !state.pump.as_ref().is_some_and(|pump| pump.will_wake(cx.waker())) {
            state.pump = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until something came in, and moves it, in order, to the end of `into`.
    pub async fn incoming(&self, into: &mut Vec<Incoming>) {
        std::future::poll_fn(|cx| self.poll_incoming(cx, into)).await;
    }

    /// Moves what came in, in order, to the end of `into`; false when there was nothing.
    pub fn take_incoming(&self, into: &mut Vec<Incoming>) -> bool {
        let mut state = self.0.borrow_mut();
        if state.incoming.is_empty() {
            return false;
        }
        if into.is_empty() {
            std::mem::swap(into, &mut state.incoming);
        } else {
            into.append(&mut state.incoming);
        }
        true
    }

    /// Sends a message, framed. One call's messages leave in order; for a stream each is reported as [`Incoming::Sent`] when it does.
    /// Nothing happens when the call has ended.
    pub fn send(&self, call: CallId, bytes: Bytes) {
        let state = self.0.borrow();
        if let Some(open) = state.calls.get(place(call)).filter(|open| open.call == call) {
            open.mailbox.put(Outgoing::Send { slot: open.slot, call, bytes });
        }
    }

    /// Sends the last message, framed, and ends the call well. Nothing happens when it has ended.
    pub fn reply(&self, call: CallId, bytes: Bytes) {
        if let Some(open) = self.close(call) {
            open.mailbox.put(Outgoing::Reply { slot: open.slot, call, bytes, rest: Vec::new() });
        }
    }

    /// As [`Port::reply`], with a message in parts, one at least.
    pub fn reply_parts(&self, call: CallId, mut parts: Vec<Bytes>) {
        parts.reverse();
        let bytes = parts.pop().expect("a message has parts");
        if let Some(open) = self.close(call) {
            open.mailbox.put(Outgoing::Reply { slot: open.slot, call, bytes, rest: parts });
        }
    }

    /// Ends a call, after the messages sent on it. Nothing happens when it has ended.
    pub fn finish(&self, call: CallId, status: Status) {
        if let Some(open) = self.close(call) {
            open.mailbox.put(Outgoing::Finish { slot: open.slot, call, status });
        }
    }

    /// Calls that are neither finished nor cancelled.
    pub fn calls(&self) -> usize {
        self.0.borrow().calls.len()
    }

    /// Bytes of answers to unary calls that the sockets have not taken.
    pub fn unsent(&self) -> usize {
        self.0.borrow().unsent_answers.get()
    }

    /// Whether something waits for a client to take it.
    pub fn is_held_back(&self) -> bool {
        let state = self.0.borrow();
        state.unsent_answers.get() + state.queued.get() > 0
    }

    /// Where the bytes of streams that wait for their clients' windows are counted.
    pub(super) fn queued(&self) -> Rc<Cell<usize>> {
        self.0.borrow().queued.clone()
    }

    /// Where those of answers to unary calls are.
    pub(super) fn unsent_answers(&self) -> Rc<Cell<usize>> {
        self.0.borrow().unsent_answers.clone()
    }

    /// Takes a call off the table; None when it has ended.
    fn close(&self, call: CallId) -> Option<Open> {
        let mut state = self.0.borrow_mut();
        let known = state.calls.get(place(call)).is_some_and(|open| open.call == call);
        known.then(|| state.calls.remove(place(call)))
    }

    /// Opens a call; None when there are too many.
    pub(super) fn open(
        &self,
        mailbox: &Rc<Mailbox>,
        slot: usize,
        method: Method,
        options: CallOptions,
        message: Option<Bytes>,
    ) -> Option<CallId> {
        assert_eq!(message.is_some(), method.kind().takes_one(), "{method:?} opens with its message exactly when it takes one");
        let mut state = self.0.borrow_mut();
        if state.calls.len() == CALLS_PER_EXECUTOR_MAX {
            return None;
        }
        let entry = state.calls.vacant_entry();
        let place = entry.key();
        assert!(place < CALLS_PER_EXECUTOR_MAX, "the table is denser than it is long");
        let call = CallId(0);
        entry.insert(Open { call, mailbox: mailbox.clone(), slot });
        state.opened += 1;
        let call = CallId(state.opened << PLACE_BITS | place as u64);
        state.calls[place].call = call;
        drop(state);
        self.tell(Incoming::Open { call, method, options, message });
        Some(call)
    }

    /// The client of a call is gone.
    pub(super) fn cancel(&self, call: CallId) {
        if self.close(call).is_some() {
            self.tell(Incoming::Cancel { call });
        }
    }

    /// Passes an event of an open call on; one that has ended has none.
    pub(super) fn event(&self, call: CallId, event: Incoming) {
        let known = self.0.borrow().calls.get(place(call)).is_some_and(|open| open.call == call);
        if known {
            self.tell(event);
        }
    }

    fn tell(&self, event: Incoming) {
        let mut state = self.0.borrow_mut();
        state.incoming.push(event);
        if state.incoming.len() == 1
            && let Some(pump) = &state.pump
        {
            pump.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::front::Code;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn mailbox() -> Rc<Mailbox> {
        Rc::new(Mailbox { outgoing: RefCell::default(), signal: Arc::default() })
    }

    fn open(port: &Port, mailbox: &Rc<Mailbox>, slot: usize) -> CallId {
        port.open(mailbox, slot, Method::Put, CallOptions::default(), Some(Bytes::new())).expect("there is room")
    }

    #[test]
    fn the_pump_is_woken_once_per_burst() {
        let (port, mailbox, counter) = (Port::new(), mailbox(), Arc::new(Counter::default()));
        let waker = Waker::from(counter.clone());
        let (cx, mut events) = (&mut Context::from_waker(&waker), Vec::new());
        assert!(port.poll_incoming(cx, &mut events).is_pending());
        for slot in 0..5 {
            open(&port, &mailbox, slot);
        }
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert!(port.poll_incoming(cx, &mut events).is_ready());
        assert_eq!(events.len(), 5);
        assert!(port.poll_incoming(cx, &mut events).is_pending());
        open(&port, &mailbox, 5);
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_call_ends_once_and_its_place_is_not_mistaken_for_it() {
        let (port, mailbox, mut events) = (Port::new(), mailbox(), Vec::new());
        let first = open(&port, &mailbox, 0);
        port.finish(first, Status::OK);
        port.finish(first, Status::new(Code::Internal, "again"));
        port.send(first, Bytes::new());
        port.cancel(first);
        let second = open(&port, &mailbox, 1);
        assert_ne!(first, second);
        assert_eq!(place(first), place(second));
        port.event(first, Incoming::HalfClose { call: first });
        port.cancel(first);
        assert_eq!(port.calls(), 1);
        port.cancel(second);
        port.cancel(second);
        port.send(second, Bytes::new());
        assert_eq!((port.calls(), mailbox.outgoing.borrow().len()), (0, 1));
        assert!(port.take_incoming(&mut events));
        let cancelled = |event: &Incoming| matches!(event, Incoming::Cancel { call } if *call == second);
        assert_eq!(events.iter().filter(|event| cancelled(event)).count(), 1);
        assert_eq!(events.len(), 3);
    }
}
