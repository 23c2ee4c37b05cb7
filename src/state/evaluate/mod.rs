//! Evaluation: what a write request changes and answers, decided at the leader against the newest state (surface 3.4 to 3.6).
//!
//! A request inside one shard is one call: [`put`], [`delete_range`], [`txn`]. They change nothing: the caller takes a revision if
//! [`Evaluated::changes`] is above 0, logs the effects, enters them into the overlay, and answers when the revision is stable.
//!
//! A txn over several shards is evaluated by the coordinator with the same parts: each shard gives the outcomes of its
//! [`compare_all`]; [`decide`] makes a path of them; each shard does its [`part`] of it and says how many changes each operation makes;
//! [`Operations`] numbers them; [`Part::finish`] gives each shard's effects, and [`Answers`] puts the parts' answers together.
//!
//! Evaluation comes before the revision is taken, and another shard may take the one that would be next. So nothing that is decided
//! names its own revision: effects say "this one", and answers hold [`THIS_REVISION`] where they must (keys that a txn reads back
//! after it wrote them, and the headers of its operations) until [`Answer::fill`] puts it in.
//!
//! Everything may end in a [`Stop`]: a fault, or the end of a slice. Then nothing has changed, and the call is made again with the
//! same [`Memo`], which spares it the walks that are done.

mod answer;
mod basis;
mod compare;
mod draft;
mod part;
mod path;
mod single;

pub use answer::{Answer, Answers, BEFORE_REVISION, OpAnswer, Pending, THIS_REVISION, TxnAnswer};
pub use basis::{Basis, Memo, Refusal, Stop, attached};
pub use compare::{Outcome, combine, compare_all};
pub use part::{Finished, Part, part};
pub use path::{Operations, Path, compares, decide};
pub use single::{Evaluated, delete_range, put, txn};

#[cfg(test)]
mod evaluate_test;
