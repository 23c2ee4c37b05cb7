//! Calls that the member makes to itself: what probes ask of the front goes the way of every client's call.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};

use crate::front::{CallId, Code, Method, Status};

use super::queues::Bell;

/// Ids from here up are internal calls'; the transport's stay far below.
const FIRST: u64 = 1 << 63;
/// Internal calls under way at one time; probes beyond it are refused.
const CALLS_MAX: usize = 256;

/// The internal calls of one executor; clones are handles to the same ones.
#[derive(Clone)]
pub struct Internal {
    state: Rc<RefCell<State>>,
    bell: Bell,
}

#[derive(Default)]
struct State {
    next: u64,
    fresh: Vec<(CallId, Method, Bytes)>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    call: CallId,
    message: BytesMut,
    status: Option<Status>,
    waker: Option<Waker>,
}

impl Internal {
    /// None under way.
    pub fn new(bell: Bell) -> Internal {
        Internal { state: Rc::default(), bell }
    }

    /// Calls a method of the front that takes one message; the status when it does not end well.
    pub async fn call(&self, method: Method, message: Bytes) -> Result<Bytes, Status> {
        let call = {
            let mut state = self.state.borrow_mut();
            if state.waiting.len() >= CALLS_MAX {
                return Err(Status::new(Code::ResourceExhausted, "too many probes at one time"));
            }
            let call = CallId(FIRST + state.next);
            state.next += 1;
            state.fresh.push((call, method, message));
            state.waiting.push(Waiting { call, message: BytesMut::new(), status: None, waker: None });
            call
        };
        self.bell.ring();
        std::future::poll_fn(move |cx| {
            let mut state = self.state.borrow_mut();
            let place = state.waiting.iter().position(|w| w.call == call).expect("a call waits until it is answered");
            if state.waiting[place].status.is_none() {
                state.waiting[place].waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let Waiting { message, status, .. } = state.waiting.swap_remove(place);
            match status {
                Some(status) if status.code != Code::Ok => Poll::Ready(Err(status)),
                _ => Poll::Ready(Ok(message.freeze())),
            }
        })
        .await
    }

    /// Whether an id is an internal call's.
    pub(super) fn owns(call: CallId) -> bool {
        call.0 >= FIRST
    }

    /// Calls that the front has not heard of yet.
    pub(super) fn take_fresh(&self) -> Vec<(CallId, Method, Bytes)> {
        std::mem::take(&mut self.state.borrow_mut().fresh)
    }

    /// A framed message for a call.
    pub(super) fn message(&self, call: CallId, framed: &Bytes) {
        if let Some(waiting) = self.state.borrow_mut().waiting.iter_mut().find(|w| w.call == call) {
            waiting.message.extend_from_slice(framed);
        }
    }

    /// A call is over.
    pub(super) fn finish(&self, call: CallId, status: Status) {
        if let Some(waiting) = self.state.borrow_mut().waiting.iter_mut().find(|w| w.call == call) {
            waiting.status = Some(status);
            if let Some(waker) = waiting.waker.take() {
                waker.wake();
            }
        }
    }
}
