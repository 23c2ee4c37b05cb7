//! A shard's part in requests over several shards: hold, tell, evaluate, append the part, let go (architecture, section 4; rule 4).

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{CoreId, GroupId, Mark, Revision, Term};
use crate::group::Machine;
use crate::mvcc::View;
use crate::reign::{Owner, Reign};
use crate::state::evaluate::{self, Memo, Operations, Part, Path, Stop};
use crate::state::{Payload, apply, kv};

use super::core::{AskedLeases, Core, Shard, Waiting, Walker};
use super::effects::Effect;
use super::events::{CoreMessage, Decision, Facts, HoldId, HoldPurpose, PartFacts};

/// A hold on a group.
pub(super) struct Held {
    pub(super) id: HoldId,
    term: Term,
    purpose: Arc<HoldPurpose>,
    /// For a revocation: the keys attached to each lease, in key order.
    attached: Vec<Vec<Bytes>>,
    /// The part along the path, once it is evaluated.
    part: Option<Part>,
    /// Whether the part was evaluated with the previous values of its events.
    with_prev: bool,
    /// Core 0 has told of all leases there are since the part was evaluated first.
    told: bool,
    /// The room that the log keeps for it.
    pub(super) promised: usize,
}

/// A hold that the coordinator asks for.
pub(super) struct HoldAsked {
    pub(super) id: HoldId,
    pub(super) term: Term,
    pub(super) purpose: Arc<HoldPurpose>,
    /// What its facts have come to, when it waited for pages.
    pub(super) memo: Memo,
}

/// What a part is appended with.
pub(super) struct CommitPart {
    pub(super) id: HoldId,
    pub(super) term: Term,
    pub(super) group: GroupId,
    pub(super) mark: Mark,
    pub(super) last: bool,
}

impl Core {
    /// Holds the group: from here until the release it takes no revision of its own. What it tells is found out first, so that every
    /// page that it takes is in memory when the hold begins; it stays true as long as the hold lasts.
    pub(super) fn hold(&mut self, asked: HoldAsked, group: GroupId, effects: &mut Vec<Effect>) {
        let HoldAsked { id, term, purpose, mut memo } = asked;
        let Ok(reign) = self.reign_of(term) else { return };
        let place = self.place(group).expect("the coordinator asks the core that hosts the group");
        match self.facts(place, &reign, &purpose, &mut memo) {
            Err(Stop::Fault(fault)) => {
                let shard = &mut self.shards[place];
                if memo.is_begun() {
                    shard.walking.get_or_insert(Walker::Hold(id));
                }
                shard.wait_for(fault, Waiting::Hold { id, term, purpose, memo }, effects);
            }
            Err(Stop::Slice) => {
                let shard = &mut self.shards[place];
                shard.walking.get_or_insert(Walker::Hold(id));
                shard.sliced.push(Waiting::Hold { id, term, purpose, memo });
            }
            Err(Stop::Refused { .. }) => unreachable!("compares refuse nothing"),
            Ok((facts, attached)) => {
                let shard = &mut self.shards[place];
                assert!(shard.held.is_none(), "the coordinator holds a group once at a time");
                shard.walking.take_if(|walker| *walker == Walker::Hold(id));
                shard.held = Some(Held { id, term, purpose, attached, part: None, with_prev: false, told: false, promised: 0 });
                effects.push(Effect::ToCore(CoreId(0), CoreMessage::Held { id, group, facts }));
            }
        }
    }

    /// What the hold tells, and for a revocation the keys that it is about.
    fn facts(
        &self,
        place: usize,
        reign: &Reign,
        purpose: &HoldPurpose,
        memo: &mut Memo,
    ) -> Result<(Facts, Vec<Vec<Bytes>>), Stop> {
        self.with_basis(place, reign, false, |basis| match purpose {
            HoldPurpose::Txn(txn) => Ok((Facts::Outcomes(evaluate::compare_all(basis, txn, memo)?), Vec::new())),
            HoldPurpose::Revoke(leases) => {
                let attached = evaluate::attached(basis, leases, memo)?;
                Ok((Facts::Attached(attached.iter().map(|keys| !keys.is_empty()).collect()), attached))
            }
        })
    }

    /// The path of the txn is decided: the group's own operations are evaluated along it.
    pub(super) fn evaluate_part(
        &mut self,
        id: HoldId,
        group: GroupId,
        path: Arc<Path>,
        mut memo: Memo,
        effects: &mut Vec<Effect>,
    ) {
        let place = self.place(group).expect("the coordinator asks the core that hosts the group");
        let Some(held) = self.shards[place].held.as_ref().filter(|held| held.id == id) else { return };
        let Ok(reign) = self.reign_of(held.term) else { return };
        let told = held.told;
        let purpose = held.purpose.clone();
        let HoldPurpose::Txn(txn) = &*purpose else { unreachable!("a revocation has no path") };
        let with_prev = self.board.previous_values_watches() > 0;
        let part = match self.with_basis(place, &reign, with_prev, |basis| evaluate::part(basis, txn, &path, &mut memo)) {
            Err(Stop::Slice) => return self.shards[place].sliced.push(Waiting::Part { id, path, memo }),
            Err(Stop::Fault(fault)) => {
                return self.shards[place].wait_for(fault, Waiting::Part { id, path, memo }, effects);
            }
            Err(Stop::Refused { refusal: evaluate::Refusal::LeaseNotFound, .. }) if !told => {
                return self.ask_leases(AskedLeases::Part { id, group, path }, effects);
            }
            Err(Stop::Refused { refusal, operation }) => PartFacts::Refused(operation, refusal.into()),
            Ok(part) => self.keep_part(place, part, with_prev),
        };
        effects.push(Effect::ToCore(CoreId(0), CoreMessage::Evaluated { id, group, part }));
    }

    /// All leases there are have been told since this part was evaluated.
    pub(super) fn part_told(&mut self, id: HoldId, group: GroupId) {
        let place = self.place(group).expect("a core asks for its own groups");
        if let Some(held) = self.shards[place].held.as_mut().filter(|held| held.id == id) {
            held.told = true;
        }
    }

    /// Keeps the part until it is committed, and room for it in the log; without room the txn is refused (rule 18).
    fn keep_part(&mut self, place: usize, part: Part, with_prev: bool) -> PartFacts {
        let bytes = part.encoded_bytes_max();
        if let Err(refusal) = self.admit(bytes) {
            // What is wrong with an operation of the txn comes first.
            return PartFacts::Refused(usize::MAX, refusal);
        }
        self.log.promise(bytes);
        let facts = PartFacts::Changes(part.operations, part.changes().collect());
        let held = self.shards[place].held.as_mut().expect("it is held");
        (held.part, held.with_prev, held.promised) = (Some(part), with_prev, bytes);
        facts
    }

    /// The group's part of a decision: into its log and its slot, then the coordinator is told.
    pub(super) fn commit_part(&mut self, commit: CommitPart, decision: &Decision, effects: &mut Vec<Effect>) {
        let CommitPart { id, term, group, mark, last } = commit;
        let place = self.place(group).expect("the coordinator asks the core that hosts the group");
        let Ok(reign) = self.reign_of(term) else { return };
        let shard = &mut self.shards[place];
        let Some(held) = shard.held.as_mut().filter(|held| held.id == id) else { return };
        let with_prev = held.with_prev;
        let revision = mark.revision().expect("a part has a revision");
        let (changes, touched, answers) = match (decision, &*held.purpose) {
            (Decision::Txn(operations), _) => {
                let part = held.part.take().expect("a part is evaluated before it is committed");
                finish(part, operations)
            }
            (Decision::Revoke { place }, HoldPurpose::Revoke(leases)) => {
                let (changes, touched) = apply::revoke(leases[*place], std::mem::take(&mut held.attached[*place]));
                (changes, touched, Vec::new())
            }
            (Decision::Revoke { .. }, HoldPurpose::Txn(_)) => unreachable!("the decision answers what the group was held for"),
        };
        // The previous values of a revocation's keys are read by the hubs when they are wanted.
        let with_prev = with_prev && matches!(decision, Decision::Txn(_));
        if !changes.is_empty() {
            assert!(revision > reign.stable(), "a revision is covered until all its groups have adopted it (rule 4)");
            let bytes = shard.append_changes(mark, revision, &changes, touched, with_prev, None);
            self.log.promise(bytes);
            reign.adopt(Owner::Group(group), revision);
        }
        effects.push(Effect::ToCore(CoreId(0), CoreMessage::Adopted { id, group, revision, answers }));
        if last {
            self.release(id, group, effects);
        }
    }

    /// Lets go: what waited is evaluated.
    pub(super) fn release(&mut self, id: HoldId, group: GroupId, effects: &mut Vec<Effect>) {
        let place = self.place(group).expect("the coordinator asks the core that hosts the group");
        let shard = &mut self.shards[place];
        let Some(held) = shard.held.take_if(|held| held.id == id) else { return };
        self.log.keep_promise(held.promised);
        for revision in std::mem::take(&mut self.shards[place].compaction_waits) {
            self.propose_compaction_in(place, revision);
        }
        self.queued_writes(place, effects);
    }

    /// A compaction that group 0 has committed: an entry without a revision in every data group (rule 16).
    pub(super) fn propose_compaction(&mut self, term: Term, revision: Revision) {
        if self.reign_of(term).is_err() {
            return;
        }
        for place in 0..self.shards.len() {
            let shard = &mut self.shards[place];
            if shard.id() == GroupId::META || shard.replica.floor() >= revision {
                continue;
            }
            // A held group appends nothing that is not the hold's (rule 3).
            if shard.held.is_some() {
                shard.compaction_waits.push(revision);
            } else {
                self.propose_compaction_in(place, revision);
            }
        }
    }

    fn propose_compaction_in(&mut self, place: usize, revision: Revision) {
        let Some(reign) = &self.reign else { return };
        let mark = Mark::After(reign.after());
        self.shards[place].replica.raft.propose(mark, Payload::Compaction(revision).encode());
    }
}

type Finished = (Vec<kv::Effect>, Vec<apply::Touched>, Vec<(usize, evaluate::OpAnswer)>);

fn finish(part: Part, operations: &Operations) -> Finished {
    let finished = part.finish(operations);
    (finished.effects, finished.touched, finished.answers)
}

impl Shard {
    /// What is applied, and over it what is evaluated.
    pub(super) fn view(&self) -> View<'_> {
        let Machine::Keys(mvcc) = &self.replica.machine else {
            unreachable!("group 0 has no keys, and nobody names it for them")
        };
        View { mvcc, overlay: &self.overlay }
    }
}
