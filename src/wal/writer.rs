//! The writer of one WAL: records in, segment writes out, one in flight at a time.

use std::collections::VecDeque;

use crate::base::limits::{
    BATCH_BYTES_MAX, BLOCK_BYTES, WAL_ENDS_MAX, WAL_GROUPS_MAX, WAL_PENDING_BYTES_MAX, WAL_RESERVE_BYTES, WAL_SEGMENTS_SPARE,
    WAL_STATE_BYTES_MAX,
};
use crate::base::{AlignedBuffer, BatchNumber, ClusterId, Entry, GroupId, Index, MemberId, SegmentSequence, Term};

use super::buffer::{BatchBuffer, BufferPool};
use super::header::{BatchHeader, BatchKind, HEADER_BYTES, Known};
use super::ledger::Ledger;
use super::name::{SegmentName, WalId};
use super::record::{Record, entry_fields, other_fields};
use super::state::{GroupTail, RunEnd, State, StateBatch};

/// What a writer begins with.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// The WAL: a run that no file of the WAL directory names yet, and the core.
    pub wal: WalId,
    /// How many shard cores, and so WALs, this run has.
    pub cores: u16,
    /// A number drawn at random for this run; it tells this run's batches from whatever else a reused file holds.
    pub salt: u64,
    /// The member's term as recovered: no state batch may forget it.
    pub term: Term,
    /// Its vote in that term, as recovered.
    pub vote: Option<MemberId>,
    /// What was known, as recovered: no header says less.
    pub known: Known,
    /// Where the WALs of earlier runs ended: all of [`super::Recovered::ends`].
    pub ends: Vec<RunEnd>,
    /// How far the logs of this core's groups go, as recovered.
    pub tails: Vec<GroupTail>,
    /// The sizes that the writer keeps to.
    pub limits: WriterLimits,
}

/// The sizes that a writer keeps to.
#[derive(Clone, Copy, Debug)]
pub struct WriterLimits {
    /// The longest batch.
    pub batch_bytes: usize,
    /// The longest state batch.
    pub state_bytes: usize,
    /// The most bytes in pending batches.
    pub pending_bytes: usize,
    /// What [`Writer::room`] keeps back.
    pub reserve_bytes: usize,
}

impl Default for WriterLimits {
    fn default() -> WriterLimits {
        WriterLimits {
            batch_bytes: BATCH_BYTES_MAX,
            state_bytes: WAL_STATE_BYTES_MAX,
            pending_bytes: WAL_PENDING_BYTES_MAX,
            reserve_bytes: WAL_RESERVE_BYTES,
        }
    }
}

/// One write to a segment's file: `buffer[..bytes]` at `offset`, all in whole blocks. It must be on disk when it completes.
#[derive(Debug)]
pub struct SegmentWrite {
    /// The file.
    pub segment: SegmentName,
    /// Where in it.
    pub offset: u64,
    /// What to write, and perhaps more behind it. Goes back through [`Writer::written`].
    pub buffer: AlignedBuffer,
    /// How much of the buffer to write.
    pub bytes: usize,
}

/// Counts the records of a writer in the order in which they were appended, from 1.
pub type RecordNumber = u64;

/// The writer of one WAL.
///
/// ```text
/// append ── pending batch ─┬─ seal ───────────────────────────┐
/// append ── pending batch  │                                  ├─► SegmentWrite ─► (disk) ─► written ─► durable, ledger
///            needs_rotation└─ rotate: state batch, next segment┘
/// ```
///
/// Invariants: at most one batch is in flight; a batch is never rewritten; a segment keeps one block for its seal; a segment
/// becomes free only when the state batch of a later one is on disk.
#[derive(Debug)]
pub struct Writer {
    options: WriterOptions,
    tails: Vec<Option<Tail>>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    current: Option<Current>,
    ready: VecDeque<(SegmentName, u64)>,
    newest_name: SegmentName,
    flight: Option<Flight>,
    batch: BatchNumber,
    crc: u32,
    tail_sealed: bool,
    known: Known,
    term: Term,
    vote: Option<MemberId>,
    appended: RecordNumber,
    durable: RecordNumber,
    ledger: Ledger,
    pool: BufferPool,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    last: Index,
    last_term: Option<Term>,
    durable: GroupTail,
}

#[derive(Debug)]
struct Pending {
    buffer: BatchBuffer,
    records: u32,
    touched: Vec<Touched>,
    upto: RecordNumber,
}

/// What a batch does to a group's log.
#[derive(Clone, Copy, Debug)]
struct Touched {
    tail: GroupTail,
    /// The highest index that an entry or a cut in it stands for.
    pin: Index,
    /// The lowest index that it cut to.
    cut: Option<Index>,
}

#[derive(Debug)]
struct Current {
    name: SegmentName,
    bytes: u64,
    offset: u64,
}

impl Current {
    /// What batches may still take: one block stays for the seal.
    fn left(&self) -> u64 {
        (self.bytes - self.offset).saturating_sub(BLOCK_BYTES as u64)
    }
}

#[derive(Debug)]
struct Flight {
    kind: BatchKind,
    touched: Vec<Touched>,
    upto: RecordNumber,
}

impl Writer {
    /// A writer without a segment; it wants one, then a first state batch ([`Writer::needs_rotation`]).
    pub fn new(options: WriterOptions) -> Writer {
        let limits = options.limits;
        assert!(limits.batch_bytes <= BATCH_BYTES_MAX && limits.state_bytes <= WAL_STATE_BYTES_MAX);
        assert!(limits.batch_bytes >= 2 * BLOCK_BYTES && limits.pending_bytes >= limits.batch_bytes);
        assert!(options.wal.core.0 < options.cores, "a core is one of its run's");
        assert!(options.ends.len() <= WAL_ENDS_MAX);
        assert!(options.ends.iter().all(|end| end.wal.run < options.wal.run), "a run number is used once");
        let mut writer = Writer {
            tails: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            current: None,
            ready: VecDeque::new(),
            newest_name: SegmentName { wal: options.wal, sequence: SegmentSequence(0) },
            flight: None,
            batch: BatchNumber(0),
            crc: 0,
            tail_sealed: true,
            known: options.known,
            term: options.term,
            vote: options.vote,
            appended: 0,
            durable: 0,
            ledger: Ledger::default(),
            pool: BufferPool::default(),
            options,
        };
        for tail in std::mem::take(&mut writer.options.tails) {
            *writer.tail(tail.group) = Tail { last: tail.last, last_term: tail.last_term, durable: tail };
        }
        writer
    }

    /// The segment that the caller should make ready now, if one is wanted: a file of this name, zero-filled or one that became
    /// free, renamed, its directory synced. All first segments of a run must be there before any is written to.
    pub fn wants_segment(&self) -> Option<SegmentName> {
        (self.ready.len() < WAL_SEGMENTS_SPARE).then(|| self.newest_name.next())
    }

    /// The segment that was wanted is ready, with this many bytes (whole blocks).
    pub fn provide_segment(&mut self, name: SegmentName, bytes: u64) {
        let limits = self.options.limits;
        assert_eq!(name, self.newest_name.next(), "segments come in order");
        assert!(bytes.is_multiple_of(BLOCK_BYTES as u64), "a segment is in whole blocks");
        assert!(
            bytes >= (limits.state_bytes + limits.batch_bytes + BLOCK_BYTES) as u64,
            "a segment of {bytes} bytes is too short"
        );
        self.newest_name = name;
        self.ready.push_back((name, bytes));
    }

    /// Appends a record to the pending batch, and returns its number. Never fails: what may be refused asks [`Writer::room`] first.
    pub fn append(&mut self, record: &Record) -> RecordNumber {
        match *record {
            Record::Entry { group, ref entry } => return self.append_entry(group, entry),
            Record::Vote { term, vote } => {
                assert!(term >= self.term, "terms never fall");
                (self.term, self.vote) = (term, vote);
                self.put(other_fields(record).as_slice(), &[]);
            }
            Record::Cut { group, after } => {
                assert!(after <= self.tail(group).last, "{group:?} has no entry at the cut {after:?}");
                let last_term = if after == self.tail(group).last { self.tail(group).last_term } else { None };
                self.put(other_fields(record).as_slice(), &[]);
                self.touch(GroupTail { group, last: after, last_term }, after, Some(after));
            }
            Record::Snapshot { group, index, term } => {
                self.put(other_fields(record).as_slice(), &[]);
                self.touch(GroupTail { group, last: index, last_term: Some(term) }, index, Some(Index::ZERO));
            }
        }
        self.appended
    }

    /// Appends an entry, its payload copied straight into the batch. As [`Writer::append`].
    #[inline]
    pub fn append_entry(&mut self, group: GroupId, entry: &Entry) -> RecordNumber {
        let (index, term) = (entry.index, entry.term);
        let tail = *self.tail(group);
        assert!(index > Index::ZERO && index <= tail.last.next(), "{group:?} ends at {:?}, not before {index:?}", tail.last);
        let replaces = index <= tail.last;
        assert!(replaces || tail.last_term.is_none_or(|last| last <= term), "terms never fall along a log");
        if let crate::base::Mark::Revision { participants, .. } = entry.mark {
            assert!(participants.has(group), "a group with a part of a revision is a participant");
        }
        self.put(entry_fields(group, entry).as_slice(), &entry.payload);
        let cut = replaces.then(|| Index(index.0 - 1));
        self.touch(GroupTail { group, last: index, last_term: Some(term) }, index, cut);
        self.appended
    }

    fn put(&mut self, fields: &[u8], payload: &[u8]) {
        let bytes = fields.len() + payload.len();
        let limits = self.options.limits;
        assert!(HEADER_BYTES + bytes <= limits.batch_bytes, "a record of {bytes} bytes fits no batch");
        let fits = self.pending.back().is_some_and(|open| open.buffer.len() + bytes <= limits.batch_bytes);
        if !fits {
            let buffer = BatchBuffer::new(&mut self.pool);
            self.pending.push_back(Pending { buffer, records: 0, touched: Vec::new(), upto: self.appended });
        }
        self.pending_bytes += bytes;
        assert!(self.pending_bytes <= limits.pending_bytes + limits.reserve_bytes, "appended without asking for room");
        self.appended += 1;
        let open = self.pending.back_mut().expect("pushed above when there was none");
        open.buffer.put(fields, payload);
        open.records += 1;
        open.upto = self.appended;
    }

    fn touch(&mut self, to: GroupTail, pin: Index, cut: Option<Index>) {
        let tail = self.tail(to.group);
        (tail.last, tail.last_term) = (to.last, to.last_term);
        let touched = &mut self.pending.back_mut().expect("the record was put into it").touched;
        match touched.iter_mut().rev().find(|t| t.tail.group == to.group) {
            Some(t) => {
                t.tail = to;
                t.pin = t.pin.max(pin);
                t.cut = match (t.cut, cut) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            None => touched.push(Touched { tail: to, pin, cut }),
        }
    }

    #[inline]
    fn tail(&mut self, group: GroupId) -> &mut Tail {
        let slot = group.slot();
        assert!(slot < WAL_GROUPS_MAX, "{group:?} is out of range");
        if self.tails.len() <= slot {
            self.tails.resize(slot + 1, None);
        }
        let fresh = GroupTail { group, last: Index::ZERO, last_term: None };
        self.tails[slot].get_or_insert(Tail { last: Index::ZERO, last_term: None, durable: fresh })
    }

    /// Term and vote, as recovered or as appended since.
    pub const fn vote(&self) -> (Term, Option<MemberId>) {
        (self.term, self.vote)
    }

    /// Whether [`Writer::rotate`] must come before the next [`Writer::seal`]: nothing is in flight, a segment is ready, and
    /// the next batch does not fit the current one, or there is none yet.
    pub fn needs_rotation(&self) -> bool {
        let full = match (&self.current, self.pending.front()) {
            (None, _) => true,
            (Some(current), Some(next)) => next.buffer.padded_len() as u64 > current.left(),
            (Some(_), None) => false,
        };
        full && self.flight.is_none() && !self.ready.is_empty()
    }

    /// Begins the next segment: the write of its state batch. `state` is as of now: term and vote at least those appended,
    /// every group of the core.
    pub fn rotate(&mut self, state: State, known: Known) -> SegmentWrite {
        assert!(self.needs_rotation(), "a segment begins when it is needed");
        assert!((state.term, state.vote.is_some()) >= (self.term, self.vote.is_some()), "a state batch forgets a vote");
        let listed = |slot: usize| state.groups.iter().any(|g| g.group.slot() == slot);
        assert!((0..self.tails.len()).all(|slot| self.tails[slot].is_none() || listed(slot)), "a state batch forgets a group");
        let (name, bytes) = self.ready.pop_front().expect("needs_rotation saw one");
        let tails = state.groups.iter().map(|g| self.tail(g.group).durable).collect();
        (self.term, self.vote) = (state.term, state.vote);
        let batch = StateBatch {
            cluster: self.options.cluster,
            member: self.options.member,
            cores: self.options.cores,
            segment_bytes: bytes,
            state,
            tails,
            ends: self.options.ends.clone(),
        };
        let mut buffer = BatchBuffer::new(&mut self.pool);
        buffer.put(&batch.encode(), &[]);
        assert!(buffer.padded_len() <= self.options.limits.state_bytes, "a state batch of {} bytes", buffer.len());
        self.current = Some(Current { name, bytes, offset: 0 });
        self.ledger.open(name);
        let state = Pending { buffer, records: 1, touched: Vec::new(), upto: self.durable };
        self.write(BatchKind::State, state, known)
    }

    /// The write of the next pending batch. `None` when nothing is pending, one is in flight, or a segment must begin first
    /// ([`Writer::needs_rotation`], or [`Writer::wants_segment`] when none is ready).
    pub fn seal(&mut self, known: Known) -> Option<SegmentWrite> {
        let left = self.current.as_ref()?.left();
        if self.flight.is_some() || self.pending.front()?.buffer.padded_len() as u64 > left {
            return None;
        }
        let next = self.pending.pop_front().expect("looked at above");
        self.pending_bytes -= next.buffer.len() - HEADER_BYTES;
        Some(self.write(BatchKind::Records, next, known))
    }

    /// The write of a header alone, for a core that has been idle: from then on a flipped bit in the last batch is told from
    /// a torn write. `None` when the tail is sealed already, or something is pending or in flight.
    pub fn seal_tail(&mut self, known: Known) -> Option<SegmentWrite> {
        if self.tail_sealed || self.flight.is_some() || !self.pending.is_empty() {
            return None;
        }
        let buffer = BatchBuffer::new(&mut self.pool);
        let seal = Pending { buffer, records: 0, touched: Vec::new(), upto: self.durable };
        Some(self.write(BatchKind::Seal, seal, known))
    }

    fn write(&mut self, kind: BatchKind, batch: Pending, known: Known) -> SegmentWrite {
        assert!(self.flight.is_none(), "one batch is in flight at a time");
        self.known = self.known.max(known);
        self.batch = BatchNumber(self.batch.0 + 1);
        let current = self.current.as_mut().expect("a batch is written into a segment");
        let header = BatchHeader {
            segment: current.name,
            salt: self.options.salt,
            batch: self.batch,
            kind,
            bytes: 0,
            records: batch.records,
            payload_crc: 0,
            previous_crc: self.crc,
            known: self.known,
        };
        let (buffer, bytes, crc) = batch.buffer.seal(header);
        let offset = current.offset;
        current.offset += bytes as u64;
        assert!(current.offset <= current.bytes, "a batch ends inside its segment");
        assert!(kind == BatchKind::Seal || current.offset < current.bytes, "a block stays for the seal");
        self.crc = crc;
        self.tail_sealed = kind == BatchKind::Seal;
        self.flight = Some(Flight { kind, touched: batch.touched, upto: batch.upto });
        SegmentWrite { segment: current.name, offset, buffer, bytes }
    }

    /// The write in flight is on disk; its buffer is used again.
    pub fn written(&mut self, buffer: AlignedBuffer) {
        let flight = self.flight.take().expect("something was in flight");
        self.pool.give(buffer);
        let name = self.current.as_ref().expect("it was written into a segment").name;
        if flight.kind == BatchKind::State {
            self.ledger.carried_by(name);
        }
        for touched in flight.touched {
            let group = touched.tail.group;
            if let Some(after) = touched.cut {
                self.ledger.cut(group, after);
            }
            self.ledger.note(group, touched.pin);
            self.tail(group).durable = touched.tail;
        }
        assert!(flight.upto >= self.durable, "batches are written in order");
        self.durable = flight.upto;
    }

    /// Whether a write is in flight.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// The bytes of records that wait for a seal.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Every record up to this number is on disk.
    pub fn durable(&self) -> RecordNumber {
        self.durable
    }

    /// How far the group's log is on disk.
    pub fn durable_tail(&self, group: GroupId) -> GroupTail {
        let fresh = GroupTail { group, last: Index::ZERO, last_term: None };
        self.tails.get(group.slot()).copied().flatten().map_or(fresh, |tail| tail.durable)
    }

    /// How many bytes of records may be appended now that are certain of a place in the segments at hand, the reserve kept back
    /// (rule 18). A caller that may refuse asks before it takes a revision; votes, barriers, compaction and cuts do not ask.
    pub fn room(&self) -> usize {
        let limits = self.options.limits;
        let block = BLOCK_BYTES as u64;
        let left = self.current.as_ref().map_or(0, Current::left);
        let mut room = left;
        let mut wasted = left;
        for &(_, bytes) in &self.ready {
            // A batch that does not fit leaves what it would have filled of the segment before it.
            room -= wasted.min(limits.batch_bytes as u64);
            wasted = bytes - limits.state_bytes as u64 - block;
            room += wasted;
        }
        let pending: u64 = self.pending.iter().map(|p| p.buffer.padded_len() as u64).sum();
        let space = room.saturating_sub(pending).saturating_sub(limits.reserve_bytes as u64);
        let memory = limits.pending_bytes.saturating_sub(self.pending_bytes);
        usize::try_from(space).unwrap_or(usize::MAX).min(memory)
    }

    /// The longest batch that it makes.
    pub const fn batch_bytes_max(&self) -> usize {
        self.options.limits.batch_bytes
    }

    /// The page store of `group` holds everything up to `upto`, on disk.
    pub fn release(&mut self, group: GroupId, upto: Index) {
        self.ledger.release(group, upto);
    }

    /// The segments of this WAL that have become free: see [`Ledger::take_free`].
    pub fn take_free(&mut self) -> Vec<SegmentName> {
        self.ledger.take_free()
    }

    /// The segments in use and what pins them, oldest first.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
