//! Single rules of evaluation, one by one. Whole histories are in `state/model`.

use bytes::Bytes;

use crate::base::{LeaseId, Revision};
use crate::mvcc::{Budget, Mvcc, Overlay, View};
use crate::pages::{Options, Store};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use crate::state::apply::enter;
use crate::state::kv::Effect;

use super::{Answer, Basis, Evaluated, Memo, Refusal, Stop, TxnAnswer, put, txn};

/// A shard that has only an overlay.
struct Shard {
    mvcc: Mvcc,
    overlay: Overlay,
    current: Revision,
}

impl Shard {
    /// With `a` written at revision 2.
    fn with_a() -> Shard {
        let mvcc = Mvcc::new(Store::create(Options::with_cache(1 << 20)), Revision::ZERO);
        let mut shard = Shard { mvcc, overlay: Overlay::new(), current: Revision::FIRST };
        shard.take(&TxnRequest { success: vec![put_op("a", "1")], ..TxnRequest::default() });
        shard
    }

    fn basis<T>(&self, call: impl FnOnce(&Basis<'_>) -> T) -> T {
        call(&Basis {
            view: View { mvcc: &self.mvcc, overlay: &self.overlay },
            lease_alive: &|lease| lease == LeaseId(7),
            is_local: &|_| true,
            current: self.current,
            compacted: 1,
            event_prevs: false,
            budget: Budget::UNLIMITED,
        })
    }

    fn evaluate(&self, request: &TxnRequest) -> Result<Evaluated, Refusal> {
        self.basis(|basis| txn(basis, request, &mut Memo::default())).map_err(|stop| match stop {
            Stop::Refused { refusal, .. } => refusal,
            other => panic!("{other:?}"),
        })
    }

    /// Evaluates a txn, and takes its revision if it has one.
    fn take(&mut self, request: &TxnRequest) -> TxnResponse {
        let Evaluated { effects, touched, changes, mut answer } = self.evaluate(request).expect("it is not refused");
        let before = self.current;
        if changes > 0 {
            self.current = before.next();
            enter(&mut self.overlay, self.current, &effects, &touched);
        }
        answer.fill(before, self.current);
        match answer {
            Answer::Txn(TxnAnswer { response, pending }) if pending.is_empty() => response,
            other => panic!("{other:?}"),
        }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }))
}

fn get_op(key: &str, revision: i64) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: bytes(key), revision, ..RangeRequest::default() }))
}

fn delete_op(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }))
}

fn success(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

fn version_is(key: &str, version: i64) -> Compare {
    let target_union = Some(TargetUnion::Version(version));
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: bytes(key),
        target_union,
        ..Compare::default()
    }
}

/// The revision in the header of each operation's response.
fn header_revisions(response: &TxnResponse) -> Vec<i64> {
    let header = |response: &Option<Response>| match response {
        Some(Response::ResponseRange(range)) => range.header,
        Some(Response::ResponsePut(put)) => put.header,
        Some(Response::ResponseDeleteRange(delete)) => delete.header,
        other => panic!("{other:?}"),
    };
    response.responses.iter().map(|op| header(&op.response).expect("it has a header").revision).collect()
}

#[test]
fn nested_compares_see_the_state_before_the_txn() {
    let mut shard = Shard::with_a();
    let nested = TxnRequest { compare: vec![version_is("b", 0)], success: vec![], failure: vec![put_op("c", "1")] };
    let response = shard.take(&success(vec![put_op("b", "1"), op(Request::RequestTxn(nested))]));
    match &response.responses[1].response {
        Some(Response::ResponseTxn(nested)) => {
            assert!(nested.succeeded && nested.header.as_ref().is_some_and(|header| header.revision == 0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_compare_with_a_missing_key_never_holds() {
    let mut shard = Shard::with_a();
    for result in 0..4 {
        for (key, range_end) in [("b", ""), ("b", "d")] {
            let target = CompareTarget::Value as i32;
            let compare = Compare { result, target, key: bytes(key), range_end: bytes(range_end), target_union: None };
            let response = shard.take(&TxnRequest { compare: vec![compare], ..TxnRequest::default() });
            assert!(!response.succeeded);
        }
    }
    let unset = Compare { key: bytes("b"), result: CompareResult::Equal as i32, ..Compare::default() };
    let unknown_result = Compare { key: bytes("a"), result: 9, ..Compare::default() };
    assert!(shard.take(&TxnRequest { compare: vec![unset, unknown_result], ..TxnRequest::default() }).succeeded);
}

#[test]
fn refusals_are_those_of_etcd() {
    let shard = Shard::with_a();
    let keep = |key: &str| op(Request::RequestPut(PutRequest { key: bytes(key), ignore_value: true, ..PutRequest::default() }));
    let lease = |lease| op(Request::RequestPut(PutRequest { key: bytes("a"), lease, ..PutRequest::default() }));
    let cases = [
        (vec![keep("a")], None),
        (vec![keep("b")], Some(Refusal::KeyNotFound)),
        (vec![put_op("b", "1"), keep("b")], Some(Refusal::KeyNotFound)),
        (vec![delete_op("a", "\0"), keep("a")], Some(Refusal::KeyNotFound)),
        (vec![delete_op("a", "\0"), keep("a"), lease(8)], Some(Refusal::LeaseNotFound)),
        (vec![lease(7)], None),
        (vec![lease(8)], Some(Refusal::LeaseNotFound)),
        (vec![get_op("a", 2)], None),
        (vec![get_op("a", 1)], None),
        (vec![get_op("a", 3)], Some(Refusal::FutureRevision)),
        (vec![put_op("b", "1"), get_op("a", 3)], Some(Refusal::FutureRevision)),
        (vec![get_op("a", -1)], Some(Refusal::Compacted)),
    ];
    for (ops, refusal) in cases {
        let request = success(ops);
        assert_eq!(shard.evaluate(&request).err(), refusal, "{request:?}");
    }
    // A single put looks at the lease first.
    let request = PutRequest { key: bytes("b"), lease: 8, ignore_value: true, ..PutRequest::default() };
    let stop = shard.basis(|basis| put(basis, &request)).err();
    assert_eq!(stop, Some(Stop::Refused { refusal: Refusal::LeaseNotFound, operation: 0 }));
}

#[test]
fn a_txn_reads_what_it_has_written() {
    let mut shard = Shard::with_a();
    let ops = vec![get_op("b", 0), put_op("b", "1"), get_op("b", 0), delete_op("x", ""), put_op("a", "2"), get_op("a", 2)];
    let response = shard.take(&success(ops));
    assert_eq!(header_revisions(&response), [2, 3, 3, 3, 3, 3]);
    let kvs = |place: usize| match &response.responses[place].response {
        Some(Response::ResponseRange(range)) => range.kvs.clone(),
        other => panic!("{other:?}"),
    };
    assert!(kvs(0).is_empty());
    assert_eq!((kvs(2)[0].create_revision, kvs(2)[0].mod_revision, kvs(2)[0].version), (3, 3, 1));
    assert_eq!((&kvs(5)[0].value[..], kvs(5)[0].mod_revision), (&b"1"[..], 2));
}

#[test]
fn ranges_are_left_for_later_with_the_number_of_changes_that_they_see() {
    let shard = Shard::with_a();
    let range = |end: &str, min_mod_revision| {
        op(Request::RequestRange(RangeRequest {
            key: bytes("a"),
            range_end: bytes(end),
            min_mod_revision,
            ..RangeRequest::default()
        }))
    };
    let ops = vec![range("z", 0), put_op("b", "1"), delete_op("a", "z"), range("z", 0), range("", 1)];
    let evaluated = shard.evaluate(&success(ops)).expect("it is not refused");
    let Answer::Txn(answer) = evaluated.answer else { panic!("a txn is answered with one") };
    let pending: Vec<(Vec<u32>, u32)> = answer.pending.into_iter().map(|of| (of.place, of.operation_bound)).collect();
    assert_eq!(pending, [(vec![0], 0), (vec![3], 3), (vec![4], 3)]);
    assert_eq!(evaluated.changes, 3);
    assert_eq!(evaluated.touched.iter().map(|of| (of.operation, of.effect)).collect::<Vec<_>>(), [(0, 0), (1, 1), (1, 1)]);
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let mut shard = Shard::with_a();
    let response = shard.take(&success(vec![delete_op("b", "z"), delete_op("b", ""), get_op("a", 0)]));
    assert_eq!((header_revisions(&response), shard.current), (vec![2, 2, 2], Revision(2)));
}

#[test]
fn a_put_names_its_creation_only_where_it_is_older() {
    let shard = Shard::with_a();
    let ops = vec![put_op("a", "2"), delete_op("a", ""), put_op("a", "3"), put_op("a", "4")];
    let evaluated = shard.evaluate(&success(ops)).expect("it is not refused");
    let puts: Vec<(Option<Revision>, u64)> = evaluated
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Put { create_revision, version, .. } => Some((*create_revision, *version)),
            _ => None,
        })
        .collect();
    assert_eq!(puts, [(Some(Revision(2)), 2), (None, 1), (None, 2)]);
}

#[test]
fn a_memo_forgets_when_something_else_was_evaluated() {
    let mut shard = Shard::with_a();
    let request = DeleteRangeRequest { key: bytes("a"), range_end: bytes("z"), prev_kv: false };
    let mut memo = Memo::default();
    let deletes = |shard: &Shard, memo: &mut Memo| {
        shard.basis(|basis| super::delete_range(basis, &request, memo)).expect("everything is in memory").changes
    };
    assert_eq!(deletes(&shard, &mut memo), 1);
    shard.take(&success(vec![put_op("b", "1")]));
    assert_eq!(deletes(&shard, &mut memo), 2);
}
