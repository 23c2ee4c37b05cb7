//! The checker itself is checked: it accepts a history that is right, and refuses each that is wrong in one way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use etcring::proto::mvccpb;
use etcring::proto::mvccpb::event::EventType;

use super::history::{Act, Events, Model, Op, Ops, Outcome, Span, alive, check};

/// What a member was asked and what it shows afterwards.
struct History {
    ops: Ops,
    events: Events,
    now: i64,
}

fn op(id: u64, act: Act, revision: Option<i64>) -> Op {
    let outcome = match revision {
        Some(revision) => Outcome::Done { revision, deleted: 0, kvs: Vec::new() },
        None => Outcome::Doubt,
    };
    Op { id, act, value_bytes: 12, known: 1, outcome }
}

fn event(kind: EventType, key: &str, value: &str, revision: i64, created: i64, version: i64) -> mvccpb::Event {
    let kv = mvccpb::KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        create_revision: created,
        mod_revision: revision,
        version,
        lease: 0,
    };
    mvccpb::Event { r#type: kind as i32, kv: Some(kv), prev_kv: None }
}

fn put(op: &Op, key: &str, revision: i64) -> mvccpb::Event {
    event(EventType::Put, key, &op.value(), revision, revision, 1)
}

fn deletion(key: &str, revision: i64) -> mvccpb::Event {
    event(EventType::Delete, key, "", revision, 0, 0)
}

fn keys(names: [&str; 3]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

/// Revision 2: a put; 3: a txn over three keys; 4: a put that nobody was told of; 5: a range delete; 6: a txn that nobody was told
/// of; 7: a put. A read at 4, and a watch from 3 on.
fn right() -> History {
    let first = op(1, Act::Put { key: "a".into(), lease: 0 }, Some(2));
    let txn = op(2, Act::Txn { keys: keys(["t.1", "t.2", "t.3"]), delete: None }, Some(3));
    let silent = op(3, Act::Put { key: "t.4".into(), lease: 0 }, None);
    let mut delete = op(4, Act::Delete(Span::prefix("t.")), Some(5));
    let silent_txn = op(5, Act::Txn { keys: keys(["x.1", "x.2", "x.3"]), delete: None }, None);
    let last = op(6, Act::Put { key: "z".into(), lease: 0 }, Some(7));
    if let Outcome::Done { deleted, .. } = &mut delete.outcome {
        *deleted = 4;
    }
    let mut events = vec![put(&first, "a", 2)];
    events.extend(["t.1", "t.2", "t.3"].map(|key| put(&txn, key, 3)));
    events.push(put(&silent, "t.4", 4));
    let mut read = op(7, Act::Read(Span::prefix("t.")), Some(4));
    if let Outcome::Done { kvs, .. } = &mut read.outcome {
        kvs.extend(events[1..].iter().map(|e| alive(e.kv.as_ref().expect("a key"))));
    }
    events.extend(["t.1", "t.2", "t.3", "t.4"].map(|key| deletion(key, 5)));
    events.extend(["x.1", "x.2", "x.3"].map(|key| put(&silent_txn, key, 6)));
    events.push(put(&last, "z", 7));
    let watched = vec![(3, Span::prefix("t."), events[1..9].to_vec())];
    let all = vec![first, txn, silent, delete, silent_txn, last, read];
    History { ops: Ops { all, watched, shown: 7 }, events, now: 7 }
}

fn accepts(history: &History) -> bool {
    let checked = || check(&mut Model::new(), &history.ops, &history.events, history.now);
    catch_unwind(AssertUnwindSafe(checked)).is_ok()
}

impl History {
    /// Takes out the event of this key at this revision.
    fn drop_event(&mut self, key: &str, revision: i64) {
        let before = self.events.len();
        self.events.retain(|e| {
            let kv = e.kv.as_ref().expect("a key");
            (kv.key.as_ref(), kv.mod_revision) != (key.as_bytes(), revision)
        });
        assert_eq!(self.events.len(), before - 1);
    }

    fn kv(&mut self, place: usize) -> &mut mvccpb::KeyValue {
        self.events[place].kv.as_mut().expect("a key")
    }

    fn outcome(&mut self, id: u64) -> &mut Outcome {
        &mut self.ops.all.iter_mut().find(|op| op.id == id).expect("it is there").outcome
    }
}

type Wrong = (&'static str, fn(&mut History));

const WRONG: [Wrong; 16] = [
    ("the last acknowledged put is lost", |h| {
        h.drop_event("z", 7);
        (h.now, h.ops.shown) = (6, 6);
    }),
    ("the member is behind what it had shown", |h| h.ops.shown = 8),
    ("a revision is missing", |h| h.drop_event("t.4", 4)),
    ("a part of an acknowledged txn is missing", |h| h.drop_event("t.2", 3)),
    ("a part of a txn in doubt is missing", |h| h.drop_event("x.3", 6)),
    ("a part of a range delete is missing", |h| h.drop_event("t.4", 5)),
    ("a txn is split over two revisions", |h| {
        h.kv(11).mod_revision = 7;
        h.kv(12).mod_revision = 8;
        h.now = 8;
    }),
    ("revisions are out of order", |h| h.events.swap(0, 1)),
    ("the changes of a txn are out of order", |h| h.events.swap(1, 2)),
    ("another value was written", |h| h.kv(0).value = Bytes::from_static(b"op2.........")),
    ("a value that nobody wrote", |h| h.kv(4).value = Bytes::from_static(b"op77........")),
    ("a version that does not count", |h| h.kv(0).version = 2),
    ("a refused put happened", |h| *h.outcome(3) = Outcome::Refused),
    ("two answers with one revision", |h| *h.outcome(6) = Outcome::Done { revision: 2, deleted: 0, kvs: Vec::new() }),
    ("a read that misses a key", |h| {
        if let Outcome::Done { kvs, .. } = h.outcome(7) {
            kvs.pop();
        }
    }),
    ("a watch that missed an event", |h| drop(h.ops.watched[0].2.remove(2))),
];

#[test]
fn the_checker_refuses_each_wrong_history() {
    assert!(accepts(&right()), "the history itself is right");
    for (what, spoil) in WRONG {
        let mut history = right();
        spoil(&mut history);
        assert!(!accepts(&history), "{what}, and the checker accepts it");
    }
}
