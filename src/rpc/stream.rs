//! One HTTP/2 stream: a request on its way in, and what is answered on its way out.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::StatusCode;

use super::framing::Assembler;
use super::headers::{self, Refusal};
use super::payload::{Payload, Unsent};
use super::port::{Incoming, Mailbox, Port};
use super::queue::Queue;
use super::signal::StreamSignal;
use crate::base::limits::{PARTIAL_BYTES_PER_CONNECTION_MAX, STREAM_SEND_BUFFER_BYTES};
use crate::front::{CallId, CallOptions, Code, Kind, Method, Status};

/// What a stream needs of its session.
pub(super) struct Surroundings<'a> {
    pub port: &'a Port,
    pub mailbox: &'a Rc<Mailbox>,
    pub unsent: &'a Unsent,
    /// Bytes of partial messages on the connection.
    pub partial_bytes: &'a mut usize,
}

/// Whether a stream has more to do.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Life {
    Goes,
    Ended,
}

/// How far the answer is.
enum Answer {
    /// Nothing has been sent.
    Nothing(SendResponse<Payload>),
    /// The headers have.
    Begun(SendStream<Payload>),
    /// The end has.
    Ended,
}

/// A stream whose headers were in order.
pub(super) struct Stream {
    method: Method,
    /// Kept until the call is opened.
    options: Option<CallOptions>,
    call: Option<CallId>,
    body: Option<RecvStream>,
    /// The client sends no more.
    half_closed: bool,
    assembler: Assembler,
    /// The message of a server stream, kept until the client has sent its end.
    first: Option<Bytes>,
    answer: Answer,
    /// What waits for the client's window.
    queue: Queue,
    finish: Option<Status>,
    waker: Waker,
}

impl Stream {
    pub fn new(
        method: Method,
        options: CallOptions,
        body: RecvStream,
        respond: SendResponse<Payload>,
        message_bytes_max: usize,
        signal: Arc<StreamSignal>,
        queued: Rc<Cell<usize>>,
    ) -> Stream {
        Stream {
            method,
            options: Some(options),
            call: None,
            body: Some(body),
            half_closed: false,
            assembler: Assembler::new(message_bytes_max),
            first: None,
            answer: Answer::Nothing(respond),
            queue: Queue::new(queued),
            finish: None,
            waker: Waker::from(signal),
        }
    }

    /// Does what can be done: reads the body, opens the call, sends what the window allows, notices a reset.
    pub fn advance(&mut self, around: &mut Surroundings<'_>, slot: usize) -> Life {
        let before = self.assembler.partial_bytes();
        let mut received = self.receive(around, slot);
        let after = self.assembler.partial_bytes();
        *around.partial_bytes = *around.partial_bytes - before + after;
        if received.is_ok() && after > before && *around.partial_bytes > PARTIAL_BYTES_PER_CONNECTION_MAX {
            received = Err(overloaded().status.into());
        }
        match received {
            Ok(()) => {}
            Err(Trouble::Refused(status)) => {
                if let Some(call) = self.call {
                    around.port.cancel(call);
                }
                self.queue.clear();
                return self.end(&status);
            }
            Err(Trouble::Gone) => return Life::Ended,
        }
        if self.is_reset() { Life::Ended } else { self.pass_on(around) }
    }

    /// A message from the front, or a part of one, on a call that takes any number. It leaves with what is queued behind it, at the next
    /// [`Stream::pass_on`].
    pub fn queue(&mut self, bytes: Bytes) {
        self.queue.push(bytes);
    }

    /// The last message, the parts behind the first in reverse, and a good end. The one of a unary call is given to h2 at once, all of
    /// it; the call ends with it, so nothing is to be reported.
    pub fn reply(&mut self, around: &mut Surroundings<'_>, bytes: Bytes, rest: Vec<Bytes>) -> Life {
        if self.method.kind() != Kind::Unary {
            for part in std::iter::once(bytes).chain(rest.into_iter().rev()) {
                self.queue(part);
            }
            return self.finish(around, Status::OK);
        }
        let payload = Payload::answer(bytes, rest, around.unsent);
        match self.begin().map(|send| send.send_data(payload, false)) {
            Ok(Ok(())) => self.end(&Status::OK),
            Ok(Err(_)) | Err(_) => Life::Ended,
        }
    }

    /// The front's last word.
    pub fn finish(&mut self, around: &mut Surroundings<'_>, status: Status) -> Life {
        self.finish = Some(status);
        self.pass_on(around)
    }

    /// The stream is no more: the front hears of it if it still knows the call.
    pub fn gone(self, around: &mut Surroundings<'_>) {
        *around.partial_bytes -= self.assembler.partial_bytes();
        if let Some(call) = self.call {
            around.port.cancel(call);
        }
    }

    pub fn call(&self) -> Option<CallId> {
        self.call
    }

    fn receive(&mut self, around: &mut Surroundings<'_>, slot: usize) -> Result<(), Trouble> {
        while let Some(body) = &mut self.body {
            match body.poll_data(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(bytes))) => {
                    // Errors only say that more is released than came in, or that the stream is gone, which the next poll tells.
                    let _ = body.flow_control().release_capacity(bytes.len());
                    self.take(around, slot, bytes)?;
                }
                Poll::Ready(Some(Err(_))) => return Err(Trouble::Gone),
                Poll::Ready(None) => {
                    self.body = None;
                    self.half_close(around, slot)?;
                }
            }
            // What came with the last data is not waited for in another turn.
            if self.body.as_ref().is_some_and(RecvStream::is_end_stream) {
                self.body = None;
                self.half_close(around, slot)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, around: &mut Surroundings<'_>, slot: usize, mut bytes: Bytes) -> Result<(), Trouble> {
        match self.method.kind() {
            Kind::Unary => {
                // grpc-go reads one message and looks at nothing behind it.
                if self.call.is_none()
                    && let Some(message) = self.assembler.next(&mut bytes)?
                {
                    self.open(around, slot, Some(message))?;
                }
            }
            Kind::ServerStream => {
                while let Some(message) = self.assembler.next(&mut bytes)? {
                    if self.first.replace(message).is_some() {
                        let text = "cardinality violation: received multiple request messages for non-client-streaming RPC";
                        return Err(Status::new(Code::Internal, text).into());
                    }
                }
            }
            Kind::BidiStream => {
                self.open_if_new(around, slot)?;
                while let Some(message) = self.assembler.next(&mut bytes)? {
                    // A copy: what the front keeps of it (a watch's key) must not keep the connection's buffer.
                    self.tell(around, |call| Incoming::Message { call, message: Bytes::copy_from_slice(&message) });
                }
            }
        }
        Ok(())
    }

    fn half_close(&mut self, around: &mut Surroundings<'_>, slot: usize) -> Result<(), Trouble> {
        self.half_closed = true;
        let seen_message = self.call.is_some() || self.first.is_some();
        self.assembler.end(self.method.kind(), seen_message)?;
        match self.method.kind() {
            Kind::Unary => {}
            Kind::ServerStream => {
                let message = self.first.take();
                self.open(around, slot, message)?;
            }
            Kind::BidiStream => {
                self.open_if_new(around, slot)?;
                self.tell(around, |call| Incoming::HalfClose { call });
            }
        }
        Ok(())
    }

    /// Opens a call that takes any number of messages: at its headers, before any of them.
    pub fn open_if_new(&mut self, around: &mut Surroundings<'_>, slot: usize) -> Result<(), Trouble> {
        if self.call.is_none() && self.method.kind() == Kind::BidiStream { self.open(around, slot, None) } else { Ok(()) }
    }

    fn open(&mut self, around: &mut Surroundings<'_>, slot: usize, message: Option<Bytes>) -> Result<(), Trouble> {
        let options = self.options.take().expect("a call is opened once");
        self.call = around.port.open(around.mailbox, slot, self.method, options, message);
        if self.call.is_none() {
            return Err(overloaded().status.into());
        }
        Ok(())
    }

    fn tell(&self, around: &Surroundings<'_>, event: impl FnOnce(CallId) -> Incoming) {
        if let Some(call) = self.call {
            around.port.event(call, event(call));
        }
    }

    /// Whether the client has reset the stream; if not, the stream is woken when it does.
    fn is_reset(&mut self) -> bool {
        let cx = &mut Context::from_waker(&self.waker);
        match &mut self.answer {
            Answer::Nothing(respond) => respond.poll_reset(cx).is_ready(),
            Answer::Begun(send) => send.poll_reset(cx).is_ready(),
            Answer::Ended => false,
        }
    }

    /// Sends queued messages as far as the client's window goes, then the end if that is known.
    pub fn pass_on(&mut self, around: &mut Surroundings<'_>) -> Life {
        while self.queue.bytes() > 0 {
            let wanted = self.queue.bytes().min(STREAM_SEND_BUFFER_BYTES);
            let Ok(send) = begin(&mut self.answer) else { return Life::Ended };
            send.reserve_capacity(wanted);
            let capacity = match send.poll_capacity(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Some(Ok(capacity))) => capacity,
                Poll::Ready(Some(Err(_)) | None) => return Life::Ended,
                Poll::Pending => send.capacity(),
            };
            let capacity = capacity.min(wanted);
            if capacity == 0 {
                return Life::Goes;
            }
            // Whatever the messages are, they share frames.
            let (first, rest) = self.queue.take(capacity);
            let payload = Payload::new(first, rest, around.unsent);
            if send.send_data(payload, false).is_err() {
                return Life::Ended;
            }
            self.tell(around, |call| Incoming::Sent { call, bytes: capacity });
        }
        match self.finish.take() {
            Some(status) => self.end(&status),
            None => Life::Goes,
        }
    }

    /// Sends the end. h2 resets what the client may still send.
    fn end(&mut self, status: &Status) -> Life {
        match std::mem::replace(&mut self.answer, Answer::Ended) {
            // Errors mean that the client or the connection is gone: there is nobody to tell.
            Answer::Nothing(respond) => refuse(respond, &status.clone().into()),
            Answer::Begun(mut send) => {
                let _ = send.send_trailers(headers::trailers(status));
            }
            Answer::Ended => {}
        }
        Life::Ended
    }

    fn begin(&mut self) -> Result<&mut SendStream<Payload>, h2::Error> {
        begin(&mut self.answer)
    }
}

/// The stream to send on; its headers are sent first.
fn begin(answer: &mut Answer) -> Result<&mut SendStream<Payload>, h2::Error> {
    if let Answer::Nothing(respond) = answer {
        *answer = Answer::Begun(respond.send_response(headers::response(), false)?);
    }
    match answer {
        Answer::Begun(send) => Ok(send),
        Answer::Nothing(_) | Answer::Ended => Err(h2::Reason::INTERNAL_ERROR.into()),
    }
}

/// Answers with headers alone.
pub(super) fn refuse(mut respond: SendResponse<Payload>, refusal: &Refusal) {
    // An error means that the client is gone.
    let _ = respond.send_response(headers::response_only(refusal.http, &refusal.status), true);
}

/// Why a stream cannot go on.
pub(super) enum Trouble {
    /// The client sent what is refused.
    Refused(Status),
    /// The client, or its connection, is gone.
    Gone,
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Trouble {
        Trouble::Refused(status)
    }
}

/// A call that is refused for what the connection, or the executor, holds already.
pub(super) fn overloaded() -> Refusal {
    Refusal { http: StatusCode::OK, status: Status::new(Code::ResourceExhausted, "etcdserver: too many requests") }
}
