//! The board: what the cores and fronts of one process show each other, whatever the term.

use crate::base::{CoreId, FrontId, GroupId, Index, Revision, Term};

use super::Reign;
use super::mutant::{Mutant, Mutants};
use super::sync::{AtomicU64, Ordering, Padded, fence};

/// How many of each the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardSizes {
    /// Raft groups, group 0 included.
    pub groups: usize,
    /// Shard cores.
    pub cores: usize,
    /// Fronts.
    pub fronts: usize,
}

/// A core or a front: what can wait, read and be woken. A thread that is both has a seat of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Seat {
    /// A shard core.
    Core(CoreId),
    /// A front.
    Front(FrontId),
}

/// How a core may go on that wanted to park.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Parked {
    /// What it waits for has not come: it may park, and will be woken. Otherwise it goes round its loop once more.
    pub may_park: bool,
    /// The stable revision that the last look raised, if it did: the core wakes who waits for it ([`Board::wake`]) first.
    pub raised: Option<Revision>,
}

/// What each group's thread publishes.
#[derive(Debug)]
struct GroupPlace {
    applied: AtomicU64,
    next_matched: AtomicU64,
    used_bytes: AtomicU64,
    file_bytes: AtomicU64,
}

/// What each seat's thread publishes.
#[derive(Debug)]
struct SeatPlace {
    waiting_term: AtomicU64,
    waiting_for: AtomicU64,
    read_floor: AtomicU64,
    loops: AtomicU64,
    short: AtomicU64,
}

/// The shared state of one process. Shared by `Arc`, for as long as the process runs.
#[derive(Debug)]
pub struct Board {
    mutants: Mutants,
    cores: usize,
    serving: Padded<AtomicU64>,
    /// One more than the floor; 0: there is none.
    compact_floor: Padded<AtomicU64>,
    auth_revision: Padded<AtomicU64>,
    alarms: Padded<AtomicU64>,
    /// How many cores' logs the disk refuses.
    refused_logs: Padded<AtomicU64>,
    previous_values: Padded<AtomicU64>,
    groups: Box<[Padded<GroupPlace>]>,
    seats: Box<[Padded<SeatPlace>]>,
}

impl Board {
    /// The board of a process that serves nothing yet.
    pub fn new(sizes: BoardSizes) -> Board {
        Board::with(sizes, Mutants::default())
    }

    pub(super) fn with(sizes: BoardSizes, mutants: Mutants) -> Board {
        assert!(sizes.groups > 0 && sizes.cores > 0, "a member has group 0 and core 0 at least");
        let zero = || Padded(AtomicU64::new(0));
        let group = || GroupPlace {
            applied: AtomicU64::new(0),
            next_matched: AtomicU64::new(Revision::MAX.0),
            used_bytes: AtomicU64::new(0),
            file_bytes: AtomicU64::new(0),
        };
        let seat = || SeatPlace {
            waiting_term: AtomicU64::new(0),
            waiting_for: AtomicU64::new(Revision::MAX.0),
            read_floor: AtomicU64::new(Revision::MAX.0),
            loops: AtomicU64::new(0),
            short: AtomicU64::new(0),
        };
        Board {
            mutants,
            cores: sizes.cores,
            serving: zero(),
            compact_floor: zero(),
            auth_revision: zero(),
            alarms: zero(),
            refused_logs: zero(),
            previous_values: zero(),
            groups: (0..sizes.groups).map(|_| Padded(group())).collect(),
            seats: (0..sizes.cores + sizes.fronts).map(|_| Padded(seat())).collect(),
        }
    }

    // Serving revision V (rule 12).

    /// What this member may show. On a leader whose reign is published it is the reign's stable revision instead.
    #[inline]
    pub fn serving(&self) -> Revision {
        Revision(self.serving.load(Ordering::Acquire))
    }

    /// Raises V; it never falls while the process runs (rule 7). True if this call raised it: then the caller wakes who
    /// waits for it.
    pub fn raise_serving(&self, revision: Revision) -> bool {
        self.serving.fetch_max(revision.0, Ordering::AcqRel) < revision.0
    }

    // Groups.

    /// Publishes up to where `group` has applied its log here, after the events were queued (rule 13).
    #[inline]
    pub fn publish_applied(&self, group: GroupId, index: Index) {
        self.groups[group.slot()].applied.store(index.0, Ordering::Release);
    }

    /// Up to where `group` has applied its log here.
    #[inline]
    pub fn applied(&self, group: GroupId) -> Index {
        Index(self.groups[group.slot()].applied.load(Ordering::Acquire))
    }

    /// Publishes what the first entry that `group` has not applied counts as, if it is matched with this term's leader
    /// (rule 12); `None` if it has no such entry.
    #[inline]
    pub fn publish_next_matched(&self, group: GroupId, counts_as: Option<Revision>) {
        let raw = counts_as.unwrap_or(Revision::MAX).0;
        self.groups[group.slot()].next_matched.store(raw, Ordering::Release);
    }

    /// What the first entry counts as that `group` has matched and not applied.
    pub fn next_matched(&self, group: GroupId) -> Option<Revision> {
        let raw = self.groups[group.slot()].next_matched.load(Ordering::Acquire);
        (raw != Revision::MAX.0).then_some(Revision(raw))
    }

    /// Publishes the bytes in use in `group`'s page store, and the length of its file.
    #[inline]
    pub fn publish_bytes(&self, group: GroupId, used: u64, file: u64) {
        self.groups[group.slot()].used_bytes.store(used, Ordering::Relaxed);
        self.groups[group.slot()].file_bytes.store(file, Ordering::Relaxed);
    }

    /// The bytes in use in all page stores: what the quota counts.
    pub fn used_bytes(&self) -> u64 {
        self.groups.iter().map(|g| g.used_bytes.load(Ordering::Relaxed)).sum()
    }

    /// The bytes that the page files take; at least what is in use, as pages that are in use and not written yet will be.
    pub fn file_bytes(&self) -> u64 {
        let of = |g: &GroupPlace| g.file_bytes.load(Ordering::Relaxed).max(g.used_bytes.load(Ordering::Relaxed));
        self.groups.iter().map(|g| of(g)).sum()
    }

    /// Publishes whether the disk is full and `core` has little room left in its log (rule 18).
    #[inline]
    pub fn publish_short(&self, core: CoreId, short: bool) {
        self.seats[self.place(Seat::Core(core))].short.store(u64::from(short), Ordering::Relaxed);
    }

    /// Whether any core says so.
    pub fn is_short(&self) -> bool {
        self.seats.iter().any(|seat| seat.short.load(Ordering::Relaxed) != 0)
    }

    /// Counts a core whose log the disk has no space for, or one less.
    pub fn count_refused_log(&self, is_refused: bool) {
        match is_refused {
            true => self.refused_logs.fetch_add(1, Ordering::Relaxed),
            false => self.refused_logs.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Whether there is any.
    #[inline]
    pub fn logs_refused(&self) -> bool {
        self.refused_logs.load(Ordering::Relaxed) != 0
    }

    // What group 0 decides.

    /// Publishes the revision of the users and roles.
    pub fn publish_auth_revision(&self, revision: u64) {
        self.auth_revision.store(revision, Ordering::Release);
    }

    /// The revision of the users and roles; a request checked at another one is checked again.
    #[inline]
    pub fn auth_revision(&self) -> u64 {
        self.auth_revision.load(Ordering::Acquire)
    }

    /// Publishes the alarms that are up, as a bit per kind; the state layer names the bits.
    pub fn publish_alarms(&self, bits: u64) {
        self.alarms.store(bits, Ordering::Release);
    }

    /// The alarms that are up, as a bit per kind.
    #[inline]
    pub fn alarms(&self) -> u64 {
        self.alarms.load(Ordering::Acquire)
    }

    // Compaction and reads (rule 16).

    /// Raises the compact floor: from now on no read below it begins. What is still being read shows in
    /// [`Board::lowest_read`], looked at after this. True if this call raised it.
    pub fn raise_compact_floor(&self, revision: Revision) -> bool {
        let raw = revision.0 + 1;
        let before = self.compact_floor.fetch_max(raw, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before < raw
    }

    /// The compact floor: reads below it are answered with "compacted". 0 until there is one.
    #[inline]
    pub fn compact_floor(&self) -> Revision {
        self.compacted().unwrap_or(Revision::ZERO)
    }

    /// The last compaction's revision, if there was one; etcd lets a store be compacted to 0 once.
    #[inline]
    pub fn compacted(&self) -> Option<Revision> {
        self.compact_floor.load(Ordering::Acquire).checked_sub(1).map(Revision)
    }

    /// The same as etcd counts it: −1 when there was none.
    pub fn compact_revision(&self) -> i64 {
        self.compacted().map_or(-1, Revision::as_i64)
    }

    /// Publishes the lowest revision that the reads of `seat` need, or that it needs none, and gives the compact floor: a read
    /// below the floor must not begin. Once per wake-up.
    pub fn publish_read(&self, seat: Seat, lowest: Option<Revision>) -> Revision {
        let raw = lowest.unwrap_or(Revision::MAX).0;
        self.seats[self.place(seat)].read_floor.store(raw, Ordering::Release);
        fence(Ordering::SeqCst);
        self.compact_floor()
    }

    /// The lowest revision that anyone reads, or [`Revision::MAX`]: slices remove nothing that a read at it or above needs.
    pub fn lowest_read(&self) -> Revision {
        let lowest = self.seats.iter().map(|s| s.read_floor.load(Ordering::Acquire)).min();
        Revision(lowest.expect("there is core 0 at least"))
    }

    /// Counts one more watch that wants previous values with its events.
    pub fn add_previous_values_watch(&self) {
        self.previous_values.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts one less.
    pub fn remove_previous_values_watch(&self) {
        let before = self.previous_values.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a watch that was not counted is gone");
    }

    /// How many watches want previous values with their events; shards load them only when there are any.
    #[inline]
    pub fn previous_values_watches(&self) -> u64 {
        self.previous_values.load(Ordering::Acquire)
    }

    // Liveness (rule 10).

    /// Counts a round of `core`'s loop.
    #[inline]
    pub fn count_loop(&self, core: CoreId) {
        let loops = &self.seats[self.place(Seat::Core(core))].loops;
        loops.store(loops.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The rounds that `core`'s loop has made. One that stands still for an election timeout deposes its leader.
    pub fn loops(&self, core: CoreId) -> u64 {
        self.seats[self.place(Seat::Core(core))].loops.load(Ordering::Relaxed)
    }

    // Waiting and waking (rule 2).

    /// Before a core parks: publishes that it waits for `waiting_for` (nothing: `None`) in the term of `reign`, and computes W
    /// once more. The core that goes on withdraws it ([`Board::unpark`]). A frozen core computes no W and calls
    /// [`Board::park`].
    pub fn park_core(&self, core: CoreId, reign: &Reign, waiting_for: Option<Revision>) -> Parked {
        self.announce(Seat::Core(core), reign.term(), waiting_for);
        let raised = reign.settle();
        let may_park = waiting_for.is_none_or(|revision| reign.stable() < revision);
        Parked { may_park, raised }
    }

    /// Before a front, or a core without a reign, parks: publishes that it waits until `now_at`, read after that, gives
    /// `waiting_for` (nothing: `None`) in `term`. `now_at` is the published reign's stable revision, or the board's V. Whether
    /// the seat may park; if not, it goes round its loop once more.
    #[must_use]
    pub fn park(&self, seat: Seat, term: Term, waiting_for: Option<Revision>, now_at: impl FnOnce() -> Revision) -> bool {
        self.announce(seat, term, waiting_for);
        waiting_for.is_none_or(|revision| now_at() < revision)
    }

    /// After a park, or one that was refused: the seat waits for nothing, and nobody need wake it.
    #[inline]
    pub fn unpark(&self, seat: Seat) {
        self.seats[self.place(seat)].waiting_for.store(Revision::MAX.0, Ordering::Release);
    }

    /// Calls `wake` with every seat that waits for (`term`, `stable`) or something before it. For whoever raised the stable
    /// revision of that term's reign, or V; waking one that no longer waits does no harm.
    pub fn wake(&self, term: Term, stable: Revision, mut wake: impl FnMut(Seat)) {
        assert!(stable < Revision::MAX, "what is at the highest revision waits for nothing");
        if !self.mutants.has(Mutant::WokenWithoutFence) {
            fence(Ordering::SeqCst);
        }
        for (place, seat) in self.seats.iter().enumerate() {
            let revision = Revision(seat.waiting_for.load(Ordering::Acquire));
            if revision == Revision::MAX {
                continue;
            }
            let waits_in = Term(seat.waiting_term.load(Ordering::Acquire));
            if (waits_in, revision) <= (term, stable) {
                wake(self.seat(place));
            }
        }
    }

    /// The two stores need no order of their own: the fence puts both before the seat's last look, and whoever raises `stable`
    /// after that look reads both. A reader between them wakes a seat that has not parked yet.
    fn announce(&self, seat: Seat, term: Term, waiting_for: Option<Revision>) {
        let place = &self.seats[self.place(seat)];
        let raw = waiting_for.unwrap_or(Revision::MAX).0;
        place.waiting_term.store(term.0, Ordering::Release);
        place.waiting_for.store(raw, Ordering::Release);
        if !self.mutants.has(Mutant::ParkedWithoutFence) {
            fence(Ordering::SeqCst);
        }
    }

    fn place(&self, seat: Seat) -> usize {
        match seat {
            Seat::Core(core) => {
                let place = usize::from(core.0);
                assert!(place < self.cores, "there is no core {core}");
                place
            }
            Seat::Front(front) => self.cores + usize::from(front.0),
        }
    }

    fn seat(&self, place: usize) -> Seat {
        match place.checked_sub(self.cores) {
            None => Seat::Core(CoreId(place as u16)),
            Some(front) => Seat::Front(FrontId(front as u16)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const CORE: Seat = Seat::Core(CoreId(1));
    const FRONT: Seat = Seat::Front(FrontId(0));

    fn board() -> Board {
        Board::new(BoardSizes { groups: 3, cores: 2, fronts: 1 })
    }

    fn woken(board: &Board, term: u64, stable: u64) -> Vec<Seat> {
        let mut seats = Vec::new();
        board.wake(Term(term), Revision(stable), |seat| seats.push(seat));
        seats
    }

    #[test]
    fn those_are_woken_that_wait_for_no_more_than_is_stable() {
        let board = board();
        assert!(board.park(CORE, Term(2), Some(Revision(10)), || Revision(4)));
        assert!(board.park(FRONT, Term(2), Some(Revision(5)), || Revision(4)));
        assert_eq!(woken(&board, 2, 4), []);
        assert_eq!(woken(&board, 2, 5), [FRONT]);
        assert_eq!(woken(&board, 2, 11), [CORE, FRONT]);
        board.unpark(FRONT);
        assert_eq!(woken(&board, 2, 11), [CORE]);
    }

    #[test]
    fn waiting_compares_the_term_first() {
        let board = board();
        assert!(board.park(FRONT, Term(3), Some(Revision(5)), || Revision(4)));
        assert_eq!(woken(&board, 2, 9), [], "the reign before cannot give it");
        assert_eq!(woken(&board, 4, 1), [FRONT], "what waits in a term that is over is told");
    }

    #[test]
    fn nobody_parks_on_what_is_there() {
        let board = board();
        let reign = Reign::new(Term(1), 1, Revision(7));
        let parked = board.park_core(CoreId(0), &reign, Some(Revision(7)));
        assert_eq!(parked, Parked { may_park: false, raised: None });
        let parked = board.park_core(CoreId(0), &reign, Some(Revision(8)));
        assert_eq!(parked, Parked { may_park: true, raised: None });
        assert!(board.park(FRONT, Term(1), None, || Revision(7)));
        assert_eq!(woken(&board, 1, 100), [Seat::Core(CoreId(0))]);
    }

    #[test]
    fn floors_rise_and_reads_hold_them() {
        let board = board();
        assert!(board.raise_compact_floor(Revision(5)));
        assert!(!board.raise_compact_floor(Revision(4)));
        assert_eq!(board.lowest_read(), Revision::MAX);
        assert_eq!(board.publish_read(FRONT, Some(Revision(8))), Revision(5));
        assert_eq!(board.publish_read(CORE, Some(Revision(6))), Revision(5));
        assert_eq!(board.lowest_read(), Revision(6));
        assert_eq!(board.publish_read(CORE, None), Revision(5));
        assert_eq!(board.lowest_read(), Revision(8));
    }

    #[test]
    fn what_is_published_is_read() {
        let board = board();
        board.publish_applied(GroupId(2), Index(9));
        board.publish_bytes(GroupId(0), 100, 4096);
        board.publish_bytes(GroupId(2), 11, 0);
        board.publish_next_matched(GroupId(1), Some(Revision(3)));
        board.publish_alarms(2);
        board.publish_auth_revision(6);
        board.add_previous_values_watch();
        board.count_loop(CoreId(1));
        assert!(board.raise_serving(Revision(3)) && !board.raise_serving(Revision(2)));
        assert_eq!((board.serving(), board.applied(GroupId(2)), board.used_bytes()), (Revision(3), Index(9), 111));
        assert_eq!(board.file_bytes(), 4107);
        assert_eq!((board.next_matched(GroupId(1)), board.next_matched(GroupId(0))), (Some(Revision(3)), None));
        assert_eq!((board.alarms(), board.auth_revision(), board.previous_values_watches()), (2, 6, 1));
        assert_eq!((board.loops(CoreId(1)), board.loops(CoreId(0))), (1, 0));
        board.remove_previous_values_watch();
        assert_eq!(board.previous_values_watches(), 0);
    }
}
