//! Calls that read ranges: some jobs run side by side, and when all are done the call goes on.

use crate::base::{GroupId, Revision};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::{Answer, OpResponse, Read};

use super::call::CallId;
use super::calls::Step;
use super::encode;
use super::front::Front;
use super::range::{Asked, Outcome, RangeJob};
use super::tickets::Ask;

/// A call that reads.
pub struct Reads {
    jobs: Vec<RangeJob>,
    /// How many of them are not done.
    running: usize,
    /// Bytes of slices that came.
    gathered: usize,
    then: Then,
}

/// What a call does with what it read.
pub enum Then {
    /// Answers a Range; with the revision for the header.
    Range(Revision),
    /// Answers a DeleteRange with the previous values.
    Delete {
        /// For the header.
        revision: Revision,
        /// How many keys.
        deleted: i64,
    },
    /// Answers a txn that wrote.
    Written {
        /// For the header.
        revision: Revision,
        /// Which branch ran.
        succeeded: bool,
        /// Its answers, less what was read.
        responses: Vec<OpResponse>,
    },
    /// Chooses the branch of a txn that only reads.
    Compare {
        /// The request.
        txn: Box<pb::TxnRequest>,
        /// The revision that it reads at.
        revision: Revision,
    },
    /// Answers a txn that only reads.
    Chosen {
        /// The revision that it read at.
        revision: Revision,
        /// Which branch ran.
        succeeded: bool,
    },
}

impl Reads {
    /// Bytes of slices that came.
    pub fn gathered(&self) -> usize {
        self.gathered
    }
}

impl Front {
    /// Runs `jobs` for a call, then `then`.
    pub(super) fn start_reads(&mut self, id: CallId, jobs: Vec<RangeJob>, then: Then) {
        let mut reads = Box::new(Reads { running: 0, gathered: 0, jobs, then });
        for part in 0..reads.jobs.len() {
            if let Some(asked) = reads.jobs[part].advance() {
                self.ask_slices(id, part as u32, asked);
                reads.running += 1;
            }
        }
        self.go_on(id, reads);
    }

    /// A slice of one of a call's reads is here.
    pub(super) fn reads_answered(&mut self, id: CallId, mut reads: Box<Reads>, part: u32, group: GroupId, answer: Answer) {
        let Answer::Range(slice) = answer else { unreachable!("a range is answered by a slice") };
        let bytes = slice.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        self.room.gather(bytes);
        reads.gathered += bytes;
        let job = &mut reads.jobs[part as usize];
        job.give(group, slice);
        match job.advance() {
            Some(asked) if asked.is_empty() => {}
            Some(asked) => self.room.wait(id, part, asked),
            None => reads.running -= 1,
        }
        self.go_on(id, reads);
    }

    /// Reads that wait for room go on as far as there is some.
    pub(super) fn reads_go_on(&mut self) {
        while let Some((id, part, asked)) = self.room.next() {
            self.ask_slices(id, part, asked);
        }
    }

    fn go_on(&mut self, id: CallId, reads: Box<Reads>) {
        if reads.running > 0 {
            self.calls.get(id).expect("a call that reads is there").step = Step::Reads(reads);
            return;
        }
        self.room.let_go(id, reads.gathered);
        let outcomes = reads.jobs.into_iter().map(RangeJob::outcome);
        match reads.then {
            Then::Range(revision) => self.range_read(id, revision, outcomes),
            Then::Delete { revision, deleted } => self.deleted_read(id, revision, deleted, outcomes),
            Then::Written { revision, succeeded, responses } => self.txn_read(id, revision, succeeded, responses, outcomes),
            Then::Compare { txn, revision } => self.compares_read(id, *txn, revision, outcomes),
            Then::Chosen { revision, succeeded } => self.branch_read(id, revision, succeeded, outcomes),
        }
    }

    fn range_read(&mut self, id: CallId, revision: Revision, mut outcomes: impl Iterator<Item = Outcome>) {
        let outcome = outcomes.next().expect("a range is one job");
        self.counts.ranges += 1;
        let header = self.header(revision);
        let Outcome { encoded, kvs, more, count } = outcome;
        if encoded.is_empty() {
            return self.reply(id, encode::range_response(Some(&header), &kvs, more, count as i64));
        }
        self.reply_parts(id, encode::range_response_around(&header, encoded, &kvs, more, count as i64));
    }

    fn deleted_read(&mut self, id: CallId, revision: Revision, deleted: i64, mut outcomes: impl Iterator<Item = Outcome>) {
        let prevs = outcomes.next().expect("a delete reads one range").kvs;
        let header = self.header(revision);
        self.reply(id, encode::delete_response(&header, deleted, &prevs));
    }

    /// Asks for slices on behalf of a call.
    pub(super) fn ask_slices(&mut self, id: CallId, part: u32, asked: Vec<Asked>) {
        for (group, read) in asked {
            self.ask_for(id, part, group, Ask::Read(Read::Range(Box::new(read))));
        }
    }
}
