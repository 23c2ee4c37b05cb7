//! The connections of one executor: what they speak, how many there are, how they end.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};

use super::port::Port;
use super::session::{Control, Ending, Session, Turn};
use super::wire::{Buffers, Wire};
use crate::base::limits::{CONNECTIONS_MAX, MESSAGE_OVERHEAD_BYTES};
use crate::io::{Listener, Tasks, Urgency};

/// How long a connection may take to say what it speaks (grpc-go's connection timeout).
const SNIFF_TIMEOUT: Duration = Duration::from_secs(120);
/// How often the end of all connections is looked for.
const ENDING_POLL: Duration = Duration::from_millis(10);
/// How long no connection is taken after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long an abrupt end may take.
const ABRUPT_GRACE: Duration = Duration::from_millis(500);
/// The first line of HTTP/2's preface; the session checks the rest.
const PREFACE_START: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What the user may set of the transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// --max-request-bytes; messages of 512 KiB more are taken, as etcd does.
    pub request_bytes_max: usize,
}

/// What a connection speaks, with all its bytes still to be read.
pub enum Sniffed<S> {
    /// HTTP/2: its preface has come.
    Http2(Wire<S>),
    /// Something else: HTTP/1.1, or what its parser will refuse.
    Http1(Wire<S>),
}

struct State {
    controls: Slab<Rc<Control>>,
    ending: Ending,
}

/// All connections of an executor; clones are handles to the same ones.
#[derive(Clone)]
pub struct Connections<T> {
    tasks: T,
    port: Port,
    buffers: Buffers,
    message_bytes_max: usize,
    state: Rc<RefCell<State>>,
}

impl<T: Tasks> Connections<T> {
    /// None yet; their calls will go to `port`.
    pub fn new(tasks: T, port: Port, options: Options) -> Connections<T> {
        let message_bytes_max = options.request_bytes_max + MESSAGE_OVERHEAD_BYTES;
        let state = Rc::new(RefCell::new(State { controls: Slab::new(), ending: Ending::No }));
        Connections { tasks, port, buffers: Buffers::default(), message_bytes_max, state }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.state.borrow().controls.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Serves a connection in a task of its own: gRPC here, anything else by `http1`, which hears through its second argument when it is
    /// to end. False, and the connection is dropped, when there are too many or all are ending.
    pub fn open<S, F>(&self, socket: S, http1: impl FnOnce(Wire<S>, Stopping) -> F + 'static) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut state = self.state.borrow_mut();
        if state.controls.len() >= CONNECTIONS_MAX || state.ending > Ending::No {
            return false;
        }
        let control = Rc::new(Control::default());
        let place = state.controls.insert(control.clone());
        drop(state);
        let connections = self.clone();
        let stopping = Stopping(control.clone());
        self.tasks.spawn(Urgency::Prompt, async move {
            // What is large in these futures is boxed: a connection that says nothing costs little more than its socket.
            match connections.sniff(Wire::new(socket, connections.buffers.clone()), &control).await {
                Some(Sniffed::Http2(wire)) => connections.serve(wire, control).await,
                Some(Sniffed::Http1(wire)) => {
                    let cut = Stopping(control);
                    futures_lite::future::or(Box::pin(http1(wire, stopping)), cut.reaches(Ending::Abrupt)).await;
                }
                None => {}
            }
            connections.state.borrow_mut().controls.remove(place);
        });
        true
    }

    /// Waits for the first bytes; None when the connection ends before, or takes too long.
    async fn sniff<S: AsyncRead + AsyncWrite + Unpin>(&self, wire: Wire<S>, control: &Control) -> Option<Sniffed<S>> {
        let mut is_late = std::pin::pin!(self.tasks.sleep(SNIFF_TIMEOUT));
        let is_http2: io::Result<Option<bool>> = poll_fn(|cx| {
            control.signal.enter(cx.waker());
            control.signal.leave();
            if control.ending.get() > Ending::No || is_late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            wire.poll_peek(cx, is_http2)
        })
        .await;
        match is_http2 {
            Ok(Some(true)) => Some(Sniffed::Http2(wire)),
            Ok(Some(false)) => Some(Sniffed::Http1(wire)),
            Ok(None) | Err(_) => None,
        }
    }

    fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        wire: Wire<S>,
        control: Rc<Control>,
    ) -> impl Future<Output = ()> + 'static {
        let tasks = self.tasks.clone();
        let mut session = Box::new(Session::new(wire, self.port.clone(), self.message_bytes_max, control));
        async move {
            loop {
                let turn = poll_fn(|cx| match session.poll(cx, tasks.now()) {
                    Turn::Waits => Poll::Pending,
                    turn => Poll::Ready(turn),
                });
                if turn.await == Turn::Closed {
                    return;
                }
                tasks.yield_now().await;
            }
        }
    }

    /// Ends all connections: GOAWAY at once, so that clients go elsewhere while their calls end; after `grace` those that are left are
    /// cut off. Ends when there are none.
    pub async fn shut_down(&self, grace: Duration) {
        for (ending, time) in [(Ending::Graceful, grace), (Ending::Abrupt, ABRUPT_GRACE)] {
            self.tell(ending);
            let until = self.tasks.now() + time;
            while !self.is_empty() && self.tasks.now() < until {
                self.tasks.sleep(ENDING_POLL).await;
            }
        }
    }

    fn tell(&self, ending: Ending) {
        let mut state = self.state.borrow_mut();
        state.ending = ending;
        for (_, control) in &state.controls {
            control.ending.set(ending);
            control.signal.raise();
        }
    }
}

/// Takes connections off a listener for ever and hands them to `take`. When one cannot be taken (no more files may be opened), it waits a
/// little and goes on.
pub async fn accept<T: Tasks, L: Listener>(tasks: &T, listener: &L, mut take: impl FnMut(L::Accepted)) {
    loop {
        match listener.accept().await {
            Ok(accepted) => take(accepted),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tasks.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells the server of an HTTP/1.1 connection when to end.
pub struct Stopping(Rc<Control>);

impl Stopping {
    /// Ends when the connection is to end after the answer under way.
    pub async fn stopped(self) {
        self.reaches(Ending::Graceful).await;
    }

    async fn reaches(&self, ending: Ending) {
        poll_fn(|cx| {
            self.0.signal.enter(cx.waker());
            self.0.signal.leave();
            if self.0.ending.get() >= ending { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether the first bytes are HTTP/2's; None while they may become that.
fn is_http2(bytes: &[u8], ended: bool) -> Option<bool> {
    let known = bytes.len().min(PREFACE_START.len());
    if bytes[..known] != PREFACE_START[..known] {
        return Some(false);
    }
    if known == PREFACE_START.len() {
        return Some(true);
    }
    (ended && known > 0).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_http1() {
        assert_eq!(is_http2(b"", false), None);
        assert_eq!(is_http2(b"", true), None);
        assert_eq!(is_http2(b"PR", false), None);
        assert_eq!(is_http2(b"PR", true), Some(false));
        assert_eq!(is_http2(b"PROPFIND / HTTP/1.1\r\n", false), Some(false));
        assert_eq!(is_http2(b"GET", false), Some(false));
        assert_eq!(is_http2(b"PRI * HTTP/2.0\r\n\r\nSM", false), Some(true));
    }
}
