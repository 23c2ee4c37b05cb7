//! Queues between executors: what is for one executor leaves in one batch per round.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};

use crate::base::{CoreId, FrontId};
use crate::reign::Seat;
use crate::shard::{CoreMessage, ToCore, ToFront};

/// Something for another executor.
#[derive(Debug)]
pub enum Envelope {
    /// A front's message to a core there.
    ToCore(ToCore),
    /// A core's message to a core there.
    Core(CoreMessage),
    /// A core's message to a front there.
    ToFront(ToFront),
    /// Something that it waits for is stable now.
    Wake,
    /// Stop cleanly.
    Stop,
}

/// What leaves in one piece.
pub type Batch = Vec<Envelope>;

/// Who lives where.
#[derive(Clone, Debug)]
pub struct Homes {
    /// The executor of each core.
    pub cores: Vec<usize>,
    /// The executor of each front.
    pub fronts: Vec<usize>,
}

impl Homes {
    /// The executor of a seat.
    pub fn of(&self, seat: Seat) -> usize {
        match seat {
            Seat::Core(CoreId(core)) => self.cores[usize::from(core)],
            Seat::Front(FrontId(front)) => self.fronts[usize::from(front)],
        }
    }
}

/// One executor's end of all queues.
pub struct Queues {
    me: usize,
    homes: Homes,
    senders: Vec<flume::Sender<Batch>>,
    mailbox: flume::Receiver<Batch>,
    outgoing: RefCell<Vec<Batch>>,
}

impl Queues {
    /// The ends of `executors` executors' queues.
    pub fn connect(executors: usize, homes: &Homes) -> Vec<Queues> {
        let (senders, mailboxes): (Vec<_>, Vec<_>) = (0..executors).map(|_| flume::unbounded()).unzip();
        let ends = mailboxes.into_iter().enumerate().map(|(me, mailbox)| Queues {
            me,
            homes: homes.clone(),
            senders: senders.clone(),
            mailbox,
            outgoing: RefCell::new((0..executors).map(|_| Vec::new()).collect()),
        });
        ends.collect()
    }

    /// A way to reach every executor from outside, for signals.
    pub fn senders(&self) -> Vec<flume::Sender<Batch>> {
        self.senders.clone()
    }

    /// Queues this for the executor of `seat`; gives it back when that is this one.
    pub fn push(&self, seat: Seat, envelope: Envelope) -> Option<Envelope> {
        let home = self.homes.of(seat);
        if home == self.me {
            return Some(envelope);
        }
        self.outgoing.borrow_mut()[home].push(envelope);
        None
    }

    /// Sends what was queued, one batch per executor.
    pub fn flush(&self) {
        for (home, batch) in self.outgoing.borrow_mut().iter_mut().enumerate() {
            if !batch.is_empty() {
                // An executor that is gone has ended the process, or the process is stopping.
                self.senders[home].send(std::mem::take(batch)).ok();
            }
        }
    }

    /// What has arrived, if anything.
    pub fn try_receive(&self) -> Option<Batch> {
        self.mailbox.try_recv().ok()
    }

    /// Waits for what arrives next.
    pub async fn receive(&self) -> Option<Batch> {
        self.mailbox.recv_async().await.ok()
    }
}

/// What wakes an executor's loop from its own tasks. Wakers are `Send` by contract, so it is made of atomics; no lock is ever waited for.
#[derive(Clone, Default)]
pub struct Bell(Arc<BellState>);

#[derive(Default)]
struct BellState {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Wake for BellState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            waker.wake();
        }
    }
}

impl Bell {
    /// There is something to do.
    pub fn ring(&self) {
        self.0.wake_by_ref();
    }

    /// A waker that rings it.
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Ends when the bell was rung since the last time.
    pub async fn rung(&self) {
        std::future::poll_fn(|cx| {
            *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            if self.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether it was rung, without waiting.
    pub fn take(&self) -> bool {
        self.0.rung.swap(false, Ordering::AcqRel)
    }
}
