//! RangeStream: a range answered in chunks that start small and grow towards --max-request-bytes.
//!
//! Source: etcd 3.7.1, `rangeStream` in `server/etcdserver/v3_server.go`.

use bytes::Bytes;

use crate::base::limits::{STREAM_BYTES_MAX, STREAM_FIRST_KEYS};
use crate::base::{GroupId, Revision};
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::{Answer, At};

use super::call::{CallId, MESSAGE_PREFIX_BYTES};
use super::calls::Step;
use super::front::{Begun, Front, FrontEffect};
use super::range::{Outcome, RangeJob};
use super::{encode, validate};

/// A RangeStream under way.
pub struct RangeStream {
    request: pb::RangeRequest,
    /// For the header; and read at, unless the request names a revision.
    current: Revision,
    at: At,
    /// Keys that the client wants in all.
    total: i64,
    /// Keys sent.
    count: i64,
    /// Keys in the chunk under way.
    chunk: i64,
    stage: Stage,
    /// Bytes that have not left for the socket.
    buffered: usize,
}

enum Stage {
    /// Reading a chunk.
    Chunk(RangeJob),
    /// Counting what is left behind the limit, for the last chunk, which is here.
    Rest(RangeJob, Outcome),
    /// Waiting for the client to take what was sent.
    Full,
}

impl Front {
    pub(super) fn range_stream(&mut self, id: CallId, message: Bytes) -> Begun {
        let request: pb::RangeRequest = validate::stream_message(message)?;
        validate::range_stream(&request)?;
        if !request.serializable {
            self.reign()?;
        }
        let (current, revision) = self.read_revision(id, request.revision)?;
        let at = At::end_of(revision);
        let total = if request.limit == 0 { i64::MAX } else { request.limit };
        let chunk = if request.count_only { 0 } else { STREAM_FIRST_KEYS.min(total) };
        let first = pb::RangeRequest { limit: chunk, ..request.clone() };
        let job = RangeJob::new(first, at, &self.config.layout);
        self.free_for(&job)?;
        self.no_limit(id);
        self.counts.ranges += 1;
        let stage = Stage::Chunk(job);
        let stream = Box::new(RangeStream { request, current, at, total, count: 0, chunk, stage, buffered: 0 });
        self.stream_on(id, stream);
        Ok(())
    }

    /// Goes on until it needs a slice, or the client has to take something first, or it is done.
    fn stream_on(&mut self, id: CallId, mut stream: Box<RangeStream>) {
        loop {
            let asked = match &mut stream.stage {
                Stage::Chunk(job) | Stage::Rest(job, _) => job.advance(),
                Stage::Full => Some(Vec::new()),
            };
            if let Some(asked) = asked {
                self.ask_slices(id, 0, asked);
                self.calls.get(id).expect("a call that streams is there").step = Step::Stream(stream);
                return;
            }
            match std::mem::replace(&mut stream.stage, Stage::Full) {
                Stage::Chunk(job) => {
                    if self.chunk_read(id, &mut stream, job.outcome()) {
                        return;
                    }
                }
                Stage::Rest(job, last) => {
                    let count = stream.count + job.outcome().count as i64;
                    let header = self.header(stream.current);
                    let message = encode::range_stream_response(Some(&header), &last.kvs, last.more, count);
                    return self.reply(id, message);
                }
                Stage::Full => unreachable!("it waits"),
            }
        }
    }

    /// A chunk is here: sends it, unless what is behind it has to be counted first. True: the call is over.
    fn chunk_read(&mut self, id: CallId, stream: &mut RangeStream, chunk: Outcome) -> bool {
        stream.count += chunk.kvs.len() as i64;
        if stream.request.count_only {
            let header = self.header(stream.current);
            self.reply(id, encode::range_stream_response(Some(&header), &[], false, chunk.count as i64));
            return true;
        }
        let next = chunk.kvs.last().map(|kv| validate::after(&kv.key));
        if !chunk.more {
            let header = self.header(stream.current);
            self.reply(id, encode::range_stream_response(Some(&header), &chunk.kvs, false, stream.count));
            return true;
        }
        stream.request.key = next.expect("there is more behind some key");
        if stream.count == stream.total {
            let rest = pb::RangeRequest { count_only: true, limit: 0, ..stream.request.clone() };
            stream.stage = Stage::Rest(RangeJob::new(rest, stream.at, &self.config.layout), chunk);
            return false;
        }
        let message = encode::range_stream_response(None, &chunk.kvs, false, 0);
        let size = message.len() - MESSAGE_PREFIX_BYTES;
        stream.buffered += message.len();
        self.effects.push(FrontEffect::Send { call: id, message });
        stream.chunk = adjust(stream.chunk, size, self.config.request_bytes_max).min(stream.total - stream.count);
        if stream.buffered < STREAM_BYTES_MAX {
            stream.stage = Stage::Chunk(self.next_chunk(stream));
        }
        false
    }

    fn next_chunk(&self, stream: &RangeStream) -> RangeJob {
        let request = pb::RangeRequest { limit: stream.chunk, ..stream.request.clone() };
        RangeJob::new(request, stream.at, &self.config.layout)
    }

    /// A slice is here.
    pub(super) fn stream_answered(&mut self, id: CallId, mut stream: Box<RangeStream>, group: GroupId, answer: Answer) {
        let Answer::Range(slice) = answer else { unreachable!("a range is answered by a slice") };
        match &mut stream.stage {
            Stage::Chunk(job) | Stage::Rest(job, _) => job.give(group, slice),
            Stage::Full => unreachable!("nothing was asked"),
        }
        self.stream_on(id, stream);
    }

    /// The client took something.
    pub(super) fn stream_sent(&mut self, id: CallId, bytes: usize) {
        let Some(call) = self.calls.get(id) else { return };
        let Step::Stream(stream) = &mut call.step else { return };
        stream.buffered = stream.buffered.saturating_sub(bytes);
        if stream.buffered >= STREAM_BYTES_MAX || !matches!(stream.stage, Stage::Full) {
            return;
        }
        let Step::Stream(mut stream) = std::mem::replace(&mut call.step, Step::Fresh) else { unreachable!("it is one") };
        stream.stage = Stage::Chunk(self.next_chunk(&stream));
        self.stream_on(id, stream);
    }
}

/// etcd's `adjustChunkLimit`.
fn adjust(keys: i64, bytes: usize, target: usize) -> i64 {
    let keys = match bytes {
        bytes if bytes < target / 2 => keys.saturating_mul(2),
        bytes if bytes > target * 2 => keys / 2,
        _ => keys,
    };
    keys.max(1)
}
