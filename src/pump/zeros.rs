//! Zeros over space of a WAL segment that is only reserved, written while the segment is in use already.
//!
//! The first write into a reserved block also changes the file's map, and a durable one waits until that is on disk as well: a write of
//! the log then takes half as long again. Segments made ahead are filled before they are used. A core's first one cannot wait for that,
//! so its zeros are written ahead of the log; they say what is read there anyway, and never meet a write of the log.

use std::cell::{Cell, RefCell};
use std::io;

use crate::base::limits::FILL_SLICE_BYTES;

/// The zeros of one file, as far as they are.
#[derive(Default)]
pub(super) struct Zeros {
    /// Where the next slice begins.
    next: Cell<u64>,
    /// Where the slice under way begins, and what closes when it is written.
    slice: RefCell<Option<(u64, flume::Receiver<()>)>>,
}

impl Zeros {
    /// Writes zeros up to `end` by `fill` (from, to), slice after slice, but not over what [`Zeros::make_way`] was called for.
    ///
    /// # Errors
    /// `fill`'s; what is behind is then as it was.
    pub async fn write(&self, end: u64, mut fill: impl AsyncFnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
        while self.next.get() < end {
            let from = self.next.get();
            let to = end.min(from + FILL_SLICE_BYTES as u64);
            self.next.set(to);
            let (written, closes) = flume::bounded(1);
            self.slice.replace(Some((from, closes)));
            let filled = fill(from, to).await;
            drop(written);
            filled?;
        }
        Ok(())
    }

    /// Before a write that ends at `end`, the first one behind all others: when this ends, no zeros are or will be written below.
    pub async fn make_way(&self, end: u64) {
        self.next.set(self.next.get().max(end));
        let under_way = self.slice.borrow().as_ref().filter(|(from, _)| *from < end).map(|(_, closes)| closes.clone());
        if let Some(closes) = under_way {
            closes.recv_async().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const SLICE: u64 = FILL_SLICE_BYTES as u64;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn zeros_never_meet_what_is_written() {
        let zeros = Zeros::default();
        let (slices, may_end) = (RefCell::new(Vec::new()), Rc::new(Cell::new(0)));
        let ended = Cell::new(0);
        let mut work = pin!(zeros.write(5 * SLICE + 10, async |from, to| {
            slices.borrow_mut().push((from, to));
            std::future::poll_fn(|_| if may_end.get() > ended.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            ended.set(ended.get() + 1);
            Ok(())
        }));
        assert!(poll(work.as_mut()).is_pending());
        // The slice under way is waited for; the next one begins behind the write.
        let mut first = pin!(zeros.make_way(4096));
        let mut far = pin!(zeros.make_way(2 * SLICE + 4096));
        assert!(poll(first.as_mut()).is_pending() && poll(far.as_mut()).is_pending());
        may_end.set(1);
        assert!(poll(work.as_mut()).is_pending());
        assert!(poll(first.as_mut()).is_ready() && poll(far.as_mut()).is_ready());
        assert_eq!(*slices.borrow(), [(0, SLICE), (2 * SLICE + 4096, 3 * SLICE + 4096)]);
        // What is written below the slice under way does not wait.
        assert!(poll(pin!(zeros.make_way(2 * SLICE + 4096))).is_ready());
        assert!(poll(pin!(zeros.make_way(2 * SLICE + 4097))).is_pending());
        may_end.set(9);
        assert!(matches!(poll(work.as_mut()), Poll::Ready(Ok(()))));
        assert_eq!(slices.borrow()[2..], [(3 * SLICE + 4096, 4 * SLICE + 4096), (4 * SLICE + 4096, 5 * SLICE + 10)]);
        assert!(poll(pin!(zeros.make_way(u64::MAX))).is_ready());
    }

    #[test]
    fn what_cannot_be_filled_is_left() {
        let zeros = Zeros::default();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let mut work = pin!(zeros.write(9 * SLICE, async |from, _| if from == 0 { Ok(()) } else { Err(full()) }));
        assert!(matches!(poll(work.as_mut()), Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::StorageFull));
        assert!(poll(pin!(zeros.make_way(3 * SLICE))).is_ready(), "nobody waits for it");
    }
}
