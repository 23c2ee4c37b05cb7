//! Which sockets have something to do.
//!
//! glommio polls each socket through io_uring, once per receive. Whatever arrives then interrupts the executor's thread wherever it is,
//! and each poll is a submission and a completion. Here an epoll instance collects what arrives, in the kernel and without a word; io_uring
//! polls that alone, and only when the executor has nothing else to wait for.
//!
//! Sockets are registered once, edge-triggered: a socket is ready until it says that it has no more, or takes no more.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::AsyncRead as _;
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;

use super::pace::{Pace, Voice};
use crate::base::Instant;
use crate::base::limits::SOCKETS_PER_LOOK_MAX;

/// How long to wait when io_uring cannot be asked, because no more files may be opened.
const RETRY: Duration = Duration::from_millis(1);

/// What a socket can be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// That it has something, or its peer has closed.
    Read,
    /// That it takes something.
    Write,
}

/// The sockets of one executor that wait; clones are handles to the same ones.
#[derive(Clone)]
pub struct Readiness(Rc<Inner>);

struct Inner {
    epoll: OwnedFd,
    places: RefCell<Slab<Place>>,
    pace: RefCell<Pace>,
    /// How long what arrives may wait for more, however few sockets speak.
    gather: Cell<Duration>,
}

/// One socket.
struct Place {
    read: Half,
    write: Half,
    /// The peer has closed, or the connection has failed: what is read next says so, however often.
    ended: bool,
    voice: Voice,
}

struct Half {
    is_ready: bool,
    waiter: Option<Waker>,
}

impl Half {
    fn new() -> Half {
        Half { is_ready: true, waiter: None }
    }

    /// It is ready from now on; gives who is to be woken.
    fn make_ready(&mut self) -> Option<Waker> {
        self.is_ready = true;
        self.waiter.take()
    }

    fn wait(&mut self, waker: &Waker) {
        if !self.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(waker)) {
            self.waiter = Some(waker.clone());
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").finish_non_exhaustive()
    }
}

impl Readiness {
    /// No sockets yet, which are looked at at this pace.
    ///
    /// # Errors
    /// The system's: no more files may be opened.
    pub fn new(pace: Pace) -> io::Result<Readiness> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Readiness(Rc::new(Inner { epoll, places: RefCell::default(), pace: RefCell::new(pace), gather: Cell::default() })))
    }

    /// From now on, there is at least so long between one look at the sockets and the next, while something arrives.
    pub fn gather(&self, wait: Duration) {
        self.0.gather.set(wait);
    }

    /// Wakes who waits for a socket, for ever.
    pub async fn watch(self, clock: impl Fn() -> Instant) {
        let mut events = vec![MaybeUninit::uninit(); SOCKETS_PER_LOOK_MAX];
        let mut woken = Vec::new();
        loop {
            if readable(self.0.epoll.as_fd()).await.is_err() {
                glommio::timer::sleep(RETRY).await;
            }
            while let heard @ 1.. = self.look(&mut events, &mut woken) {
                woken.drain(..).for_each(Waker::wake);
                if heard == SOCKETS_PER_LOOK_MAX {
                    // There may be others who have spoken: they are heard before it rests.
                    break;
                }
                let rest = self.0.pace.borrow_mut().rest(clock()).max(self.0.gather.get());
                if rest.is_zero() {
                    break;
                }
                glommio::timer::sleep(rest).await;
            }
        }
    }

    /// Adds who waits for what has become ready to `woken`; of how many sockets it has heard, at most [`SOCKETS_PER_LOOK_MAX`].
    fn look(&self, events: &mut [MaybeUninit<epoll::Event>], woken: &mut Vec<Waker>) -> usize {
        let Ok((events, _)) = epoll::wait(&self.0.epoll, events, Some(&rustix::event::Timespec::default())) else {
            return 0;
        };
        let mut places = self.0.places.borrow_mut();
        let mut pace = self.0.pace.borrow_mut();
        for event in &*events {
            let epoll::Event { data, flags } = *event;
            let Some(place) = places.get_mut(data.u64() as usize) else { continue };
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            place.ended |= ended;
            if ended || flags.contains(EventFlags::IN) {
                pace.hears(&mut place.voice);
                woken.extend(place.read.make_ready());
            }
            if ended || flags.contains(EventFlags::OUT) {
                woken.extend(place.write.make_ready());
            }
        }
        events.len()
    }
}

/// Ends when `fd` polls readable.
///
/// glommio polls only for its streams, and for each as soon as it has one, before anything is received. So it is given a stream that is
/// none: as long as the poll is under way, nothing is received from it, and afterwards it says that it is no socket.
async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let copy = fd.try_clone_to_owned()?.into_raw_fd();
    // SAFETY: the copy is open, and nobody else owns it.
    let mut stream = unsafe { glommio::net::TcpStream::from_raw_fd(copy) };
    let polled = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0])).await;
    match polled {
        Err(e) if e.raw_os_error() == Some(libc::ENOTSOCK) => Ok(()),
        Err(e) => Err(e),
        Ok(_) => unreachable!("received from what is no socket"),
    }
}

/// A socket that is registered as long as it lives.
pub struct Registered<S: AsFd> {
    socket: S,
    place: usize,
    readiness: Readiness,
}

impl<S: AsFd> Registered<S> {
    /// Registers a socket that does not block.
    ///
    /// # Errors
    /// The system's: no memory, or too many watches.
    pub fn new(readiness: &Readiness, socket: S) -> io::Result<Registered<S>> {
        let new = Place { read: Half::new(), write: Half::new(), ended: false, voice: Voice::default() };
        let place = readiness.0.places.borrow_mut().insert(new);
        let registered = Registered { socket, place, readiness: readiness.clone() };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&readiness.0.epoll, &registered.socket, EventData::new_u64(place as u64), interest)?;
        Ok(registered)
    }

    /// The socket itself.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Tries when the socket is ready; else, and when it was not, `cx` is woken when it is.
    pub fn poll<T>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut places = self.readiness.0.places.borrow_mut();
        let place = &mut places[self.place];
        let half = match direction {
            Direction::Read => &mut place.read,
            Direction::Write => &mut place.write,
        };
        while half.is_ready {
            match attempt(&self.socket) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => half.is_ready = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    if direction == Direction::Write {
                        self.readiness.0.pace.borrow_mut().sends(&mut place.voice);
                    }
                    return Poll::Ready(done);
                }
            }
        }
        half.wait(cx.waker());
        Poll::Pending
    }

    /// Less was received than there was room for, so there is no more; what arrives from now on makes it ready again.
    pub fn mark_drained(&self) {
        let mut places = self.readiness.0.places.borrow_mut();
        let place = &mut places[self.place];
        place.read.is_ready = place.ended;
    }
}

impl<S: AsFd> Drop for Registered<S> {
    fn drop(&mut self) {
        // The system forgets the registration when the socket is closed, which it is next.
        self.readiness.0.places.borrow_mut().remove(self.place);
    }
}

#[cfg(test)]
#[path = "readiness_test.rs"]
mod tests;
