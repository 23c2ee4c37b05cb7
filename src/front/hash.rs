//! HashKV and Hash, and the hashes that compactions leave.
//!
//! etcd hashes what a compaction goes through, keeps the last ten such hashes, and answers a HashKV of exactly that revision with it. So a
//! compaction that goes through a front is hashed first: from the floor that it finds to the one that it makes, which is kept from
//! being removed until the hash is done. Source: etcd 3.7.1, `server/storage/mvcc/hash.go`, `kvstore_compaction.go`.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::limits::COMPACTION_HASHES_MAX;
use crate::base::{GroupId, Revision};
use crate::mvcc::hash::{HashMerger, HashQuery};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::{Answer, CompactionHash, Order, Read, Resume};

use super::call::{CallId, frame};
use super::calls::Step;
use super::front::{Begun, Front, Stop};
use super::tickets::{Ask, Owner};
use super::validate;

/// One hash over all shards: whether any of them keeps something, then their entries, merged.
struct HashJob {
    query: HashQuery,
    groups: Vec<GroupId>,
    stage: Stage,
}

/// How far a hash is.
enum Stage {
    /// So many groups have not said whether they keep anything.
    Kept { awaited: usize, any: bool },
    /// The groups' entries are merged; per group whether a slice is on its way, and where the next one begins.
    Entries { merger: HashMerger, asked: Vec<bool>, resumes: Vec<Option<Resume>> },
}

/// What a hash asks of a group.
type Asked = (GroupId, Read);

impl HashJob {
    fn new(query: HashQuery, groups: Vec<GroupId>) -> (HashJob, Vec<Asked>) {
        let asked = groups.iter().map(|&group| (group, Read::HashKept(query))).collect();
        let stage = Stage::Kept { awaited: groups.len(), any: false };
        (HashJob { query, groups, stage }, asked)
    }

    /// A group has answered its part; what is asked next.
    fn give(&mut self, group: GroupId, answer: Answer) -> Option<Asked> {
        match (&mut self.stage, answer) {
            (Stage::Kept { awaited, any }, Answer::HashKept(kept)) => {
                *awaited -= 1;
                *any |= kept;
                if *awaited == 0 {
                    let groups = self.groups.len();
                    let merger = HashMerger::new(groups, *any);
                    self.stage = Stage::Entries { merger, asked: vec![false; groups], resumes: vec![None; groups] };
                }
            }
            (Stage::Entries { merger, asked, resumes }, Answer::Hash { entries, resume }) => {
                let place = self.groups.iter().position(|g| *g == group).expect("a group that was asked");
                merger.feed(place, entries, resume.is_none());
                asked[place] = false;
                resumes[place] = resume;
            }
            _ => unreachable!("a hash is answered by what it asked for"),
        }
        let Stage::Entries { merger, asked, resumes } = &mut self.stage else { return None };
        let place = merger.wanted()?;
        if std::mem::replace(&mut asked[place], true) {
            return None;
        }
        Some((self.groups[place], Read::Hash { query: self.query, resume: resumes[place].take() }))
    }

    /// Whether nothing is wanted any more.
    fn is_done(&self) -> bool {
        matches!(&self.stage, Stage::Entries { merger, .. } if merger.wanted().is_none())
    }

    /// The hash, once it is done.
    fn finish(self) -> u32 {
        let Stage::Entries { merger, .. } = self.stage else { unreachable!("a hash is finished when it is done") };
        merger.finish()
    }
}

/// A call that hashes.
pub struct HashCall {
    job: HashJob,
    /// The current revision when it began, for the header.
    current: Revision,
    /// Maintenance/Hash rather than HashKV.
    whole: bool,
}

/// A compaction's hash under way.
struct AtCompaction {
    /// The call that compacts.
    call: CallId,
    /// What it reads is kept from being removed.
    held: Revision,
    /// None: it is done, and core 0 is being told. What it read stays until then, so that a physical compaction is answered later.
    job: Option<HashJob>,
}

/// The hashes that compactions left, and the one under way.
#[derive(Default)]
pub struct CompactionHashes {
    kept: VecDeque<CompactionHash>,
    under_way: Option<Box<AtCompaction>>,
}

impl CompactionHashes {
    /// A compaction has left this. Two fronts may have hashed the same.
    pub fn keep(&mut self, hash: CompactionHash) {
        if self.of(hash.query.revision.as_i64()).is_some() {
            return;
        }
        if self.kept.len() == COMPACTION_HASHES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(hash);
    }

    fn of(&self, revision: i64) -> Option<CompactionHash> {
        self.kept.iter().find(|kept| kept.query.revision.as_i64() == revision).copied()
    }
}

impl Front {
    pub(super) fn hash_kv(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::HashKvRequest = validate::request(message)?;
        if let Some(CompactionHash { query, hash }) = self.compaction_hashes.of(request.revision) {
            let header = Some(self.current_header());
            self.reply(id, hash_kv_response(header, query, hash));
            return Ok(());
        }
        if request.revision < 0 {
            return self.hash_of_nothing(id, request.revision);
        }
        let (current, revision) = self.read_revision(id, request.revision)?;
        self.start_hash(id, current, revision, false)
    }

    /// etcd hashes everything up to a negative revision, which is nothing.
    fn hash_of_nothing(&mut self, id: CallId, asked: i64) -> Begun {
        let header = Some(self.current_header());
        let compact_revision = self.shared.compact_revision();
        let hash = HashMerger::new(0, false).finish();
        self.reply(id, frame(&pb::HashKvResponse { header, hash, compact_revision, hash_revision: asked }));
        Ok(())
    }

    /// etcd hashes its whole file. Here: the keys at the current revision; neither can be compared with another implementation's.
    pub(super) fn hash(&mut self, id: CallId, message: Bytes) -> Begun {
        let _: pb::HashRequest = validate::request(message)?;
        let (current, revision) = self.read_revision(id, 0)?;
        self.start_hash(id, current, revision, true)
    }

    fn start_hash(&mut self, id: CallId, current: Revision, revision: Revision, whole: bool) -> Result<(), Stop> {
        let groups: Vec<GroupId> = self.config.layout.groups().collect();
        for &group in &groups {
            self.free(self.config.layout.core(group))?;
        }
        let query = HashQuery { revision, compacted: self.hold_floor(id), at_compaction: false };
        let (job, asked) = HashJob::new(query, groups);
        for (group, read) in asked {
            self.ask_for(id, 0, group, Ask::Read(read));
        }
        self.no_limit(id);
        self.calls.get(id).expect("a call that begins is there").step = Step::Hash(Box::new(HashCall { job, current, whole }));
        Ok(())
    }

    /// The compact revision as etcd counts it, and everything above it kept: a hash is of the whole history above it, not of the keys
    /// at its revision alone.
    fn hold_floor(&mut self, id: CallId) -> i64 {
        loop {
            let compacted = self.shared.compacted();
            if self.hold(id, compacted.unwrap_or(Revision::ZERO)) {
                return compacted.map_or(-1, Revision::as_i64);
            }
        }
    }

    /// A group has answered its part of a call's hash.
    pub(super) fn hash_answered(&mut self, id: CallId, mut hash: Box<HashCall>, group: GroupId, answer: Answer) {
        if let Some((group, read)) = hash.job.give(group, answer) {
            self.ask_for(id, 0, group, Ask::Read(read));
        }
        if !hash.job.is_done() {
            self.calls.get(id).expect("a call that reads is there").step = Step::Hash(hash);
            return;
        }
        let HashCall { job, current, whole } = *hash;
        let (query, hash) = (job.query, job.finish());
        let header = Some(self.header(current));
        let message = if whole { frame(&pb::HashResponse { header, hash }) } else { hash_kv_response(header, query, hash) };
        self.reply(id, message);
    }

    // Hashes at compactions.

    /// A compaction is on its way to core 0: hashes what it goes through. One at a time: a compaction that begins before the last one
    /// was hashed leaves none, as in etcd.
    pub(super) fn hash_compaction(&mut self, call: CallId, revision: i64) {
        let compacted = self.shared.compacted();
        let from = compacted.map_or(-1, Revision::as_i64);
        let held = compacted.unwrap_or(Revision::ZERO);
        if self.compaction_hashes.under_way.is_some() || revision <= from || revision > self.shared.serving().as_i64() {
            return;
        }
        let groups: Vec<GroupId> = self.config.layout.groups().collect();
        let free = groups.iter().all(|&group| self.tickets.free(self.config.layout.core(group)));
        if !free || !self.shared.hold(held) {
            return;
        }
        let revision = Revision(u64::try_from(revision).expect("what is above a compaction or −1 is no less than 0"));
        let query = HashQuery { revision, compacted: from, at_compaction: true };
        let (job, asked) = HashJob::new(query, groups);
        for (group, read) in asked {
            self.ask(group, Owner::CompactionHash { call }, Ask::Read(read));
        }
        self.compaction_hashes.under_way = Some(Box::new(AtCompaction { call, held, job: Some(job) }));
    }

    /// A group has answered its part of a compaction's hash, or core 0 has heard of it.
    pub(super) fn compaction_hash_answered(&mut self, call: CallId, group: GroupId, answer: Answer) {
        let Some(mut at) = self.compaction_hashes.under_way.take_if(|at| at.call == call) else { return };
        let Some(mut job) = at.job.take().filter(|_| !matches!(answer, Answer::Refused(_))) else {
            // Done, or refused: the other groups' answers find nobody.
            return self.shared.give_back(at.held);
        };
        if let Some((group, read)) = job.give(group, answer) {
            self.ask(group, Owner::CompactionHash { call }, Ask::Read(read));
        }
        if !job.is_done() {
            at.job = Some(job);
        } else if let Some(term) = self.shared.leading() {
            let hash = CompactionHash { query: job.query, hash: job.finish() };
            self.ask(GroupId::META, Owner::CompactionHash { call }, Ask::Order(term, Order::CompactionHash(hash)));
        } else {
            return self.shared.give_back(at.held);
        }
        self.compaction_hashes.under_way = Some(at);
    }
}

fn hash_kv_response(header: Option<pb::ResponseHeader>, query: HashQuery, hash: u32) -> Bytes {
    let hash_revision = query.revision.as_i64();
    frame(&pb::HashKvResponse { header, hash, compact_revision: query.compacted, hash_revision })
}
