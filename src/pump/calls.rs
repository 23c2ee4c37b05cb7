//! The calls of an executor's front: events from the transport in, messages and statuses out.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;

use crate::base::Instant;
use crate::front::{CallOptions, Front, FrontEffect, MESSAGE_PREFIX_BYTES, Status};
use crate::rpc::{Incoming, Port};

use super::internal::Internal;
use super::metering::Metering;
use super::queues::Bell;

/// The front's side of its executor's port.
pub struct Calls {
    port: Port,
    bell: Bell,
    internal: Internal,
    metering: Rc<Metering>,
    shut_down: Box<dyn Fn()>,
    ended: Rc<Cell<bool>>,
    incoming: Vec<Incoming>,
}

impl Calls {
    /// `shut_down` begins the end of all connections; when they have ended, it sets `ended` and rings `bell`.
    pub fn new(
        port: Port,
        bell: Bell,
        internal: Internal,
        metering: Rc<Metering>,
        ended: Rc<Cell<bool>>,
        shut_down: impl Fn() + 'static,
    ) -> Calls {
        Calls { port, bell, internal, metering, shut_down: Box::new(shut_down), ended, incoming: Vec::new() }
    }

    /// Hands everything that came in to the front; the bell rings at the next event.
    pub fn deliver(&mut self, now: Instant, front: &mut Front) {
        front.unsent(self.port.unsent());
        for (call, method, message) in self.internal.take_fresh() {
            front.open(now, call, method, CallOptions::default());
            front.message(now, call, message);
        }
        let waker = self.bell.waker();
        let mut cx = Context::from_waker(&waker);
        while self.port.poll_incoming(&mut cx, &mut self.incoming).is_ready() {
            for incoming in self.incoming.drain(..) {
                match incoming {
                    Incoming::Open { call, method, options, message } => {
                        self.metering.opened(now, call, method, &options, message.as_ref().map(|m| m.len()));
                        front.open(now, call, method, options);
                        if let Some(message) = message {
                            front.message(now, call, message);
                        }
                    }
                    Incoming::Message { call, message } => {
                        self.metering.received(call, message.len());
                        front.message(now, call, message);
                    }
                    Incoming::HalfClose { call } => front.half_close(now, call),
                    Incoming::Cancel { call } => {
                        self.metering.cancelled(call);
                        front.cancel(call);
                    }
                    Incoming::Sent { call, bytes } => front.sent(call, bytes),
                }
            }
        }
    }

    /// Sends what the front says; gives back what is not for the transport.
    pub fn send(&self, now: Instant, effect: FrontEffect) -> Option<FrontEffect> {
        match effect {
            FrontEffect::Send { call, message } if Internal::owns(call) => self.internal.message(call, &message),
            FrontEffect::SendShared { call, head, body } if Internal::owns(call) => {
                self.internal.message(call, &head);
                self.internal.message(call, &body);
            }
            FrontEffect::Finish { call, status } if Internal::owns(call) => self.internal.finish(call, status),
            FrontEffect::Reply { call, message } if Internal::owns(call) => {
                self.internal.message(call, &message);
                self.internal.finish(call, Status::OK);
            }
            FrontEffect::ReplyParts { call, parts } if Internal::owns(call) => {
                parts.iter().for_each(|part| self.internal.message(call, part));
                self.internal.finish(call, Status::OK);
            }
            FrontEffect::ReplyParts { call, parts } => {
                self.metering.sent(call, 1, parts.iter().map(Bytes::len).sum::<usize>() - MESSAGE_PREFIX_BYTES);
                self.metering.finished(now, call, &Status::OK);
                self.port.reply_parts(call, parts);
            }
            FrontEffect::Reply { call, message } => {
                self.metering.sent(call, 1, message.len() - MESSAGE_PREFIX_BYTES);
                self.metering.finished(now, call, &Status::OK);
                self.port.reply(call, message);
            }
            FrontEffect::Send { call, message } => {
                self.metering.sent(call, 1, message.len() - MESSAGE_PREFIX_BYTES);
                self.port.send(call, message);
            }
            FrontEffect::SendMany { call, messages, count } => {
                self.metering.sent(call, count, messages.len() - count as usize * MESSAGE_PREFIX_BYTES);
                self.port.send(call, messages);
            }
            FrontEffect::SendShared { call, head, body } => {
                self.metering.sent(call, 1, head.len() + body.len() - MESSAGE_PREFIX_BYTES);
                self.port.send(call, head);
                self.port.send(call, body);
            }
            FrontEffect::Finish { call, status } => {
                self.metering.finished(now, call, &status);
                self.port.finish(call, status);
            }
            other @ FrontEffect::ToCore(..) => return Some(other),
        }
        None
    }

    /// How long what arrives may wait for more. A client that does not take what it is sent has its say at once: its window may open.
    pub fn gathers(&self, front: &Front) -> Duration {
        if self.port.is_held_back() { Duration::ZERO } else { front.gathers() }
    }

    /// Begins the end of all connections.
    pub fn shut_down(&self) {
        (self.shut_down)();
    }

    /// Whether all connections have ended after [`Calls::shut_down`]: everything that was said has left.
    pub fn have_ended(&self) -> bool {
        self.ended.get()
    }
}
