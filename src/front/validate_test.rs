use super::*;

fn bytes(s: &str) -> Bytes {
    Bytes::copy_from_slice(s.as_bytes())
}

fn put_op(key: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(Op::RequestPut(pb::PutRequest { key: bytes(key), ..Default::default() })) }
}

fn delete_op(key: &str, end: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false };
    pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    pb::RequestOp { request: Some(Op::RequestTxn(pb::TxnRequest { compare: Vec::new(), success, failure })) }
}

fn check(success: Vec<pb::RequestOp>) -> Result<(), Status> {
    txn(&pb::TxnRequest { success, ..Default::default() }, 128)
}

/// The cases of etcd's `TestV3TxnDuplicateKeys`.
#[test]
fn duplicate_keys_are_found_where_etcd_finds_them() {
    let duplicate = Err(errors::DUPLICATE_KEY);
    let put = || put_op("abc");
    let delete_key = || delete_op("abc", "");
    let delete_range = || delete_op("a", "b");
    assert_eq!(check(vec![put(), put()]), duplicate);
    assert_eq!(check(vec![put(), delete_key()]), duplicate);
    assert_eq!(check(vec![delete_key(), put()]), duplicate);
    assert_eq!(check(vec![put(), delete_range()]), duplicate);
    assert_eq!(check(vec![delete_key(), delete_key()]), Ok(()));
    assert_eq!(check(vec![delete_key(), delete_range()]), Ok(()));
    assert_eq!(check(vec![delete_range(), delete_range()]), Ok(()));
    assert_eq!(check(vec![put(), delete_op("abb", "")]), Ok(()));
    let nested = |success, failure| txn_op(success, failure);
    assert_eq!(check(vec![put(), nested(vec![put()], vec![])]), duplicate);
    assert_eq!(check(vec![nested(vec![put()], vec![]), nested(vec![put()], vec![])]), duplicate);
    assert_eq!(check(vec![nested(vec![put()], vec![put()])]), Ok(()), "one of them runs");
    assert_eq!(check(vec![nested(vec![put()], vec![put()]), put()]), duplicate);
    assert_eq!(check(vec![nested(vec![delete_range()], vec![]), put()]), duplicate);
    assert_eq!(check(vec![delete_range(), nested(vec![put()], vec![])]), duplicate);
    assert_eq!(check(vec![nested(vec![delete_range()], vec![]), nested(vec![put()], vec![])]), duplicate);
}

#[test]
fn duplicate_keys_are_not_found_where_etcd_does_not_find_them() {
    let put = || put_op("abc");
    assert_eq!(check(vec![txn_op(vec![put()], vec![]), txn_op(vec![delete_op("a", "b")], vec![])]), Ok(()));
    assert_eq!(check(vec![delete_op("a", "\0"), put()]), Ok(()), "an open range is taken for an empty one");
    assert_eq!(check(vec![delete_op("z", "b"), put()]), Ok(()));
}

#[test]
fn both_branches_are_checked() {
    let request = pb::TxnRequest { failure: vec![put_op("")], ..Default::default() };
    assert_eq!(txn(&request, 128), Err(errors::EMPTY_KEY));
    let request = pb::TxnRequest { failure: vec![put_op("a"), put_op("a")], ..Default::default() };
    assert_eq!(txn(&request, 128), Err(errors::DUPLICATE_KEY));
    let nothing = pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
    assert_eq!(txn(&nothing, 128), Err(errors::KEY_NOT_FOUND));
    let compare = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
    assert_eq!(txn(&compare, 128), Err(errors::EMPTY_KEY));
}

#[test]
fn nested_txns_get_what_is_left_of_the_operations() {
    let puts = |n: usize| (0..n).map(|i| put_op(&format!("k{i}"))).collect::<Vec<_>>();
    assert_eq!(check(puts(128)), Ok(()));
    assert_eq!(check(puts(129)), Err(errors::TOO_MANY_OPS));
    let inner = |n: usize| txn_op((0..n).map(|i| put_op(&format!("n{i}"))).collect(), vec![]);
    let mut ops = puts(99);
    ops.push(inner(28));
    assert_eq!(check(ops), Ok(()));
    let mut ops = puts(99);
    ops.push(inner(29));
    assert_eq!(check(ops), Err(errors::TOO_MANY_OPS));
}

#[test]
fn txns_are_not_nested_without_end() {
    let mut op = put_op("k");
    for _ in 0..TXN_DEPTH_MAX + 1 {
        op = txn_op(vec![op], vec![]);
    }
    assert_eq!(txn(&pb::TxnRequest { success: vec![op], ..Default::default() }, 100_000), Err(errors::TOO_MANY_OPS));
}

#[test]
fn requests_have_their_own_errors() {
    let request = |key: &str| pb::RangeRequest { key: bytes(key), ..Default::default() };
    assert_eq!(range(&request("")), Err(errors::EMPTY_KEY));
    assert_eq!(range(&pb::RangeRequest { sort_order: 3, ..request("k") }), Err(errors::INVALID_SORT_OPTION));
    assert_eq!(range(&pb::RangeRequest { sort_target: -1, ..request("k") }), Err(errors::INVALID_SORT_OPTION));
    assert_eq!(range_stream(&pb::RangeRequest { sort_order: 2, ..request("k") }), Err(errors::STREAM_NO_SORT));
    assert_eq!(range_stream(&pb::RangeRequest { sort_order: 1, sort_target: 3, ..request("k") }), Err(errors::STREAM_NO_SORT));
    assert_eq!(range_stream(&pb::RangeRequest { min_mod_revision: 3, ..request("k") }), Err(errors::STREAM_NO_FILTERS));
    assert_eq!(range_stream(&pb::RangeRequest { sort_order: 1, ..request("k") }), Ok(()));
    let base = pb::PutRequest { key: bytes("k"), value: bytes("v"), lease: 1, ..Default::default() };
    assert_eq!(put(&pb::PutRequest { ignore_value: true, ..base.clone() }), Err(errors::VALUE_PROVIDED));
    assert_eq!(put(&pb::PutRequest { ignore_lease: true, ..base.clone() }), Err(errors::LEASE_PROVIDED));
    assert_eq!(put(&base), Ok(()));
    assert_eq!(size(1_572_864 - 17, 1_572_864), Ok(()));
    assert_eq!(size(1_572_864 - 16, 1_572_864), Err(errors::REQUEST_TOO_LARGE));
}

#[test]
fn the_quota_counts_a_txn_by_its_dearer_branch() {
    let request = pb::TxnRequest {
        success: vec![put_op("abc"), delete_op("a", "b")],
        failure: vec![put_op("abcd"), txn_op(vec![put_op("x")], vec![])],
        ..Default::default()
    };
    assert_eq!(txn_cost(&request), 256 + 4 + 256 + 1);
}

#[test]
fn the_texts_are_etcds() {
    for status in errors::ALL {
        assert!(status.message.starts_with("etcdserver: ") && !status.is_ok());
    }
}
