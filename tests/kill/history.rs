//! What the keys must be, worked out from what clients asked, what they were answered, and what watches show.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use etcring::proto::mvccpb::{self, event::EventType};

/// A range of keys: one, or up to an end that is not in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    pub from: String,
    pub to: Option<String>,
}

impl Span {
    pub fn key(key: &str) -> Span {
        Span { from: key.to_owned(), to: None }
    }

    /// All keys that begin with this; its last character is not the last of all.
    pub fn prefix(prefix: &str) -> Span {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix has a character") += 1;
        Span { from: prefix.to_owned(), to: Some(String::from_utf8(end).expect("ASCII")) }
    }

    pub fn contains(&self, key: &str) -> bool {
        match &self.to {
            Some(to) => self.from.as_str() <= key && key < to.as_str(),
            None => self.from == key,
        }
    }
}

/// A put of this value (`None`: a deletion).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub key: String,
    pub put: Option<(String, i64)>,
}

/// A key that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alive {
    pub value: String,
    pub lease: i64,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Act {
    Put {
        key: String,
        lease: i64,
    },
    /// Puts of one value, and perhaps a deletion behind them.
    Txn {
        keys: Vec<String>,
        delete: Option<Span>,
    },
    Delete(Span),
    Grant {
        lease: i64,
        short: bool,
    },
    Revoke {
        lease: i64,
    },
    Read(Span),
}

/// What it was answered.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing: it happened or did not.
    Doubt,
    /// An error: it did not happen.
    Refused,
    /// It happened. `deleted` is what the answer says, `kvs` what was read.
    Done { revision: i64, deleted: i64, kvs: Vec<(String, Alive)> },
}

/// One request.
#[derive(Clone, Debug)]
pub struct Op {
    pub id: u64,
    pub act: Act,
    /// The length of the value that it puts.
    pub value_bytes: usize,
    /// A revision that some client had been shown before this was asked.
    pub known: i64,
    pub outcome: Outcome,
}

impl Op {
    /// The value that it puts, which no other one puts.
    pub fn value(&self) -> String {
        let mark = format!("op{:x}.", self.id);
        let filler = mark.bytes().cycle().skip(mark.len() * 2).step_by(3).map(char::from);
        mark.chars().chain(filler).take(self.value_bytes.max(mark.len())).collect()
    }
}

/// Whose put this is.
fn writer(value: &str) -> Option<u64> {
    u64::from_str_radix(value.strip_prefix("op")?.split_once('.')?.0, 16).ok()
}

/// The keys at a revision.
#[derive(Clone, Default, Debug)]
pub struct Model {
    pub revision: i64,
    pub alive: BTreeMap<String, Alive>,
}

impl Model {
    /// A fresh store.
    pub fn new() -> Model {
        Model { revision: 1, alive: BTreeMap::new() }
    }

    pub fn range(&self, span: &Span) -> Vec<(String, Alive)> {
        let end = match &span.to {
            Some(to) => Bound::Excluded(to.as_str()),
            None => Bound::Included(span.from.as_str()),
        };
        let found = self.alive.range::<str, _>((Bound::Included(span.from.as_str()), end));
        found.map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    pub fn attached(&self, lease: i64) -> Vec<String> {
        self.alive.iter().filter(|(_, a)| a.lease == lease).map(|(k, _)| k.clone()).collect()
    }

    /// What a request changes here, in order.
    fn expected(&self, op: &Op) -> Vec<Change> {
        let put = |key: &String, lease| Change { key: key.clone(), put: Some((op.value(), lease)) };
        let deletions = |keys: Vec<String>| keys.into_iter().map(|key| Change { key, put: None }).collect::<Vec<_>>();
        let delete = |span| deletions(self.range(span).into_iter().map(|(k, _)| k).collect());
        match &op.act {
            Act::Put { key, lease } => vec![put(key, *lease)],
            Act::Txn { keys, delete: span } => {
                let puts = keys.iter().map(|key| put(key, 0));
                puts.chain(span.iter().flat_map(delete)).collect()
            }
            Act::Delete(span) => delete(span),
            Act::Revoke { lease } => deletions(self.attached(*lease)),
            Act::Grant { .. } | Act::Read(_) => Vec::new(),
        }
    }

    fn apply(&mut self, revision: i64, changes: &[Change]) {
        for change in changes {
            let Some((value, lease)) = &change.put else {
                self.alive.remove(&change.key);
                continue;
            };
            let (created, version) = self.alive.get(&change.key).map_or((revision, 1), |a| (a.created, a.version + 1));
            let alive = Alive { value: value.clone(), lease: *lease, created, modified: revision, version };
            self.alive.insert(change.key.clone(), alive);
        }
        self.revision = revision;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the test's keys and values are ASCII")
}

/// A key as an answer shows it.
pub fn alive(kv: &mvccpb::KeyValue) -> (String, Alive) {
    let (created, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    (text(&kv.key), Alive { value: text(&kv.value), lease: kv.lease, created, modified, version })
}

/// Events in the order in which a watch showed them.
pub type Events = Vec<mvccpb::Event>;

fn revision_of(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

fn change_of(event: &mvccpb::Event) -> Change {
    let (key, shown) = alive(event.kv.as_ref().expect("an event has a key"));
    let put = (event.r#type() == EventType::Put).then_some((shown.value, shown.lease));
    Change { key, put }
}

/// The requests of one life of the member.
#[derive(Default)]
pub struct Ops {
    pub all: Vec<Op>,
    /// What live watches saw: from which revision on, which keys, which events.
    pub watched: Vec<(i64, Span, Events)>,
    /// The highest revision that anything showed.
    pub shown: i64,
}

/// What a check found to count.
#[derive(Default, Debug, Clone, Copy)]
pub struct Tally {
    pub done: u64,
    pub doubtful: u64,
    /// Of the doubtful ones with an effect of their own: how many have it.
    pub doubtful_happened: u64,
    pub refused: u64,
    pub revisions: u64,
    pub watched: u64,
    pub reads: u64,
}

/// Follows `events`, everything behind the model's revision, and holds them against the requests.
/// The model is then at `now`.
pub fn check(model: &mut Model, ops: &Ops, events: &Events, now: i64) -> Tally {
    let first = model.revision + 1;
    assert!(now >= ops.shown, "the member is at revision {now}, but had shown {} before", ops.shown);
    let mut groups: BTreeMap<i64, Vec<&mvccpb::Event>> = BTreeMap::new();
    let mut last = model.revision;
    for event in events {
        let revision = revision_of(event);
        assert!(revision >= last, "revision {revision} comes behind {last}");
        last = revision;
        groups.entry(revision).or_default().push(event);
    }
    let revisions: Vec<i64> = groups.keys().copied().collect();
    let missing: Vec<i64> = (first..=now).filter(|r| !groups.contains_key(r)).take(10).collect();
    assert!(missing.is_empty(), "revisions are missing between {first} and {now}: {missing:?} ...");
    assert_eq!(revisions.len() as i64, now - model.revision, "no revisions beyond {now}");
    let mut check = Check::new(ops, model.revision);
    check.reads(model);
    for (revision, group) in groups {
        let changes: Vec<Change> = group.iter().map(|e| change_of(e)).collect();
        check.revision(model, revision, &changes);
        model.apply(revision, &changes);
        check.fields(model, &group);
        check.reads(model);
    }
    check.end(events)
}

struct Check<'a> {
    ops: &'a Ops,
    by_id: HashMap<u64, &'a Op>,
    by_revision: HashMap<i64, &'a Op>,
    /// Doubtful deletions, and everything that may end a lease.
    silent: Vec<&'a Op>,
    reads_at: HashMap<i64, Vec<&'a Op>>,
    happened: BTreeSet<u64>,
    tally: Tally,
}

impl<'a> Check<'a> {
    fn new(ops: &'a Ops, before: i64) -> Check<'a> {
        let by_id = ops.all.iter().map(|op| (op.id, op)).collect();
        let (mut by_revision, mut reads_at) = (HashMap::new(), HashMap::<i64, Vec<&Op>>::new());
        let mut tally = Tally::default();
        let mut silent = Vec::new();
        for op in &ops.all {
            match &op.outcome {
                Outcome::Doubt => tally.doubtful += 1,
                Outcome::Refused => tally.refused += 1,
                Outcome::Done { .. } => tally.done += 1,
            }
            if let Outcome::Done { revision, .. } = op.outcome {
                assert!(revision >= op.known, "answered with revision {revision} after {} was shown: {op:?}", op.known);
            }
            match (&op.act, &op.outcome) {
                (Act::Grant { .. } | Act::Read(_), Outcome::Doubt | Outcome::Refused) => {}
                (Act::Grant { .. }, Outcome::Done { .. }) => {}
                (Act::Read(_), Outcome::Done { revision, .. }) => reads_at.entry(*revision).or_default().push(op),
                (Act::Delete(_), Outcome::Done { revision, deleted: 0, .. }) => reads_at.entry(*revision).or_default().push(op),
                // A revocation deletes keys if there are any, and its answer does not tell.
                (Act::Revoke { .. }, Outcome::Done { .. } | Outcome::Doubt) => silent.push(op),
                (Act::Delete(_), Outcome::Doubt) => silent.push(op),
                (_, Outcome::Done { revision, .. }) => {
                    assert!(*revision > op.known.max(before), "a change at a revision that was shown before: {op:?}");
                    if let Some(other) = by_revision.insert(*revision, op) {
                        panic!("two changes were answered with revision {revision}: {op:?} and {other:?}");
                    }
                }
                (_, Outcome::Doubt | Outcome::Refused) => {}
            }
        }
        Check { ops, by_id, by_revision, silent, reads_at, happened: BTreeSet::new(), tally }
    }

    /// What changed at a revision must be all of one request's changes, and if a request was answered with it, of that one.
    fn revision(&mut self, model: &Model, revision: i64, changes: &[Change]) {
        self.tally.revisions += 1;
        let op = match self.by_revision.remove(&revision) {
            Some(op) => op,
            None => self.unanswered(model, revision, changes),
        };
        let expected = model.expected(&self.revoking(op));
        assert!(changes == expected, "revision {revision} holds {changes:#?}\nand should hold {expected:#?}\nfor {op:?}");
        if let (Act::Delete(_), Outcome::Done { deleted, .. }) = (&op.act, &op.outcome) {
            assert_eq!(*deleted, changes.len() as i64, "{op:?}");
        }
        let is_new = self.happened.insert(op.id);
        assert!(is_new, "{op:?} happened twice, the second time at {revision}");
        self.tally.doubtful_happened += u64::from(matches!(op.outcome, Outcome::Doubt));
    }

    /// Whose change it is that no client was told of.
    fn unanswered(&self, model: &Model, revision: i64, changes: &[Change]) -> &'a Op {
        let value = changes.iter().find_map(|c| c.put.as_ref()).map(|(value, _)| value);
        if let Some(value) = value {
            let op = writer(value).and_then(|id| self.by_id.get(&id));
            let op = op.unwrap_or_else(|| panic!("nobody put what is at revision {revision}: {changes:?}"));
            assert!(matches!(op.outcome, Outcome::Doubt), "at {revision} there is {changes:?}\nof {op:?}");
            return op;
        }
        let mut candidates = self.silent.iter().chain(self.short_leases());
        let found = candidates.find(|op| !self.happened.contains(&op.id) && model.expected(&self.revoking(op)) == changes);
        found.unwrap_or_else(|| panic!("nobody asked for what is at revision {revision}: {changes:?}"))
    }

    fn short_leases(&self) -> impl Iterator<Item = &&'a Op> {
        self.by_id.values().filter(|op| matches!(op.act, Act::Grant { short: true, .. }))
    }

    /// An expiry as what it is: a revocation.
    fn revoking(&self, op: &Op) -> Op {
        match op.act {
            Act::Grant { lease, .. } => Op { act: Act::Revoke { lease }, ..op.clone() },
            _ => op.clone(),
        }
    }

    /// The fields of the events are those of the model.
    fn fields(&self, model: &Model, group: &[&mvccpb::Event]) {
        for event in group {
            let kv = event.kv.as_ref().expect("an event has a key");
            if event.r#type() == EventType::Put {
                let (key, shown) = alive(kv);
                assert_eq!(Some(&shown), model.alive.get(&key), "{key} at {}", model.revision);
            }
        }
    }

    /// What was read at the model's revision is what it holds.
    fn reads(&mut self, model: &Model) {
        for op in self.reads_at.remove(&model.revision).unwrap_or_default() {
            self.tally.reads += 1;
            match (&op.act, &op.outcome) {
                (Act::Read(span), Outcome::Done { kvs, .. }) => {
                    let held = model.range(span);
                    assert!(*kvs == held, "{op:?}\nat {} there is {held:#?}", model.revision);
                }
                (Act::Delete(span), _) => assert!(model.range(span).is_empty(), "{op:?} deleted nothing"),
                _ => unreachable!("not a read"),
            }
        }
    }

    fn end(mut self, events: &Events) -> Tally {
        if let Some((revision, op)) = self.by_revision.iter().min_by_key(|(r, _)| **r) {
            panic!("{} answered changes are lost, the first at {revision}: {op:?}", self.by_revision.len());
        }
        if let Some((revision, ops)) = self.reads_at.iter().next() {
            panic!("read at revision {revision}, which is not there: {ops:?}");
        }
        for (from, span, seen) in &self.ops.watched {
            let in_span = |e: &&mvccpb::Event| span.contains(&text(&e.kv.as_ref().expect("a key").key));
            let expected: Vec<_> = events.iter().filter(|e| revision_of(e) >= *from).filter(in_span).take(seen.len()).collect();
            assert!(seen.iter().collect::<Vec<_>>() == expected, "a watch of {span:?} from {from} saw something else");
            self.tally.watched += seen.len() as u64;
        }
        self.tally
    }
}
