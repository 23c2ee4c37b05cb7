//! Random requests of all clients at once: every answer is etcd's, at a revision no older than what was seen before.

use crate::base::Revision;
use crate::front::call::{Method, Status};
use crate::front::errors;
use crate::proto::etcdserverpb as pb;
use crate::shard::messages::At;

use super::model::{Expected, range_of};
use super::requests;
use super::world::World;

enum Asked {
    Range(pb::RangeRequest),
    Stream(pb::RangeRequest),
    Put,
    Delete,
    Txn,
    ReadTxn(pb::TxnRequest),
    Compact,
}

fn ask(world: &mut World) -> (u64, Asked) {
    let current = world.cores.model.current;
    let rng = &mut world.rng;
    match rng.below(20) {
        0..=4 => {
            let r = requests::range(rng, current);
            (world.call(Method::Range, &r), Asked::Range(r))
        }
        5 => {
            let mut r = requests::range(rng, current);
            (r.sort_order, r.sort_target) = (0, 0);
            (r.min_mod_revision, r.max_mod_revision, r.min_create_revision, r.max_create_revision) = (0, 0, 0, 0);
            (world.call(Method::RangeStream, &r), Asked::Stream(r))
        }
        6..=9 => {
            let r = requests::put(rng);
            (world.call(Method::Put, &r), Asked::Put)
        }
        10..=11 => {
            let r = requests::delete(rng);
            (world.call(Method::DeleteRange, &r), Asked::Delete)
        }
        12..=13 => {
            let r = requests::txn(rng, current, 0, true);
            (world.call(Method::Txn, &r), Asked::ReadTxn(r))
        }
        14 if rng.chance(1, 4) => {
            let revision = rng.below(current + 2) as i64;
            (world.call(Method::Compact, &pb::CompactionRequest { revision, physical: false }), Asked::Compact)
        }
        _ => {
            let r = requests::txn(rng, current, 2, false);
            let id = world.call(Method::Txn, &r);
            (id, if crate::front::txn::is_read_only(&r) { Asked::ReadTxn(r) } else { Asked::Txn })
        }
    }
}

fn check(world: &mut World, id: u64, asked: &Asked) {
    let client = &world.clients[&id];
    let status = client.status.clone().expect("every call ends");
    if !status.is_ok() {
        return check_refused(world, id, asked, &status);
    }
    let seen_before = client.seen_before;
    let header = match asked {
        Asked::Range(r) => {
            let response: pb::RangeResponse = client.only();
            let header = response.header.unwrap();
            assert_eq!(response, pb::RangeResponse { header: Some(header), ..expected_range(world, r, header.revision) });
            header
        }
        Asked::Stream(r) => check_stream(world, id, r),
        Asked::ReadTxn(r) => check_read_txn(world, id, r),
        Asked::Compact => client.only::<pb::CompactionResponse>().header.unwrap(),
        Asked::Put | Asked::Delete | Asked::Txn => check_written(world, id),
    };
    assert_eq!(Some(header), world.header(header.revision));
    assert!(header.revision >= seen_before, "call {id} at {} began after {seen_before} was seen", header.revision);
    assert!(header.revision <= world.cores.reign.stable().as_i64(), "what is answered is stable");
    world.seen = world.seen.max(header.revision);
}

fn expected_range(world: &World, r: &pb::RangeRequest, current: i64) -> pb::RangeResponse {
    let revision = if r.revision > 0 { r.revision } else { current };
    assert!(revision <= current);
    range_of(r, &world.cores.model.state_at(revision as u64))
}

fn check_stream(world: &World, id: u64, r: &pb::RangeRequest) -> pb::ResponseHeader {
    let client = &world.clients[&id];
    let mut kvs = Vec::new();
    for at in 0..client.received.len() - 1 {
        let chunk = client.message::<pb::RangeStreamResponse>(at).range_response.unwrap();
        assert!(chunk.header.is_none() && !chunk.more && chunk.count == 0 && !chunk.kvs.is_empty());
        kvs.extend(chunk.kvs);
    }
    let last = client.message::<pb::RangeStreamResponse>(client.received.len() - 1).range_response.unwrap();
    let header = last.header.unwrap();
    kvs.extend(last.kvs.clone());
    assert_eq!(pb::RangeResponse { kvs, header: None, ..last }, expected_range(world, r, header.revision));
    header
}

fn check_written(world: &World, id: u64) -> pb::ResponseHeader {
    let client = &world.clients[&id];
    let full = |header: Option<pb::ResponseHeader>| world.header(header.unwrap().revision);
    match world.cores.evaluated[client.tickets.last().unwrap()].as_ref().unwrap() {
        Expected::Put(e) => {
            let response: pb::PutResponse = client.only();
            assert_eq!(response, pb::PutResponse { header: full(e.header), ..e.clone() });
            response.header.unwrap()
        }
        Expected::Delete(e) => {
            let response: pb::DeleteRangeResponse = client.only();
            assert_eq!(response, pb::DeleteRangeResponse { header: full(e.header), ..e.clone() });
            response.header.unwrap()
        }
        Expected::Txn(e) => {
            let response: pb::TxnResponse = client.only();
            assert_eq!(response, pb::TxnResponse { header: full(e.header), ..e.clone() });
            response.header.unwrap()
        }
    }
}

fn check_read_txn(world: &World, id: u64, r: &pb::TxnRequest) -> pb::ResponseHeader {
    let client = &world.clients[&id];
    let response: pb::TxnResponse = client.only();
    let header = response.header.unwrap();
    let state = world.cores.model.state(At::end_of(Revision(header.revision as u64)));
    let succeeded = r.compare.iter().all(|c| {
        let kvs: Vec<_> = super::model::in_range(&state, &c.key, &c.range_end).cloned().collect();
        crate::front::txn::holds(c, &kvs)
    });
    assert_eq!(response.succeeded, succeeded);
    let branch = if succeeded { &r.success } else { &r.failure };
    assert_eq!(response.responses.len(), branch.len());
    for (op, answer) in branch.iter().zip(&response.responses) {
        let Some(pb::request_op::Request::RequestRange(r)) = &op.request else { unreachable!() };
        let Some(pb::response_op::Response::ResponseRange(range)) = &answer.response else { panic!("a range is answered") };
        assert_eq!(range.header, Some(pb::ResponseHeader { revision: header.revision, ..Default::default() }));
        assert_eq!(pb::RangeResponse { header: None, ..range.clone() }, expected_range(world, r, header.revision));
    }
    header
}

fn check_refused(world: &World, id: u64, asked: &Asked, status: &Status) {
    let client = &world.clients[&id];
    assert!(client.received.is_empty() || matches!(asked, Asked::Stream(_)));
    let revisions = |r: &pb::RangeRequest| r.revision;
    match asked {
        Asked::Range(r) | Asked::Stream(r) if *status == errors::COMPACTED => {
            assert!(revisions(r) > 0 && revisions(r) < world.cores.model.compacted);
        }
        Asked::Range(r) | Asked::Stream(r) if *status == errors::FUTURE_REVISION => assert!(revisions(r) > client.seen_before),
        Asked::Range(_) | Asked::Stream(_) => panic!("a range failed with {status:?}"),
        Asked::ReadTxn(_) => assert!(*status == errors::COMPACTED || *status == errors::FUTURE_REVISION, "{status:?}"),
        Asked::Compact => assert!(*status == errors::COMPACTED || *status == errors::FUTURE_REVISION, "{status:?}"),
        Asked::Put | Asked::Delete | Asked::Txn => match client.tickets.last() {
            None => assert!(*status == errors::DUPLICATE_KEY, "{status:?}"),
            Some(ticket) => {
                let refusal = *world.cores.evaluated[ticket].as_ref().unwrap_err();
                assert_eq!(*status, errors::of_refusal(refusal));
            }
        },
    }
}

fn run(shards: u16, seed: u64) {
    let mut world = World::new(shards, seed);
    world.cores.slice_max = [1, 3, 50][world.rng.below(3) as usize];
    world.cores.model.leases = vec![1, 2];
    let mut open: Vec<(u64, Asked)> = Vec::new();
    for _ in 0..150 {
        open.push(ask(&mut world));
        for _ in 0..world.rng.below(12) {
            world.step();
        }
        let mut left = Vec::new();
        for (id, asked) in open {
            if world.clients[&id].status.is_some() {
                check(&mut world, id, &asked);
            } else {
                left.push((id, asked));
            }
        }
        open = left;
    }
    world.settle();
    for (id, asked) in open {
        check(&mut world, id, &asked);
    }
    let load = world.front.load();
    assert_eq!((load.calls, load.asked), (0, 0), "nothing is left behind");
    assert_eq!(world.cores.board.lowest_read(), Revision::MAX, "no read is published when none is under way");
}

#[test]
fn one_shard_answers_as_etcd_does() {
    (0..300).for_each(|seed| run(1, seed));
}

#[test]
fn four_shards_answer_as_etcd_does() {
    (0..300).for_each(|seed| run(4, seed));
}

#[test]
fn sixteen_shards_answer_as_etcd_does() {
    (0..150).for_each(|seed| run(16, seed));
}
