//! The compares of a txn (surface 3.6), all against the state before it, those of nested txns too.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::mvcc::{At, KeyState, Span};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::{Compare, TxnRequest};

use super::basis::{Basis, Memo, Progress, Stop};
use super::path::compares;

/// What a compare comes to on the keys of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds for every key of it that lives here; there is one.
    Holds,
    /// It does not, for one of them.
    Fails,
    /// No key of it lives here.
    Empty,
}

/// The outcome of a compare on this shard's keys.
pub(super) fn compare(basis: &Basis<'_>, compare: &Compare, memo: &mut Memo) -> Result<Outcome, Stop> {
    let by_value = compare.target == CompareTarget::Value as i32;
    let span = Span::of_request(&compare.key, &compare.range_end);
    if let Span::Key(key) = &span {
        let state = match by_value {
            true => basis.view.newest(key)?,
            false => basis.view.newest_fields(key)?,
        };
        return Ok(match state {
            None => Outcome::Empty,
            Some(state) if holds(compare, Some(&state)) => Outcome::Holds,
            Some(_) => Outcome::Fails,
        });
    }
    let walk = memo.walk();
    if walk.progress == Progress::Whole {
        return Ok(walk.outcome);
    }
    let mut outcome = walk.outcome;
    let resume = basis.view.walk(At::LATEST, &span, walk.progress.resume(), basis.budget.visits, by_value, |_, state| {
        if holds(compare, Some(state)) {
            outcome = Outcome::Holds;
            return ControlFlow::Continue(());
        }
        outcome = Outcome::Fails;
        ControlFlow::Break(())
    })?;
    walk.outcome = outcome;
    walk.progress = if outcome == Outcome::Fails { Progress::Whole } else { Progress::after(resume) };
    if walk.progress == Progress::Whole { Ok(outcome) } else { Err(Stop::Slice) }
}

/// The outcomes, on this shard's keys, of all compares of a txn, nested ones included, in the order of [`compares`]; None for a key of
/// another shard.
pub fn compare_all(basis: &Basis<'_>, txn: &TxnRequest, memo: &mut Memo) -> Result<Vec<Option<Outcome>>, Stop> {
    memo.begin(basis);
    let mut outcomes = Vec::new();
    for of in compares(txn) {
        let local = !of.range_end.is_empty() || (basis.is_local)(&of.key);
        outcomes.push(if local { Some(compare(basis, of, memo)?) } else { None });
    }
    Ok(outcomes)
}

/// Whether a compare holds, from its outcomes on every shard that has keys of it.
pub fn combine(compare: &Compare, outcomes: impl IntoIterator<Item = Outcome>) -> bool {
    let mut all = Outcome::Empty;
    for outcome in outcomes {
        match outcome {
            Outcome::Fails => return false,
            Outcome::Holds => all = Outcome::Holds,
            Outcome::Empty => {}
        }
    }
    all == Outcome::Holds || holds(compare, None)
}

/// Whether a compare holds for a key; None is a key that does not live. A value compare with such a key never does.
fn holds(compare: &Compare, state: Option<&KeyState<'_>>) -> bool {
    let number = |of: fn(&KeyState<'_>) -> i64| state.map_or(0, of);
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let Some(state) = state else { return false };
            let wanted: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => b"",
            };
            state.value.as_slice().cmp(wanted)
        }
        Ok(CompareTarget::Create) => number(|state| state.create_revision.as_i64()).cmp(&match compare.target_union {
            Some(TargetUnion::CreateRevision(wanted)) => wanted,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => number(|state| state.mod_revision.as_i64()).cmp(&match compare.target_union {
            Some(TargetUnion::ModRevision(wanted)) => wanted,
            _ => 0,
        }),
        Ok(CompareTarget::Version) => number(|state| state.version as i64).cmp(&match compare.target_union {
            Some(TargetUnion::Version(wanted)) => wanted,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => number(|state| state.lease.get()).cmp(&match compare.target_union {
            Some(TargetUnion::Lease(wanted)) => wanted,
            _ => 0,
        }),
        // As etcd: a target that it does not know compares as equal.
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        // As etcd: a result that it does not know holds.
        Err(_) => true,
    }
}
