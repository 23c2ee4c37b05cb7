//! Answers of writes, made before their revision is known, and put together from the parts of several shards.

use crate::base::Revision;
use crate::mvcc::At;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;

use super::path::{Operations, Path, branch};

/// Stands in an answer for the revision that the request takes.
pub const THIS_REVISION: i64 = -1;
/// Stands in an answer for the newest revision before the request's own; what is current where it takes none.
pub const BEFORE_REVISION: i64 = -2;

/// The answer to a write request; the headers of the response itself are the front's.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// To a put.
    Put(PutResponse),
    /// To a range delete.
    Delete(DeleteRangeResponse),
    /// To a txn.
    Txn(TxnAnswer),
}

/// The answer to a txn.
#[derive(Clone, PartialEq, Debug)]
pub struct TxnAnswer {
    /// Whole, but for the ranges that are pending: those are empty.
    pub response: TxnResponse,
    /// The ranges to be read once the revision is stable, in the order of the operations.
    pub pending: Vec<Pending>,
}

/// A range of a txn that is read once the txn's revision is stable.
#[derive(Clone, PartialEq, Debug)]
pub struct Pending {
    /// Where its response is: the place among the responses, of a nested txn's responses in turn.
    pub place: Vec<u32>,
    /// What to read.
    pub request: RangeRequest,
    /// How many changes of the revision it sees.
    pub operation_bound: u32,
}

/// The answer to one operation of a txn.
#[derive(Clone, PartialEq, Debug)]
pub enum OpAnswer {
    /// A range that was answered at once.
    Range(RangeResponse),
    /// A put.
    Put(PutResponse),
    /// A range delete, or a shard's part of one.
    Delete(DeleteRangeResponse),
}

/// The answers to the operations along a path, as they come in from the shards.
#[derive(Debug)]
pub struct Answers(Vec<Option<OpAnswer>>);

impl Pending {
    /// What it sees. `taken` is the revision that the txn took; `current` what was the newest when it took none.
    pub fn at(&self, taken: Option<Revision>, current: Revision) -> At {
        match (u64::try_from(self.request.revision), taken) {
            (Ok(asked @ 1..), _) => At::end_of(Revision(asked)),
            (_, Some(revision)) => At { revision, operation_bound: self.operation_bound },
            (_, None) => At::end_of(current),
        }
    }
}

impl Answer {
    /// Puts in the revisions: `before` for what comes before the request's own changes, `this` for those.
    ///
    /// A request that took R has (R - 1, R); one that changed nothing has (E, E), the current revision.
    pub fn fill(&mut self, before: Revision, this: Revision) {
        let fill = Fill { before: before.as_i64(), this: this.as_i64() };
        match self {
            Answer::Put(response) => fill.put(response),
            Answer::Delete(response) => fill.delete(response),
            Answer::Txn(answer) => fill.txn(&mut answer.response),
        }
    }
}

struct Fill {
    before: i64,
    this: i64,
}

impl Fill {
    fn number(&self, number: &mut i64) {
        match *number {
            THIS_REVISION => *number = self.this,
            BEFORE_REVISION => *number = self.before,
            _ => {}
        }
    }

    fn header(&self, header: &mut Option<ResponseHeader>) {
        if let Some(header) = header {
            self.number(&mut header.revision);
        }
    }

    fn kvs<'a>(&self, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
        for kv in kvs {
            self.number(&mut kv.create_revision);
            self.number(&mut kv.mod_revision);
        }
    }

    fn put(&self, response: &mut PutResponse) {
        self.header(&mut response.header);
        self.kvs(&mut response.prev_kv);
    }

    fn delete(&self, response: &mut DeleteRangeResponse) {
        self.header(&mut response.header);
        self.kvs(&mut response.prev_kvs);
    }

    fn txn(&self, response: &mut TxnResponse) {
        for op in &mut response.responses {
            match &mut op.response {
                Some(Response::ResponseRange(range)) => {
                    self.header(&mut range.header);
                    self.kvs(&mut range.kvs);
                }
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete),
                Some(Response::ResponseTxn(nested)) => self.txn(nested),
                None => {}
            }
        }
    }
}

/// The header of an operation's own response: nothing but the revision.
pub(super) fn op_header(changed: bool) -> Option<ResponseHeader> {
    let revision = if changed { THIS_REVISION } else { BEFORE_REVISION };
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

impl Answers {
    /// For a path of `operations` operations.
    pub fn new(operations: usize) -> Answers {
        Answers((0..operations).map(|_| None).collect())
    }

    /// Adds what a shard answers to operation `index`.
    pub fn add(&mut self, index: usize, answer: OpAnswer) {
        match (&mut self.0[index], answer) {
            (Some(OpAnswer::Delete(whole)), OpAnswer::Delete(part)) => {
                whole.deleted += part.deleted;
                whole.prev_kvs.extend(part.prev_kvs);
                whole.prev_kvs.sort_by(|a, b| a.key.cmp(&b.key));
            }
            (place @ None, answer) => *place = Some(answer),
            (Some(_), _) => panic!("only the parts of a range delete are added up"),
        }
    }

    /// The answer to the txn; what no shard has answered is pending, which only ranges may be.
    pub fn assemble(self, txn: &TxnRequest, path: &Path, operations: &Operations) -> TxnAnswer {
        let mut assembly = Assembly {
            answers: self.0.into_iter().enumerate(),
            path: path.0.iter(),
            operations,
            place: Vec::new(),
            pending: Vec::new(),
        };
        let response = assembly.txn(txn, None);
        assert!(assembly.answers.next().is_none() && assembly.path.next().is_none(), "the txn uses up its path");
        TxnAnswer { response, pending: assembly.pending }
    }
}

struct Assembly<'a> {
    answers: std::iter::Enumerate<std::vec::IntoIter<Option<OpAnswer>>>,
    path: std::slice::Iter<'a, bool>,
    operations: &'a Operations,
    place: Vec<u32>,
    pending: Vec<Pending>,
}

impl Assembly<'_> {
    fn txn(&mut self, txn: &TxnRequest, header: Option<ResponseHeader>) -> TxnResponse {
        let succeeded = *self.path.next().expect("a path has a branch for every txn on it");
        let mut responses = Vec::with_capacity(branch(txn, succeeded).len());
        for (number, op) in branch(txn, succeeded).iter().enumerate() {
            self.place.push(number as u32);
            let response = match &op.request {
                None => None,
                Some(Request::RequestTxn(nested)) => {
                    Some(Response::ResponseTxn(self.txn(nested, Some(ResponseHeader::default()))))
                }
                Some(request) => Some(self.op(request)),
            };
            responses.push(ResponseOp { response });
            self.place.pop();
        }
        TxnResponse { header, succeeded, responses }
    }

    fn op(&mut self, request: &Request) -> Response {
        let (index, answer) = self.answers.next().expect("there is an answer for every operation on the path");
        match (answer, request) {
            (Some(OpAnswer::Range(response)), Request::RequestRange(_)) => Response::ResponseRange(response),
            (Some(OpAnswer::Put(response)), Request::RequestPut(_)) => Response::ResponsePut(response),
            (Some(OpAnswer::Delete(mut response)), Request::RequestDeleteRange(_)) => {
                response.header = op_header(self.operations.through(index) > 0);
                Response::ResponseDeleteRange(response)
            }
            (None, Request::RequestRange(range)) => {
                let operation_bound = self.operations.before(index);
                self.pending.push(Pending { place: self.place.clone(), request: range.clone(), operation_bound });
                let header = op_header(operation_bound > 0);
                Response::ResponseRange(RangeResponse { header, ..RangeResponse::default() })
            }
            (answer, request) => panic!("{answer:?} does not answer {request:?}"),
        }
    }
}
