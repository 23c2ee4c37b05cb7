//! What ranges may hold: many large ones side by side, given up, and answered to clients that take nothing.

use bytes::Bytes;

use crate::front::call::{CallId, Method, Status};
use crate::front::errors;
use crate::proto::etcdserverpb as pb;

use super::world::World;

const KEYS: usize = 100;
const VALUE_BYTES: usize = 100;
const ANSWER_BYTES: usize = KEYS * (VALUE_BYTES + 3);
/// World's: from there on ranges go on one at a time.
const GATHERED_MAX: usize = 1 << 10;
/// At most four keys.
const SLICE_BYTES: usize = ANSWER_BYTES * 4 / KEYS;

fn filled(seed: u64) -> World {
    let mut world = World::new(1, seed);
    for key in 0..KEYS {
        world.put(&format!("{key:03}"), &"v".repeat(VALUE_BYTES));
    }
    world
}

fn everything() -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..Default::default() }
}

fn answered(world: &World, id: u64) -> usize {
    match &world.clients[&id].status {
        Some(status) => {
            assert_eq!(*status, Status::OK);
            world.clients[&id].message::<pb::RangeResponse>(0).kvs.len()
        }
        None => 0,
    }
}

#[test]
fn large_ranges_side_by_side_hold_no_more_than_there_is_room_for() {
    for seed in 0..30 {
        let mut world = filled(seed);
        let ids: Vec<u64> = (0..40).map(|_| world.call(Method::Range, &everything())).collect();
        let mut gone: Vec<u64> = ids.iter().copied().filter(|id| id % 5 == 0).collect();
        let mut most = 0;
        while ids.iter().any(|&id| world.clients[&id].status.is_none()) {
            world.step();
            most = most.max(world.front.room.gathered());
            if world.rng.chance(1, 100)
                && let Some(id) = gone.pop()
                && world.clients[&id].status.is_none()
            {
                world.front.cancel(CallId(id));
                world.clients.get_mut(&id).expect("it was called").status = Some(errors::STOPPED);
            }
        }
        let bound = GATHERED_MAX + ANSWER_BYTES + ids.len() * SLICE_BYTES;
        assert!(most < bound, "seed {seed}: {most} bytes gathered, {bound} may be");
        assert!(bound * 5 < ids.len() * ANSWER_BYTES, "the bound says something");
        for &id in &ids {
            let is_given_up = world.clients[&id].status == Some(errors::STOPPED);
            assert!(is_given_up || answered(&world, id) == KEYS, "seed {seed}, call {id}");
        }
        assert_eq!(world.front.room.gathered(), 0);
    }
}

#[test]
fn clients_that_take_nothing_stop_ranges_and_not_for_ever() {
    let mut world = filled(1);
    let first = world.call(Method::Range, &everything());
    // World's bound, and a byte.
    world.front.unsent((1 << 20) + 1);
    let second = world.call(Method::Range, &everything());
    assert_eq!(world.clients[&second].status, Some(errors::TOO_MANY_REQUESTS));
    world.settle();
    assert_eq!(world.clients[&first].status, None, "it waits for room");
    let key = pb::RangeRequest { key: Bytes::from_static(b"001"), ..Default::default() };
    assert_eq!(world.done(Method::Range, &key).status, Some(Status::OK), "a single key needs none");
    world.front.unsent(1 << 20);
    world.settle();
    assert_eq!(answered(&world, first), KEYS);
}
