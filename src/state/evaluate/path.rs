//! Which branches a txn takes, and the operations along them.

use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::basis::{Basis, Memo, Stop};
use super::compare::{combine, compare};

/// The branches that a txn takes: for it and for each nested txn on the way, in the order of their operations, whether it succeeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path(pub Vec<bool>);

/// An operation along a path; nested txns are replaced by their own operations.
#[derive(Clone, Copy, Debug)]
pub(super) enum FlatOp<'t> {
    Range(&'t RangeRequest),
    Put(&'t PutRequest),
    Delete(&'t DeleteRangeRequest),
}

/// All compares of a txn: its own, those of the txns nested in its success branch, then in its failure branch.
pub fn compares(txn: &TxnRequest) -> Vec<&Compare> {
    fn add<'t>(txn: &'t TxnRequest, out: &mut Vec<&'t Compare>) {
        out.extend(&txn.compare);
        for nested in nested(&txn.success).chain(nested(&txn.failure)) {
            add(nested, out);
        }
    }
    let mut out = Vec::new();
    add(txn, &mut out);
    out
}

/// The path of a txn, from whether each of its [`compares`] holds.
pub fn decide(txn: &TxnRequest, holds: &[bool]) -> Path {
    fn count(txn: &TxnRequest) -> usize {
        txn.compare.len() + nested(&txn.success).chain(nested(&txn.failure)).map(count).sum::<usize>()
    }
    /// `taken`: whether the path comes here at all.
    fn add(txn: &TxnRequest, mut holds: &[bool], path: &mut Vec<bool>) {
        let (own, rest) = holds.split_at(txn.compare.len());
        let succeeds = own.iter().all(|holds| *holds);
        path.push(succeeds);
        holds = rest;
        for (branch, taken) in [(&txn.success, succeeds), (&txn.failure, !succeeds)] {
            for nested in nested(branch) {
                let (of, rest) = holds.split_at(count(nested));
                if taken {
                    add(nested, of, path);
                }
                holds = rest;
            }
        }
    }
    assert_eq!(holds.len(), count(txn), "one result per compare");
    let mut path = Vec::with_capacity(1);
    add(txn, holds, &mut path);
    Path(path)
}

/// The path of a txn whose compares are all of this shard.
pub(super) fn decide_here(basis: &Basis<'_>, txn: &TxnRequest, memo: &mut Memo) -> Result<Path, Stop> {
    fn add(basis: &Basis<'_>, txn: &TxnRequest, memo: &mut Memo, path: &mut Vec<bool>) -> Result<(), Stop> {
        let mut succeeds = true;
        for of in &txn.compare {
            if !combine(of, [compare(basis, of, memo)?]) {
                succeeds = false;
                break;
            }
        }
        path.push(succeeds);
        for nested in nested(branch(txn, succeeds)) {
            add(basis, nested, memo, path)?;
        }
        Ok(())
    }
    let mut path = Vec::with_capacity(1);
    add(basis, txn, memo, &mut path)?;
    Ok(Path(path))
}

/// The operations of a txn along its path.
pub(super) fn flatten<'t>(txn: &'t TxnRequest, path: &Path) -> Vec<FlatOp<'t>> {
    fn add<'t>(txn: &'t TxnRequest, path: &mut impl Iterator<Item = bool>, out: &mut Vec<FlatOp<'t>>) {
        let succeeds = path.next().expect("a path has a branch for every txn on it");
        for op in branch(txn, succeeds) {
            match &op.request {
                Some(Request::RequestRange(range)) => out.push(FlatOp::Range(range)),
                Some(Request::RequestPut(put)) => out.push(FlatOp::Put(put)),
                Some(Request::RequestDeleteRange(delete)) => out.push(FlatOp::Delete(delete)),
                Some(Request::RequestTxn(nested)) => add(nested, path, out),
                None => {}
            }
        }
    }
    let mut out = Vec::new();
    add(txn, &mut path.0.iter().copied(), &mut out);
    out
}

/// The branch that is taken.
pub(super) fn branch(txn: &TxnRequest, succeeds: bool) -> &[RequestOp] {
    if succeeds { &txn.success } else { &txn.failure }
}

fn nested(ops: &[RequestOp]) -> impl Iterator<Item = &TxnRequest> {
    ops.iter().filter_map(|op| match &op.request {
        Some(Request::RequestTxn(nested)) => Some(nested),
        _ => None,
    })
}

/// The operation numbers along a path: for each operation how many changes come before it, and at the end how many there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operations(Vec<u32>);

impl Operations {
    /// From the number of changes that each operation makes, over all shards.
    pub fn of_changes(changes: impl IntoIterator<Item = u32>) -> Operations {
        let mut numbers = vec![0];
        let mut total = 0u32;
        for changes in changes {
            total = total.checked_add(changes).expect("a revision has fewer than 2^32 changes");
            numbers.push(total);
        }
        Operations(numbers)
    }

    /// The number of changes before operation `index`.
    pub fn before(&self, index: usize) -> u32 {
        self.0[index]
    }

    /// The number of changes up to operation `index` and with it.
    pub fn through(&self, index: usize) -> u32 {
        self.0[index + 1]
    }

    /// How many operations there are.
    #[allow(clippy::len_without_is_empty, reason = "a path without operations is nothing special")]
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// The number of changes altogether. At 0 no revision is taken.
    pub fn total(&self) -> u32 {
        *self.0.last().expect("there is always the number before the first")
    }
}
