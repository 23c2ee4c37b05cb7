//! Requests inside one shard, evaluated in one call.

use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};
use crate::state::apply::Touched;
use crate::state::kv::Effect;

use super::answer::{Answer, Answers, OpAnswer};
use super::basis::{Basis, Memo, Stop};
use super::draft::Draft;
use super::part::{check_lease, finish_op, part_of};
use super::path::{Operations, decide_here};

/// What a request comes to.
#[derive(Debug)]
pub struct Evaluated {
    /// What is to be logged, in order. Empty: nothing changes, and no revision is taken.
    pub effects: Vec<Effect>,
    /// The keys that the effects change, in order.
    pub touched: Vec<Touched>,
    /// How many changes there are.
    pub changes: u32,
    /// The answer, before [`Answer::fill`].
    pub answer: Answer,
}

/// Evaluates a put.
pub fn put(basis: &Basis<'_>, request: &PutRequest) -> Result<Evaluated, Stop> {
    check_lease(basis, request)?;
    let kind = Draft::new(basis).evaluate_put(request)?;
    let (mut effects, mut touched) = (Vec::with_capacity(1), Vec::with_capacity(1));
    match finish_op(kind, 0, &mut effects, &mut touched) {
        OpAnswer::Put(response) => Ok(Evaluated { effects, touched, changes: 1, answer: Answer::Put(response) }),
        other => unreachable!("a put answered {other:?}"),
    }
}

/// Evaluates a range delete.
pub fn delete_range(basis: &Basis<'_>, request: &DeleteRangeRequest, memo: &mut Memo) -> Result<Evaluated, Stop> {
    memo.begin(basis);
    let kind = Draft::new(basis).evaluate_delete(request, memo)?;
    let changes = kind.changes();
    let (mut effects, mut touched) = (Vec::with_capacity(1), Vec::with_capacity(changes as usize));
    match finish_op(kind, 0, &mut effects, &mut touched) {
        OpAnswer::Delete(response) => Ok(Evaluated { effects, touched, changes, answer: Answer::Delete(response) }),
        other => unreachable!("a delete answered {other:?}"),
    }
}

/// Evaluates a txn whose compares and writes are all of this shard.
pub fn txn(basis: &Basis<'_>, request: &TxnRequest, memo: &mut Memo) -> Result<Evaluated, Stop> {
    memo.begin(basis);
    let path = decide_here(basis, request, memo)?;
    let part = part_of(basis, request, &path, memo)?;
    let mut changes = vec![0; part.operations];
    part.changes().for_each(|(index, of)| changes[index] = of);
    let operations = Operations::of_changes(changes);
    let mut answers = Answers::new(part.operations);
    let finished = part.finish(&operations);
    finished.answers.into_iter().for_each(|(index, answer)| answers.add(index, answer));
    Ok(Evaluated {
        effects: finished.effects,
        touched: finished.touched,
        changes: operations.total(),
        answer: Answer::Txn(answers.assemble(request, &path, &operations)),
    })
}
