//! The coordinator's slot while operations over several shards are under way.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::base::{ClusterId, FrontId, Instant, MemberId, Prng, Term};
use crate::config::AutoCompaction;
use crate::coordinator::ChiefParts;
use crate::group::CheckpointPolicy;
use crate::proto::etcdserverpb as pb;
use crate::raft::{self, Configuration, Election};
use crate::reign::{Board, BoardSizes};
use crate::shard::Layout;

const MEMBER: MemberId = MemberId(1);
const TIMEOUT: Duration = Duration::from_secs(1);

/// A chief of four shards that leads since revision 10.
fn chief() -> (Chief, Arc<Reign>) {
    let checkpoints = CheckpointPolicy { dirty_bytes: 1, dirty_bytes_max: 1, entries: 1, interval: TIMEOUT };
    let layout = Layout { cluster: ClusterId(1), member: MEMBER, shards: 4, cores: 1, fronts: 1, checkpoints };
    let options = raft::Options {
        me: MEMBER,
        cores: 1,
        term: Term(0),
        vote: None,
        initial: Configuration::new(0, 4, vec![MEMBER], Vec::new()).expect("one voter"),
        configuration: None,
        heartbeat_interval: TIMEOUT / 10,
        election_timeout: TIMEOUT,
    };
    let mut chief = Chief::new(ChiefParts {
        layout,
        board: Arc::new(Board::new(BoardSizes { groups: 5, cores: 1, fronts: 1 })),
        election: Election::new(Instant::ZERO, options, Prng::new(1)),
        member: pb::Member::default(),
        election_timeout: TIMEOUT,
        auto_compaction: AutoCompaction::Off,
    });
    let reign = Arc::new(Reign::new(Term(1), 5, Revision(10)));
    (chief.term, chief.open, chief.reign) = (Term(1), true, Some(reign.clone()));
    (chief, reign)
}

/// Takes a delete over these groups up to its decision: in the first of them it deletes `deleted` keys.
fn decided(chief: &mut Chief, number: u64, groups: [u16; 2], deleted: u32) -> HoldId {
    let ticket = Ticket { front: FrontId(0), number };
    let delete = pb::DeleteRangeRequest { key: Bytes::from_static(b"a"), range_end: Bytes::from_static(b"b"), prev_kv: false };
    let set: GroupSet = groups.map(GroupId).into_iter().collect();
    let mut actions = Vec::new();
    chief.write(ticket, Write::Delete(delete), set, &mut actions);
    let id = HoldId(chief.next_hold);
    for group in groups.map(GroupId) {
        chief.held(id, group, Facts::Outcomes(Vec::new()), &mut actions);
    }
    for (place, group) in groups.map(GroupId).into_iter().enumerate() {
        let changes = if place == 0 { vec![(0, deleted)] } else { Vec::new() };
        chief.evaluated(id, group, PartFacts::Changes(1, changes), &mut actions);
    }
    id
}

fn adopted(chief: &mut Chief, id: HoldId, group: u16, revision: u64) {
    let answers = vec![(0, OpAnswer::Delete(pb::DeleteRangeResponse::default()))];
    chief.adopted(id, GroupId(group), Revision(revision), answers, &mut Vec::new());
}

#[test]
fn what_one_operation_took_stays_covered_when_another_only_names_it() {
    let (mut chief, reign) = chief();
    let takes = decided(&mut chief, 1, [1, 2], 3);
    assert_eq!(reign.after(), Revision(11));
    let names = decided(&mut chief, 2, [3, 4], 0);
    assert_eq!(reign.after(), Revision(11), "what changes nothing takes no revision");
    adopted(&mut chief, names, 3, 11);
    adopted(&mut chief, names, 4, 11);
    assert_eq!(reign.stable(), Revision(10), "groups 1 and 2 have not adopted revision 11");
    adopted(&mut chief, takes, 1, 11);
    assert_eq!(reign.stable(), Revision(10), "group 2 has not adopted revision 11");
    adopted(&mut chief, takes, 2, 11);
    assert_eq!(reign.stable(), Revision(11));
}
