//! A socket with large buffers that it only holds while there is something in them.
//!
//! h2 reads 8 KiB at a time and flushes after every frame of some size. Between it and the socket, a wire receives up to
//! [`WIRE_BUFFER_BYTES`] at once and gathers what is sent until its session says so. A turn receives and sends a bounded number of bytes,
//! so that a socket which always has more, or takes all that there is, leaves the others their turn. The buffers belong to the executor:
//! a connection that is idle holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::limits::{READ_BYTES_PER_TURN_MAX, WIRE_BUFFER_BYTES, WIRE_BUFFERS_KEPT_MAX, WRITE_BYTES_PER_TURN_MAX};

/// What a connection may hold that has not said enough to know what it speaks.
const PEEKED_BYTES: usize = 64;

/// The wire buffers of an executor, kept for the next connection that needs one.
#[derive(Clone, Default)]
pub struct Buffers(Rc<RefCell<Vec<Box<[u8]>>>>);

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; WIRE_BUFFER_BYTES].into_boxed_slice())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < WIRE_BUFFERS_KEPT_MAX && buffer.len() == WIRE_BUFFER_BYTES {
            kept.push(buffer);
        }
    }
}

/// A buffer with bytes in `start..end`; there is none while that is empty.
#[derive(Default)]
struct Held {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Held {
    fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().map_or(&[], |buffer| &buffer[self.start..self.end])
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the first `count` bytes away, and with the last one the buffer.
    fn consume(&mut self, count: usize, buffers: &Buffers) {
        assert!(count <= self.end - self.start, "more consumed than held");
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if let Some(buffer) = self.buffer.take() {
                buffers.give_back(buffer);
            }
        }
    }

    /// Moves a few bytes to a buffer of their own, for a wait that may be long.
    fn shrink(&mut self, buffers: &Buffers) {
        let len = self.end - self.start;
        if (1..PEEKED_BYTES / 2).contains(&len) && self.buffer.as_ref().is_some_and(|buffer| buffer.len() > PEEKED_BYTES) {
            let mut small = vec![0; PEEKED_BYTES].into_boxed_slice();
            small[..len].copy_from_slice(self.bytes());
            (self.start, self.end) = (0, len);
            if let Some(large) = self.buffer.replace(small) {
                buffers.give_back(large);
            }
        }
    }

    /// Appends as much of `bytes` as fits.
    fn append(&mut self, bytes: &[u8], buffers: &Buffers) -> usize {
        let buffer = self.buffer.get_or_insert_with(|| buffers.take());
        let count = bytes.len().min(buffer.len() - self.end);
        buffer[self.end..self.end + count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }
}

struct State<S> {
    socket: S,
    buffers: Buffers,
    received: Held,
    unsent: Held,
    /// Reads and flushes are the session's business ([`Wire::begin_turn`], [`Wire::poll_send`]).
    in_turns: bool,
    /// In this turn the socket has said that there is no more.
    drained: bool,
    /// What may still be received in this turn.
    turn_bytes: usize,
    /// What may still be sent in this turn, but for what is gathered at its end.
    send_bytes: usize,
    /// In this turn the writer was told to wait until there is room in `unsent`.
    refused: bool,
}

/// A socket and its buffers; clones are handles to the same one.
pub struct Wire<S>(Rc<RefCell<State<S>>>);

impl<S> Clone for Wire<S> {
    fn clone(&self) -> Wire<S> {
        Wire(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A wire that reads and flushes when it is asked to.
    pub fn new(socket: S, buffers: Buffers) -> Wire<S> {
        let (received, unsent) = (Held::default(), Held::default());
        Wire(Rc::new(RefCell::new(State {
            socket,
            buffers,
            received,
            unsent,
            in_turns: false,
            drained: false,
            turn_bytes: 0,
            send_bytes: usize::MAX,
            refused: false,
        })))
    }

    /// From here on a turn asks the socket for more until it once has none, and flushing only gathers.
    pub(super) fn begin_turn(&self) {
        let mut state = self.0.borrow_mut();
        state.in_turns = true;
        state.drained = false;
        state.turn_bytes = READ_BYTES_PER_TURN_MAX;
        state.send_bytes = WRITE_BYTES_PER_TURN_MAX;
        state.refused = false;
    }

    /// Whether the turn ended before the socket had no more, or the writer: the session comes back without being woken. A writer that was
    /// refused, and whose bytes have all left since, is such a one: the socket that took them wakes nobody any more.
    pub(super) fn wants_turn(&self) -> bool {
        let state = self.0.borrow();
        state.refused && state.unsent.is_empty() || state.turn_bytes == 0 && !state.drained
    }

    /// Sends what was gathered. Pending when the socket takes no more; the waker is then woken when it does.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// The bytes received and not read yet, once `enough` says so or the peer has closed its side.
    pub(super) fn poll_peek<T>(
        &self,
        cx: &mut Context<'_>,
        mut enough: impl FnMut(&[u8], bool) -> Option<T>,
    ) -> Poll<io::Result<Option<T>>> {
        let mut state = self.0.borrow_mut();
        loop {
            if let Some(answer) = enough(state.received.bytes(), false) {
                return Poll::Ready(Ok(Some(answer)));
            }
            match state.poll_receive(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(enough(state.received.bytes(), true))),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    let State { received, buffers, .. } = &mut *state;
                    received.shrink(buffers);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    /// Receives into the free end of the buffer; 0 at the end of the stream, or when the buffer is full.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.received.buffer.take().unwrap_or_else(|| self.buffers.take());
        let mut target = ReadBuf::new(&mut buffer[self.received.end..]);
        let result = Pin::new(&mut self.socket).poll_read(cx, &mut target);
        let count = target.filled().len();
        self.received.end += count;
        self.received.buffer = Some(buffer);
        self.received.consume(0, &self.buffers);
        result.map_ok(|()| count)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, self.unsent.bytes()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.consume(count, &self.buffers);
            self.send_bytes = self.send_bytes.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, target: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        if state.received.is_empty() {
            if state.in_turns && (state.drained || state.turn_bytes == 0) {
                return Poll::Pending;
            }
            match state.poll_receive(cx) {
                Poll::Ready(Ok(count)) => state.turn_bytes = state.turn_bytes.saturating_sub(count),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    state.drained = true;
                    return Poll::Pending;
                }
            }
        }
        let count = state.received.bytes().len().min(target.remaining());
        target.put_slice(&state.received.bytes()[..count]);
        state.received.consume(count, &state.buffers);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if state.send_bytes == 0 && state.unsent.end == WIRE_BUFFER_BYTES {
            state.refused = true;
            return Poll::Pending;
        }
        if state.send_bytes > 0 && state.unsent.end + bytes.len() > WIRE_BUFFER_BYTES && !state.unsent.is_empty() {
            match state.poll_send(cx) {
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending if state.unsent.end == WIRE_BUFFER_BYTES => {
                    state.refused = true;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if state.send_bytes > 0 && state.unsent.is_empty() && bytes.len() >= WIRE_BUFFER_BYTES {
            let count = ready!(Pin::new(&mut state.socket).poll_write(cx, bytes))?;
            state.send_bytes = state.send_bytes.saturating_sub(count);
            return Poll::Ready(Ok(count));
        }
        Poll::Ready(Ok(state.unsent.append(bytes, &state.buffers)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        if state.in_turns {
            return Poll::Ready(Ok(()));
        }
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Gives `incoming` in pieces of `piece` bytes, takes `room` bytes, and counts.
    #[derive(Default)]
    struct Socket {
        incoming: Vec<u8>,
        piece: usize,
        room: usize,
        sent: Vec<u8>,
        writes: usize,
        reads: usize,
    }

    impl AsyncRead for Socket {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, target: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.reads += 1;
            if self.incoming.is_empty() {
                return Poll::Pending;
            }
            let count = self.piece.min(self.incoming.len()).min(target.remaining());
            target.put_slice(&self.incoming[..count]);
            self.incoming.drain(..count);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes += 1;
            let count = self.room.min(bytes.len());
            if count == 0 {
                return Poll::Pending;
            }
            self.room -= count;
            self.sent.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write(wire: &mut Wire<Socket>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(wire).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    fn read(wire: &mut Wire<Socket>, count: usize) -> Poll<Vec<u8>> {
        let mut buffer = vec![0; count];
        let mut target = ReadBuf::new(&mut buffer);
        ready!(Pin::new(wire).poll_read(&mut Context::from_waker(Waker::noop()), &mut target)).expect("no error");
        Poll::Ready(target.filled().to_vec())
    }

    #[test]
    fn what_is_written_in_a_turn_leaves_at_once_and_in_order() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut wire = Wire::new(Socket { room: usize::MAX, ..Socket::default() }, Buffers::default());
        wire.begin_turn();
        for i in 0..100u8 {
            assert!(matches!(write(&mut wire, &[i; 10]), Poll::Ready(Ok(10))));
            assert!(Pin::new(&mut wire).poll_flush(cx).is_ready());
        }
        assert_eq!(wire.0.borrow().socket.writes, 0);
        assert!(wire.poll_send(cx).is_ready());
        let state = wire.0.borrow();
        assert_eq!((state.socket.writes, state.socket.sent.len()), (1, 1000));
        assert!(state.socket.sent.is_sorted() && state.unsent.buffer.is_none());
    }

    #[test]
    fn a_socket_that_takes_nothing_stops_the_writer_at_one_buffer() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut wire = Wire::new(Socket::default(), Buffers::default());
        wire.begin_turn();
        let mut accepted = 0;
        while let Poll::Ready(Ok(count)) = write(&mut wire, &[accepted as u8; 1000]) {
            accepted += count;
        }
        assert_eq!(accepted, WIRE_BUFFER_BYTES);
        wire.0.borrow_mut().socket.room = usize::MAX;
        assert!(wire.poll_send(cx).is_ready());
        assert_eq!(wire.0.borrow().socket.sent.len(), WIRE_BUFFER_BYTES);
        let large = vec![1; 3 * WIRE_BUFFER_BYTES];
        assert!(matches!(write(&mut wire, &large), Poll::Ready(Ok(count)) if count == large.len()));
    }

    #[test]
    fn a_turn_sends_its_share_however_much_the_socket_takes() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut wire = Wire::new(Socket { room: usize::MAX, ..Socket::default() }, Buffers::default());
        for (piece, turns) in [(1000, 3), (16 << 10, 2), (2 * WIRE_BUFFER_BYTES, 2)] {
            for _ in 0..turns {
                let before = wire.0.borrow().socket.sent.len();
                wire.begin_turn();
                let mut accepted = 0;
                while let Poll::Ready(Ok(count)) = write(&mut wire, &vec![3; piece]) {
                    accepted += count;
                }
                assert!(wire.poll_send(cx).is_ready() && wire.wants_turn());
                assert_eq!(wire.0.borrow().socket.sent.len() - before, accepted, "nothing is kept back");
                let share = WRITE_BYTES_PER_TURN_MAX..=WRITE_BYTES_PER_TURN_MAX + 3 * WIRE_BUFFER_BYTES;
                assert!(share.contains(&accepted), "{accepted} bytes in pieces of {piece}");
            }
        }
        wire.begin_turn();
        assert!(write(&mut wire, &[3; 1000]).is_ready() && wire.poll_send(cx).is_ready() && !wire.wants_turn());
    }

    #[test]
    fn a_writer_that_was_refused_comes_back_when_its_bytes_have_left() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut wire = Wire::new(Socket::default(), Buffers::default());
        wire.begin_turn();
        while write(&mut wire, &[1; 1000]).is_ready() {}
        assert!(wire.poll_send(cx).is_pending() && !wire.wants_turn(), "the socket wakes it");
        // The peer takes everything between the writer's attempt and the turn's end.
        wire.begin_turn();
        assert!(write(&mut wire, &[1; 1000]).is_pending());
        wire.0.borrow_mut().socket.room = usize::MAX;
        assert!(wire.poll_send(cx).is_ready() && wire.wants_turn(), "nothing else does");
        wire.begin_turn();
        assert!(write(&mut wire, &[1; 1000]).is_ready() && wire.poll_send(cx).is_ready() && !wire.wants_turn());
    }

    #[test]
    fn a_peek_holds_little_and_loses_nothing() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut wire = Wire::new(Socket { incoming: b"PR".to_vec(), piece: 1, ..Socket::default() }, Buffers::default());
        let seen = |bytes: &[u8], _| (bytes.len() >= 4).then(|| bytes.to_vec());
        assert!(wire.poll_peek(cx, seen).is_pending());
        assert_eq!(wire.0.borrow().received.buffer.as_ref().map(|buffer| buffer.len()), Some(PEEKED_BYTES));
        {
            let mut state = wire.0.borrow_mut();
            (state.socket.incoming, state.socket.piece) = (vec![b'x'; 100], 100);
        }
        assert!(matches!(wire.poll_peek(cx, seen), Poll::Ready(Ok(Some(bytes))) if bytes.starts_with(b"PRxx")));
        let mut all = Vec::new();
        while let Poll::Ready(bytes) = read(&mut wire, 8192) {
            all.extend(bytes);
        }
        assert_eq!(all, [&b"PR"[..], &[b'x'; 100]].concat());
    }

    #[test]
    fn a_turn_reads_until_there_is_no_more_or_its_share_is_used_up() {
        let socket = Socket { incoming: vec![7; 100_000], piece: 70_000, ..Socket::default() };
        let mut wire = Wire::new(socket, Buffers::default());
        wire.begin_turn();
        let mut got = 0;
        while let Poll::Ready(bytes) = read(&mut wire, 8192) {
            got += bytes.len();
        }
        assert_eq!((got, wire.0.borrow().socket.reads, wire.wants_turn()), (100_000, 3, false));
        assert!(read(&mut wire, 10).is_pending());
        assert_eq!(wire.0.borrow().socket.reads, 3, "the socket is not asked again in this turn");
        assert!(wire.0.borrow().received.buffer.is_none(), "an idle connection holds no buffer");
        wire.0.borrow_mut().socket.incoming = vec![7; 2 * READ_BYTES_PER_TURN_MAX];
        wire.begin_turn();
        let mut got = 0;
        while let Poll::Ready(bytes) = read(&mut wire, 8192) {
            got += bytes.len();
        }
        assert!((READ_BYTES_PER_TURN_MAX..READ_BYTES_PER_TURN_MAX + WIRE_BUFFER_BYTES).contains(&got) && wire.wants_turn());
    }
}
