//! One HTTP/2 connection, driven by one task.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use h2::server::{Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};

use super::headers;
use super::payload::{Payload, Unsent};
use super::port::{Mailbox, Outgoing, Port};
use super::signal::{ReadyStreams, Signal, StreamSignal};
use super::stream::{Life, Stream, Surroundings, overloaded, refuse};
use super::wire::Wire;
use crate::base::Instant;
use crate::base::limits::{
    ACCEPTS_PER_TURN_MAX, CALLS_PER_CONNECTION_MAX, CONNECTION_WINDOW_BYTES, HEADER_LIST_BYTES_MAX, PENDING_RESET_STREAMS_MAX,
    RESET_STREAMS_KEPT_MAX, STREAM_SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, UNSENT_BYTES_PER_CONNECTION_MAX,
};
use crate::front::CallId;

/// How a connection is told to end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Ending {
    /// Not at all.
    #[default]
    No,
    /// GOAWAY; the calls under way go on.
    Graceful,
    /// Now, whatever is under way.
    Abrupt,
}

/// What others may tell a session.
#[derive(Default)]
pub(super) struct Control {
    pub ending: Cell<Ending>,
    pub signal: Arc<Signal>,
}

enum Stage<S: AsyncRead + AsyncWrite + Unpin> {
    Handshake(Handshake<Wire<S>, Payload>),
    Open(Connection<Wire<S>, Payload>),
    Closed,
}

/// A connection's state between turns.
pub(super) struct Session<S: AsyncRead + AsyncWrite + Unpin> {
    stage: Stage<S>,
    wire: Wire<S>,
    calls: Calls,
    control: Rc<Control>,
    told: Ending,
    waker: Waker,
}

/// The streams of a connection, apart from h2's half of them.
struct Calls {
    streams: Slab<Stream>,
    /// One per place in `streams`, kept from stream to stream.
    signals: Vec<Arc<StreamSignal>>,
    ready: Arc<ReadyStreams>,
    port: Port,
    mailbox: Rc<Mailbox>,
    unsent: Unsent,
    partial_bytes: usize,
    message_bytes_max: usize,
    /// Kept for their memory.
    woken: Vec<usize>,
    queued: Vec<(usize, CallId)>,
    outgoing: Vec<Outgoing>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session at the start of its HTTP/2 preface, which `wire` still holds.
    pub fn new(wire: Wire<S>, port: Port, message_bytes_max: usize, control: Rc<Control>) -> Session<S> {
        let signal = control.signal.clone();
        let mailbox = Rc::new(Mailbox { outgoing: RefCell::default(), signal: signal.clone() });
        Session {
            stage: Stage::Handshake(settings().handshake(wire.clone())),
            wire,
            calls: Calls {
                streams: Slab::new(),
                signals: Vec::new(),
                ready: Arc::default(),
                unsent: Unsent::new(port.unsent_answers()),
                port,
                mailbox,
                partial_bytes: 0,
                message_bytes_max,
                woken: Vec::new(),
                queued: Vec::new(),
                outgoing: Vec::new(),
            },
            control,
            told: Ending::No,
            waker: Waker::from(signal),
        }
    }

    /// One turn, after which the waker of `cx` is woken when there is something for the next one.
    pub fn poll(&mut self, cx: &Context<'_>, now: Instant) -> Turn {
        let signal = self.control.signal.clone();
        loop {
            signal.enter(cx.waker());
            signal.take();
            self.wire.begin_turn();
            let turn = match self.turn(now) {
                Turn::Waits if self.wire.wants_turn() => Turn::Yields,
                turn => turn,
            };
            if turn == Turn::Closed {
                self.close();
            }
            let is_quiet = signal.leave();
            if turn != Turn::Waits || is_quiet {
                return turn;
            }
        }
    }

    fn turn(&mut self, now: Instant) -> Turn {
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        loop {
            self.tell_ending();
            self.calls.deliver();
            self.calls.advance_woken();
            let polled = self.poll_stage(cx, now);
            // Also when the connection is over: a GOAWAY with the reason may be on its way.
            let sent = self.wire.poll_send(cx);
            match polled {
                Polled::Again => continue,
                Polled::Closed => return Turn::Closed,
                Polled::Waits | Polled::Interrupted if matches!(sent, Poll::Ready(Err(_))) => return Turn::Closed,
                Polled::Interrupted => return Turn::Yields,
                Polled::Waits => {}
            }
            // What was raised while h2 had its last word is not served yet.
            if !self.control.signal.take() && self.calls.is_quiet() {
                return Turn::Waits;
            }
        }
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>, now: Instant) -> Polled {
        match &mut self.stage {
            Stage::Handshake(handshake) => match std::pin::Pin::new(handshake).poll(cx) {
                Poll::Ready(Ok(connection)) => {
                    self.stage = Stage::Open(connection);
                    Polled::Again
                }
                Poll::Ready(Err(_)) => Polled::Closed,
                Poll::Pending => Polled::Waits,
            },
            Stage::Open(connection) => {
                for _ in 0..ACCEPTS_PER_TURN_MAX {
                    // What was given to h2 before is served by this poll.
                    let _ = self.control.signal.take();
                    match connection.poll_accept(cx) {
                        Poll::Ready(Some(Ok((request, respond)))) => self.calls.accept(request, respond, now),
                        // h2 has sent what is to be sent about it.
                        Poll::Ready(Some(Err(_)) | None) => return Polled::Closed,
                        Poll::Pending => return Polled::Waits,
                    }
                }
                Polled::Interrupted
            }
            Stage::Closed => Polled::Closed,
        }
    }

    fn tell_ending(&mut self) {
        let ending = self.control.ending.get();
        let Stage::Open(connection) = &mut self.stage else {
            if ending > Ending::No {
                self.stage = Stage::Closed;
            }
            return;
        };
        if ending > self.told {
            self.told = ending;
            match ending {
                Ending::No => {}
                Ending::Graceful => connection.graceful_shutdown(),
                Ending::Abrupt => connection.abrupt_shutdown(Reason::NO_ERROR),
            }
        }
    }

    /// The connection is over: so are its calls.
    fn close(&mut self) {
        self.stage = Stage::Closed;
        self.calls.end_all();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Session<S> {
    fn drop(&mut self) {
        self.close();
    }
}

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// There is nothing to do until the session is woken.
    Waits,
    /// There is more to do, after others had their turn.
    Yields,
    /// The connection is over.
    Closed,
}

enum Polled {
    /// h2 waits for the socket, or for us.
    Waits,
    /// It has more to say at once.
    Again,
    /// Other connections are to have their turn first.
    Interrupted,
    Closed,
}

impl Calls {
    /// Opens a call, or refuses it.
    fn accept(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Payload>, now: Instant) {
        if self.streams.len() >= CALLS_PER_CONNECTION_MAX {
            // Says that nothing was done, so the client may try it elsewhere.
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let (method, options) = match headers::read(&request, now) {
            Ok(read) => read,
            Err(refusal) => return refuse(respond, &refusal),
        };
        if self.unsent.bytes() > UNSENT_BYTES_PER_CONNECTION_MAX {
            return refuse(respond, &overloaded());
        }
        let slot = self.streams.vacant_key();
        if slot == self.signals.len() {
            self.signals.push(StreamSignal::new(slot, self.ready.clone(), self.mailbox.signal.clone()));
        }
        let body = request.into_body();
        let mut stream =
            Stream::new(method, options, body, respond, self.message_bytes_max, self.signals[slot].clone(), self.port.queued());
        let mut around = surroundings(&self.port, &self.mailbox, &self.unsent, &mut self.partial_bytes);
        let life = match stream.open_if_new(&mut around, slot) {
            Ok(()) => stream.advance(&mut around, slot),
            Err(_) => Life::Ended,
        };
        if life == Life::Ended {
            stream.gone(&mut around);
        } else {
            let inserted = self.streams.insert(stream);
            assert_eq!(inserted, slot, "a slab fills its vacant place");
        }
    }

    /// Gives the streams what the front answered. Messages of a stream that come together share frames.
    fn deliver(&mut self) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let mut queued = std::mem::take(&mut self.queued);
        std::mem::swap(&mut outgoing, &mut self.mailbox.outgoing.borrow_mut());
        for answer in outgoing.drain(..) {
            match answer {
                Outgoing::Send { slot, call, bytes } => {
                    let Some(stream) = stream_of(&mut self.streams, slot, call) else { continue };
                    stream.queue(bytes);
                    if queued.last() != Some(&(slot, call)) {
                        queued.push((slot, call));
                    }
                }
                Outgoing::Finish { slot, call, status } => {
                    self.with_stream(slot, call, |stream, around| stream.finish(around, status));
                }
                Outgoing::Reply { slot, call, bytes, rest } => {
                    self.with_stream(slot, call, |stream, around| stream.reply(around, bytes, rest));
                }
            }
        }
        for (slot, call) in queued.drain(..) {
            self.with_stream(slot, call, Stream::pass_on);
        }
        (self.outgoing, self.queued) = (outgoing, queued);
    }

    /// Has a call's stream do something, if it is still there.
    fn with_stream(&mut self, slot: usize, call: CallId, act: impl FnOnce(&mut Stream, &mut Surroundings<'_>) -> Life) {
        let Some(stream) = stream_of(&mut self.streams, slot, call) else { return };
        let mut around = surroundings(&self.port, &self.mailbox, &self.unsent, &mut self.partial_bytes);
        let life = act(stream, &mut around);
        self.end_if(life, slot);
    }

    /// Lets the streams go on that h2 has something new for.
    fn advance_woken(&mut self) {
        let mut woken = std::mem::take(&mut self.woken);
        self.ready.drain(&mut woken);
        for slot in woken.drain(..) {
            self.signals[slot].looked_at();
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            let mut around = surroundings(&self.port, &self.mailbox, &self.unsent, &mut self.partial_bytes);
            let life = stream.advance(&mut around, slot);
            self.end_if(life, slot);
        }
        self.woken = woken;
    }

    fn end_if(&mut self, life: Life, slot: usize) {
        if life == Life::Ended {
            let stream = self.streams.remove(slot);
            stream.gone(&mut surroundings(&self.port, &self.mailbox, &self.unsent, &mut self.partial_bytes));
        }
    }

    fn is_quiet(&self) -> bool {
        self.ready.is_empty() && self.mailbox.outgoing.borrow().is_empty()
    }

    fn end_all(&mut self) {
        for stream in self.streams.drain() {
            stream.gone(&mut surroundings(&self.port, &self.mailbox, &self.unsent, &mut self.partial_bytes));
        }
        assert_eq!(self.partial_bytes, 0, "partial messages of streams that have ended");
        self.mailbox.outgoing.borrow_mut().clear();
    }
}

/// The stream of a call. One that ended while its answer was under way has left its place, perhaps to another.
fn stream_of(streams: &mut Slab<Stream>, slot: usize, call: CallId) -> Option<&mut Stream> {
    streams.get_mut(slot).filter(|stream| stream.call() == Some(call))
}

fn surroundings<'a>(
    port: &'a Port,
    mailbox: &'a Rc<Mailbox>,
    unsent: &'a Unsent,
    partial_bytes: &'a mut usize,
) -> Surroundings<'a> {
    Surroundings { port, mailbox, unsent, partial_bytes }
}

/// What we announce to clients.
fn settings() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(u32::MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_send_buffer_size(STREAM_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESET_STREAMS_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_KEPT_MAX);
    builder
}
