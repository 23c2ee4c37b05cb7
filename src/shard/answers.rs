//! Answers of evaluation, in the shape in which fronts get them.

use crate::base::Revision;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::response_op::Response;
use crate::state::evaluate::{self, Pending, TxnAnswer};

use super::messages::{OpResponse, WriteResponse};

/// Puts the revisions in; `before` is what comes before the request's own changes, `this` what they are at.
pub fn settle(mut answer: evaluate::Answer, before: Revision, this: Revision) -> WriteResponse {
    answer.fill(before, this);
    match answer {
        evaluate::Answer::Put(put) => WriteResponse::Put { prev: put.prev_kv },
        evaluate::Answer::Delete(delete) => WriteResponse::Delete { deleted: delete.deleted, prevs: delete.prev_kvs },
        evaluate::Answer::Txn(TxnAnswer { response, pending }) => {
            txn(response, &mut pending.into_iter().peekable(), &mut Vec::new())
        }
    }
}

fn txn(
    response: pb::TxnResponse,
    pending: &mut std::iter::Peekable<std::vec::IntoIter<Pending>>,
    place: &mut Vec<u32>,
) -> WriteResponse {
    let mut responses = Vec::with_capacity(response.responses.len());
    for (number, op) in response.responses.into_iter().enumerate() {
        place.push(number as u32);
        let next = pending.next_if(|p| p.place == *place);
        responses.push(match (op.response, next) {
            (_, Some(Pending { request, operation_bound, .. })) => {
                OpResponse::ReadRange { request, operations: operation_bound }
            }
            (Some(Response::ResponseRange(range)), None) => OpResponse::Range(range),
            (Some(Response::ResponsePut(put)), None) => OpResponse::Done(WriteResponse::Put { prev: put.prev_kv }),
            (Some(Response::ResponseDeleteRange(delete)), None) => {
                OpResponse::Done(WriteResponse::Delete { deleted: delete.deleted, prevs: delete.prev_kvs })
            }
            (Some(Response::ResponseTxn(nested)), None) => OpResponse::Done(txn(nested, pending, place)),
            (None, None) => unreachable!("a front refuses operations without a request"),
        });
        place.pop();
    }
    WriteResponse::Txn { succeeded: response.succeeded, responses }
}
