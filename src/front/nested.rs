//! Transactions nested deeper than prost decodes a message: taken apart here, level by level.
//!
//! prost ends after 100 messages within one another, two of which make a level; etcd's bound is what --max-txn-ops leaves to each level.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::call::Status;
use super::validate;
use crate::base::limits::TXN_DEPTH_MAX;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::request_op::Request as Op;

/// The field of a `RequestOp` that holds a nested txn.
const NESTED_FIELD: u32 = 4;

/// Decodes a txn. Below [`TXN_DEPTH_MAX`] levels it is empty, for [`validate::txn`] to refuse.
pub fn txn_request(message: Bytes) -> Result<pb::TxnRequest, Status> {
    validate::request(message.clone()).or_else(|status| txn(message, TXN_DEPTH_MAX).ok_or(status))
}

fn txn(mut message: Bytes, depth: usize) -> Option<pb::TxnRequest> {
    let mut request = pb::TxnRequest::default();
    while depth > 0 && !message.is_empty() {
        match field(&mut message)? {
            (1, part) => request.compare.push(pb::Compare::decode(part).ok()?),
            (2, part) => request.success.push(op(part, depth)?),
            (3, part) => request.failure.push(op(part, depth)?),
            _ => return None,
        }
    }
    Some(request)
}

fn op(message: Bytes, depth: usize) -> Option<pb::RequestOp> {
    let mut rest = message.clone();
    match field(&mut rest) {
        Some((NESTED_FIELD, part)) if rest.is_empty() => {
            Some(pb::RequestOp { request: Some(Op::RequestTxn(txn(part, depth - 1)?)) })
        }
        _ => pb::RequestOp::decode(message).ok(),
    }
}

/// Takes a field that holds a message.
fn field(bytes: &mut Bytes) -> Option<(u32, Bytes)> {
    let (tag, wire_type) = decode_key(bytes).ok()?;
    let len = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    (wire_type == WireType::LengthDelimited && len <= bytes.remaining()).then(|| (tag, bytes.split_to(len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::errors;

    const OPS_MAX: usize = 128;

    fn level(branch: Vec<pb::RequestOp>) -> pb::TxnRequest {
        let compare = pb::Compare { key: Bytes::from_static(b"k"), ..Default::default() };
        pb::TxnRequest { compare: vec![compare], success: branch.clone(), failure: branch }
    }

    /// So many txns within one another.
    fn chain(levels: usize) -> pb::TxnRequest {
        let put = pb::PutRequest { key: Bytes::from_static(b"deepest"), ..Default::default() };
        let mut txn =
            pb::TxnRequest { success: vec![pb::RequestOp { request: Some(Op::RequestPut(put)) }], ..Default::default() };
        for _ in 1..levels {
            txn.success = vec![pb::RequestOp { request: Some(Op::RequestTxn(std::mem::take(&mut txn))) }];
        }
        txn
    }

    fn decoded(txn: &pb::TxnRequest) -> pb::TxnRequest {
        txn_request(Bytes::from(txn.encode_to_vec())).expect("a txn")
    }

    #[test]
    fn a_txn_of_any_depth_that_etcd_takes_is_decoded() {
        for levels in [1, 2, 49, 50, 51, 52, 100, OPS_MAX] {
            let txn = chain(levels);
            assert_eq!(decoded(&txn), txn, "{levels} levels");
            assert_eq!(validate::txn(&decoded(&txn), OPS_MAX), Ok(()));
        }
    }

    #[test]
    fn what_stands_beside_a_deep_txn_is_decoded() {
        let mut txn = level(vec![pb::RequestOp { request: Some(Op::RequestTxn(chain(80))) }, pb::RequestOp { request: None }]);
        txn.success.push(pb::RequestOp { request: Some(Op::RequestRange(pb::RangeRequest::default())) });
        assert_eq!(decoded(&txn), txn);
    }

    #[test]
    fn a_txn_nested_too_deep_has_too_many_operations() {
        for levels in [OPS_MAX + 1, 500, 5000] {
            let mut message = Vec::new();
            for _ in 0..levels {
                for tag in [0x22, 0x12] {
                    let inner = std::mem::replace(&mut message, vec![tag]);
                    prost::encoding::encode_varint(inner.len() as u64, &mut message);
                    message.extend(inner);
                }
            }
            let txn = txn_request(Bytes::from(message)).expect("a txn");
            assert_eq!(validate::txn(&txn, OPS_MAX), Err(errors::TOO_MANY_OPS), "{levels} levels");
        }
    }

    #[test]
    fn bytes_that_are_no_txn_are_refused() {
        let deep = chain(100).encode_to_vec();
        let cut = &deep[..deep.len() - 1];
        let number = [&deep[..], &[0x20, 1]].concat();
        let beyond = [&deep[..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
        for bytes in [cut, &number, &beyond, &[0x12], &[0x0b; 1000]] {
            assert_eq!(txn_request(Bytes::copy_from_slice(bytes)), Err(errors::undecodable_request()));
        }
    }
}
