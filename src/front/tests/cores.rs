//! Fake cores: they answer from the model, in slices of random size, after random delays, and make things stable by the real reign.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{CoreId, GroupId, GroupSet, KeyRange, LeaseId, MemberId, Prng, Revision, Term};
use crate::front::{Layout, alarm_bit};
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::KeyValue;
use crate::reign::{Board, Owner, Reign};
use crate::shard::messages::{
    Answer, At, Event, EventsRead, Leave, Order, Previous, RangeRead, RangeSlice, Read, Refusal, Ticket, ToCore, ToFront, Write,
};

use super::model::{Change, Expected, Model};

/// With this slice_max the size of slices is not left to chance.
pub const WHOLE: u64 = 1000;

/// What a core took and a quorum does not have yet.
struct Taken {
    revision: Revision,
    ticket: Ticket,
    answer: Answer,
    changes: Vec<Change>,
}

pub struct Cores {
    pub layout: Layout,
    pub model: Model,
    pub reign: Arc<Reign>,
    pub board: Arc<Board>,
    pub inbox: Vec<VecDeque<ToCore>>,
    pub outbox: Vec<VecDeque<ToFront>>,
    /// By owner: group 0 stands for the coordinator.
    taken: BTreeMap<u16, VecDeque<Taken>>,
    /// How a ticket's write was evaluated.
    pub evaluated: BTreeMap<u64, Result<Expected, Refusal>>,
    pub cancelled: u64,
    pub granted: BTreeMap<i64, i64>,
    pub alarms: Vec<(MemberId, i32)>,
    /// From which to which revision.
    compactions: Vec<(i64, Revision)>,
    /// Reads of what may be removed are a mistake. Not when calls are given up: their reads are thrown away.
    pub checks_removed: bool,
    /// Groups are sometimes behind with applying.
    pub lags: bool,
    /// The most events or keys of a slice.
    pub slice_max: u64,
    /// The most bytes of values of a slice.
    pub slice_bytes: usize,
    /// Slices of changes asked for.
    pub event_reads: u64,
    pub rng: Prng,
}

impl Cores {
    pub fn new(shards: u16, cores: u16, board: Arc<Board>, seed: u64) -> Cores {
        let reign = Arc::new(Reign::new(Term(2), usize::from(shards) + 1, Revision(1)));
        Cores {
            layout: layout(shards, cores),
            model: Model::new(),
            reign,
            board,
            inbox: (0..cores).map(|_| VecDeque::new()).collect(),
            outbox: (0..cores).map(|_| VecDeque::new()).collect(),
            taken: BTreeMap::new(),
            evaluated: BTreeMap::new(),
            cancelled: 0,
            granted: BTreeMap::new(),
            alarms: Vec::new(),
            compactions: Vec::new(),
            lags: false,
            checks_removed: true,
            slice_max: 4,
            slice_bytes: usize::MAX,
            event_reads: 0,
            rng: Prng::new(seed),
        }
    }

    fn core(&self, group: GroupId) -> usize {
        usize::from(self.layout.core(group).0)
    }

    /// Does one thing; false: there is nothing to do.
    pub fn step(&mut self) -> bool {
        let boxes: Vec<usize> = (0..self.inbox.len()).filter(|&i| !self.inbox[i].is_empty()).collect();
        let owners: Vec<u16> = self.taken.keys().copied().filter(|&o| self.next_in_its_groups(o)).collect();
        let choices = (boxes.len() + owners.len()) as u64;
        if choices == 0 {
            return false;
        }
        let choice = self.rng.below(choices) as usize;
        match boxes.get(choice) {
            Some(&core) => {
                let message = self.inbox[core].pop_front().unwrap();
                self.message(core, message);
            }
            None => self.replicate(owners[choice - boxes.len()]),
        }
        true
    }

    /// Whether the next entry of an owner is the next in the log of every group that it changes.
    fn next_in_its_groups(&self, owner: u16) -> bool {
        let groups = |taken: &Taken| -> Vec<GroupId> { taken.changes.iter().map(|c| self.layout.of_key(&c.kv.key)).collect() };
        let Some(next) = self.taken[&owner].front() else { return false };
        let mine = groups(next);
        let before = self.taken.values().flatten().filter(|t| t.revision < next.revision);
        before.into_iter().all(|t| groups(t).iter().all(|g| !mine.contains(g)))
    }

    fn message(&mut self, core: usize, message: ToCore) {
        match message {
            ToCore::Write { ticket, term, group, write } => {
                assert_eq!(self.core(group), core);
                if term != self.reign.term() || self.reign.is_closed() {
                    return self.answer(core, ticket, Leave::Now, Answer::Refused(Refusal::NotLeader));
                }
                self.write(ticket, Some(group), write);
            }
            ToCore::Read { ticket, group, read } => {
                assert_eq!(self.core(group), core);
                let answer = self.read(group, read);
                self.answer(core, ticket, Leave::Now, answer);
            }
            ToCore::Order { ticket, term, order } => {
                assert_eq!(core, 0);
                if term != self.reign.term() || self.reign.is_closed() {
                    return self.answer(core, ticket, Leave::Now, Answer::Refused(Refusal::NotLeader));
                }
                self.order(ticket, order);
            }
            ToCore::Cancel { ticket, .. } => self.cancel(core, ticket),
        }
    }

    /// What is still queued is dropped and answered; what is not is answered in its time.
    fn cancel(&mut self, core: usize, ticket: Ticket) {
        self.cancelled += 1;
        let asks = |m: &ToCore| matches!(m, ToCore::Write { ticket: t, .. } | ToCore::Order { ticket: t, .. } | ToCore::Read { ticket: t, .. } if *t == ticket);
        if let Some(at) = self.inbox[core].iter().position(asks) {
            self.inbox[core].remove(at);
            self.answer(core, ticket, Leave::Now, Answer::Refused(Refusal::Cancelled));
        }
    }

    fn answer(&mut self, core: usize, ticket: Ticket, leave: Leave, answer: Answer) {
        self.outbox[core].push_back(ToFront::Answer { ticket, term: self.reign.term(), leave, answer });
    }

    fn write(&mut self, ticket: Ticket, group: Option<GroupId>, write: Write) {
        if let Some(group) = group {
            touched(&write).iter().for_each(|range| match range.single() {
                Some(key) => assert_eq!(self.layout.of_key(key), group, "all of a write is in its group"),
                None => assert_eq!(self.layout.shards, 1, "a range is in all groups"),
            });
        }
        let several = group.is_none();
        let done = match &write {
            Write::Put(r) => {
                if r.lease != 0 && !self.model.leases.contains(&r.lease) {
                    Err(Refusal::LeaseNotFound)
                } else {
                    self.model.put(r)
                }
            }
            Write::Delete(r) => {
                let mut rng = self.rng.fork();
                self.model.delete(r, &mut rng, several)
            }
            Write::Txn(r) => {
                let mut rng = self.rng.fork();
                self.model.txn(r, &mut rng, several)
            }
        };
        let owner = group.map_or(Owner::Coordinator, Owner::Group);
        let core = group.map_or(0, |g| self.core(g));
        let after = self.reign.after();
        match done {
            Err(refusal) => {
                self.evaluated.insert(ticket.number, Err(refusal));
                self.answer(core, ticket, Leave::Stable(after), Answer::Refused(refusal));
            }
            Ok(evaluated) => {
                self.evaluated.insert(ticket.number, Ok(evaluated.expected));
                let revision = Revision(evaluated.revision);
                let answer = Answer::Write { revision, response: evaluated.response };
                if revision == after {
                    return self.answer(core, ticket, Leave::Stable(after), answer);
                }
                assert_eq!(self.reign.take(owner), revision);
                let changes = self.model.changes.iter().filter(|c| c.revision == revision.0).cloned().collect();
                let queue = self.taken.entry(group.map_or(0, |g| g.0)).or_default();
                queue.push_back(Taken { revision, ticket, answer, changes });
            }
        }
    }

    /// A quorum has the next entry of an owner: answer, events, then the slot (rule 13).
    fn replicate(&mut self, owner: u16) {
        let taken = self.taken.get_mut(&owner).unwrap().pop_front().unwrap();
        let core = self.core(GroupId(owner));
        let term = Some(self.reign.term());
        self.answer(core, taken.ticket, Leave::Stable(taken.revision), taken.answer);
        let mut by_group: BTreeMap<GroupId, Vec<Event>> = BTreeMap::new();
        for change in &taken.changes {
            let event = self.event(change);
            by_group.entry(self.layout.of_key(&change.kv.key)).or_default().push(event);
        }
        for (group, events) in by_group {
            let core = self.core(group);
            self.outbox[core].push_back(ToFront::Events { term, group, events });
        }
        let lowest = self.taken[&owner].front().map(|t| t.revision);
        let owner = if owner == 0 { Owner::Coordinator } else { Owner::Group(GroupId(owner)) };
        self.reign.raise(owner, lowest);
        self.reign.settle();
    }

    fn event(&mut self, change: &Change) -> Event {
        let known = self.board.previous_values_watches() > 0 && !self.rng.chance(1, 8);
        let prev = match (&change.prev, known) {
            (_, false) => Previous::Unknown,
            (None, true) => Previous::None,
            (Some(kv), true) => Previous::Kv(kv.clone()),
        };
        Event {
            revision: Revision(change.revision),
            operation: change.operation,
            tombstone: change.tombstone,
            kv: change.kv.clone(),
            prev,
        }
    }

    fn order(&mut self, ticket: Ticket, order: Order) {
        let after = self.reign.after();
        let (leave, answer) = match order {
            Order::Write { write, groups } => {
                let of = |range: &KeyRange| self.layout.of_range(range);
                let wanted: GroupSet = touched(&write).iter().flat_map(of).collect();
                assert_eq!(groups, wanted);
                return self.write(ticket, None, write);
            }
            Order::LeaseGrant { id, ttl } => match self.granted.insert(id.0, ttl) {
                Some(old) => {
                    self.granted.insert(id.0, old);
                    (Leave::Stable(after), Answer::Refused(Refusal::LeaseExists))
                }
                None => {
                    self.model.leases.push(id.0);
                    (Leave::Stable(after), Answer::Granted { id, ttl })
                }
            },
            Order::LeaseRevoke { id } => match self.granted.remove(&id.0) {
                None => (Leave::Stable(after), Answer::Refused(Refusal::LeaseNotFound)),
                Some(_) => (Leave::Stable(after), Answer::Revoked { revision: after }),
            },
            Order::LeaseKeepAlive { id } => {
                let ttl = self.granted.get(&id.0).copied().unwrap_or(0);
                (Leave::Now, Answer::Renewed { id, ttl })
            }
            Order::LeaseTimeToLive { id } => match self.granted.get(&id.0) {
                Some(&granted) => (Leave::Now, Answer::Remaining { id, ttl: granted - 1, granted }),
                None => (Leave::Now, Answer::Remaining { id, ttl: -1, granted: 0 }),
            },
            Order::LeaseLeases => (Leave::Now, Answer::Leases(self.granted.keys().map(|&id| LeaseId(id)).collect())),
            Order::Compact { revision, .. } => (Leave::Now, self.compact(revision)),
            Order::CompactionHash(hash) => {
                if self.compactions.contains(&(hash.query.compacted, hash.query.revision)) {
                    self.outbox[0].push_back(ToFront::CompactionHash(hash));
                }
                (Leave::Now, Answer::Done)
            }
            Order::Alarm(r) => (Leave::Now, self.alarm(&r)),
            Order::Defragment => (Leave::Now, Answer::Done),
        };
        self.answer(0, ticket, leave, answer);
    }

    fn compact(&mut self, revision: i64) -> Answer {
        if revision <= self.model.compacted {
            return Answer::Refused(Refusal::Compacted);
        }
        if revision > self.reign.stable().as_i64() {
            return Answer::Refused(Refusal::FutureRevision);
        }
        let from = std::mem::replace(&mut self.model.compacted, revision);
        self.compactions.push((from, Revision(revision as u64)));
        self.board.raise_compact_floor(Revision(revision as u64));
        Answer::Compacted
    }

    fn alarm(&mut self, r: &pb::AlarmRequest) -> Answer {
        let at = (MemberId(r.member_id), r.alarm);
        match pb::alarm_request::AlarmAction::try_from(r.action).unwrap() {
            pb::alarm_request::AlarmAction::Get => return Answer::Alarms(self.alarms.clone()),
            pb::alarm_request::AlarmAction::Activate => self.alarms.push(at),
            pb::alarm_request::AlarmAction::Deactivate => self.alarms.retain(|a| *a != at),
        }
        let bits = self.alarms.iter().map(|(_, kind)| alarm_bit(pb::AlarmType::try_from(*kind).unwrap()));
        self.board.publish_alarms(bits.fold(0, |a, b| a | b));
        let alarms = self.alarms.iter().map(|&(member, alarm)| pb::AlarmMember { member_id: member.0, alarm });
        self.outbox[0].push_back(ToFront::Alarms(Arc::new(alarms.collect())));
        Answer::Alarms(vec![at])
    }

    /// What may have been removed must not be read (rule 16).
    fn may_read(&self, revision: Revision) {
        assert!(revision <= self.reign.stable(), "only what is stable is read");
        if !self.checks_removed {
            return;
        }
        let removed = self.board.compact_floor().min(self.board.lowest_read());
        assert!(revision >= removed, "{revision} may have been removed: all below {removed} may");
    }

    fn read(&mut self, group: GroupId, read: Read) -> Answer {
        match read {
            Read::Get { key, at } => {
                self.may_read(at.revision);
                assert_eq!(self.layout.of_key(&key), group);
                Answer::Got(self.model.state(at).remove(&key))
            }
            Read::Range(read) => self.range(group, *read),
            Read::Events(read) => self.events(group, *read),
            Read::HashKept(query) => {
                self.may_read(query.revision);
                Answer::HashKept(true)
            }
            Read::Hash { query, .. } => {
                self.may_read(Revision(query.compacted.max(0) as u64));
                Answer::Hash { entries: Vec::new(), resume: None }
            }
            Read::Attached { lease, at, resume } => self.attached(group, lease, at, resume),
        }
    }

    fn in_group(&self, group: GroupId, at: At, range: &KeyRange) -> Vec<KeyValue> {
        let state = self.model.state(at);
        state.into_values().filter(|kv| range.contains(&kv.key) && self.layout.of_key(&kv.key) == group).collect()
    }

    fn range(&mut self, group: GroupId, read: RangeRead) -> Answer {
        self.may_read(read.at.revision);
        assert!(read.limit > 0);
        let all = self.in_group(group, read.at, &read.range);
        let total = all.len() as u64;
        let mut rest: VecDeque<KeyValue> = match &read.resume {
            Some(after) => all.into_iter().filter(|kv| kv.key > *after).collect(),
            None => all.into(),
        };
        let budget = if self.slice_max >= WHOLE { WHOLE as usize } else { 1 + self.rng.below(self.slice_max) as usize };
        let mut slice = RangeSlice::default();
        let mut last = Bytes::new();
        for _ in 0..budget {
            let Some(mut kv) = rest.pop_front() else { break };
            last = kv.key.clone();
            if read.count_only {
                slice.count += 1;
                continue;
            }
            let within = |bounds: (i64, i64), n: i64| (bounds.0 == 0 || n >= bounds.0) && (bounds.1 == 0 || n <= bounds.1);
            if !within(read.mod_revisions, kv.mod_revision) || !within(read.create_revisions, kv.create_revision) {
                continue;
            }
            if read.keys_only {
                kv.value.clear();
                kv.lease = 0;
            }
            slice.kvs.push(kv);
            if slice.kvs.len() == read.limit {
                break;
            }
        }
        if read.with_count {
            assert!(read.resume.is_none());
            slice.count = total;
        }
        // Sometimes the end shows only when asked for what follows it.
        if !rest.is_empty() || (!last.is_empty() && self.rng.chance(1, 4)) {
            slice.resume = Some(last);
        }
        Answer::Range(slice)
    }

    fn events(&mut self, group: GroupId, read: EventsRead) -> Answer {
        self.event_reads += 1;
        self.may_read(read.from);
        assert!(read.to <= self.reign.stable() && read.from <= read.to);
        let start = read.resume.map_or(0, |r| u64::from_be_bytes(r.as_ref().try_into().unwrap()) as usize);
        // This group may not have applied everything that is stable; but what it showed it had.
        let shown = if start == 0 { 0 } else { self.model.changes[start].revision };
        let shown = shown.max(read.from.0 - 1);
        let applied =
            if self.lags && self.rng.chance(1, 4) { shown + self.rng.below(read.to.0 + 1 - shown) } else { read.to.0 };
        let applied = Revision(applied);
        let mut budget = if self.slice_max >= WHOLE { WHOLE } else { self.rng.below(self.slice_max + 1) };
        let mut bytes = 0;
        let mut events = Vec::new();
        for at in start..self.model.changes.len() {
            let change = self.model.changes[at].clone();
            let revision = Revision(change.revision);
            let wanted = revision >= read.from
                && revision <= applied
                && read.range.contains(&change.kv.key)
                && self.layout.of_key(&change.kv.key) == group;
            if !wanted {
                continue;
            }
            if budget == 0 || bytes > self.slice_bytes {
                let through = Revision(change.revision - 1);
                let resume = Some(Bytes::copy_from_slice(&(at as u64).to_be_bytes()));
                return Answer::Events { events, through, resume };
            }
            budget -= 1;
            bytes += change.kv.value.len();
            let mut event = self.event(&change);
            event.prev = match change.prev {
                Some(kv) if read.prev_kv && change.revision as i64 > self.model.compacted => Previous::Kv(kv),
                _ => Previous::None,
            };
            events.push(event);
        }
        Answer::Events { events, through: applied, resume: None }
    }

    fn attached(&mut self, group: GroupId, lease: LeaseId, at: At, resume: Option<Bytes>) -> Answer {
        self.may_read(at.revision);
        let everything = KeyRange::of(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
        let mut keys: Vec<Bytes> = self
            .in_group(group, at, &everything)
            .into_iter()
            .filter(|kv| kv.lease == lease.0 && resume.as_ref().is_none_or(|r| kv.key > *r))
            .map(|kv| kv.key)
            .collect();
        let resume = (keys.len() > 1).then(|| {
            keys.truncate(1);
            keys[0].clone()
        });
        Answer::Attached { keys, resume }
    }

    /// The reign ends: what was taken and is not stable is gone.
    pub fn end_reign(&mut self) {
        self.reign.close();
        let stable = self.reign.stable();
        for (owner, taken) in std::mem::take(&mut self.taken) {
            for taken in taken {
                let core = self.core(GroupId(owner));
                self.answer(core, taken.ticket, Leave::Now, Answer::Refused(Refusal::LeaderChanged));
            }
        }
        self.model.changes.retain(|c| c.revision <= stable.0);
        self.model.current = stable.0;
        self.board.raise_serving(stable);
        self.outbox[0].push_back(ToFront::Ended { term: self.reign.term(), stable });
    }

    /// The next reign opens.
    pub fn next_reign(&mut self) {
        let term = self.reign.term().next();
        let groups = usize::from(self.layout.shards) + 1;
        self.reign = Arc::new(Reign::new(term, groups, Revision(self.model.current)));
        let reign = self.reign.clone();
        self.outbox[0].push_back(ToFront::Leading(reign));
    }
}

pub fn layout(shards: u16, cores: u16) -> Layout {
    let core = |group: u16| CoreId(if group == 0 { 0 } else { (group - 1) % cores });
    Layout { shards, cores: (0..=shards).map(core).collect() }
}

/// The ranges that choose where a write goes.
fn touched(write: &Write) -> Vec<KeyRange> {
    use pb::request_op::Request as Op;
    fn walk(txn: &pb::TxnRequest, ranges: &mut Vec<KeyRange>) {
        ranges.extend(txn.compare.iter().map(|c| KeyRange::of(&c.key, &c.range_end)));
        for op in txn.success.iter().chain(&txn.failure) {
            match op.request.as_ref().unwrap() {
                Op::RequestPut(r) => ranges.push(KeyRange::of(&r.key, &Bytes::new())),
                Op::RequestDeleteRange(r) => ranges.push(KeyRange::of(&r.key, &r.range_end)),
                Op::RequestTxn(r) => walk(r, ranges),
                Op::RequestRange(_) => {}
            }
        }
    }
    match write {
        Write::Put(r) => vec![KeyRange::of(&r.key, &Bytes::new())],
        Write::Delete(r) => vec![KeyRange::of(&r.key, &r.range_end)],
        Write::Txn(r) => {
            let mut ranges = Vec::new();
            walk(r, &mut ranges);
            ranges
        }
    }
}
