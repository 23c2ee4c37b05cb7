//! kill -9 in mid-load, again and again: what was acknowledged is there, with its revision, and nothing is there by halves.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use etcring::base::Prng;
use etcring::proto::etcdserverpb as pb;

use super::history::{Act, Model, Op, Ops, Outcome, Span, Tally, alive, check};
use super::load::{EVERYTHING, Load};
use crate::support::grpc::{COMPACT, Client, LEASE_LEASES, LEASE_TIME_TO_LIVE, RANGE, block_on, bytes};
use crate::support::process::{Member, PATIENCE, Spec, TestDir};

const ROUNDS_DEFAULT: u64 = 20;
/// The members that take turns, by their shards.
const SHARDS: [u16; 3] = [1, 4, 16];
/// A load goes on for at most so long.
const LOAD_TIME_MAX: Duration = Duration::from_secs(2);
/// Keys of leases are looked at for so many of them.
const LEASES_LOOKED_AT: usize = 5;

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// The seed of this run, printed: give it again in ETCRING_TEST_SEED.
pub fn seed() -> u64 {
    let seed = number("ETCRING_TEST_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        since.as_nanos() as u64
    });
    println!("ETCRING_TEST_SEED={seed}");
    seed
}

/// A directory, and what must be in it.
pub struct Life {
    dir: TestDir,
    shards: u16,
    pub model: Model,
    /// What was asked since the model was last brought up to date.
    pub open: Ops,
    next: u64,
    leases: Vec<i64>,
    /// Every lease that is known to be there, or not.
    granted: BTreeSet<i64>,
    gone: BTreeSet<i64>,
    /// Every lease whose fate is open: in doubt, short, or being revoked.
    unsure: BTreeSet<i64>,
}

impl Life {
    pub fn new(shards: u16) -> Life {
        Life {
            dir: TestDir::new(&format!("life-{shards}")),
            shards,
            model: Model::new(),
            open: Ops::default(),
            next: 1,
            leases: Vec::new(),
            granted: BTreeSet::new(),
            gone: BTreeSet::new(),
            unsure: BTreeSet::new(),
        }
    }

    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// How it is started this time: its shards are given at the first start only, its CPUs are others each time.
    pub fn spec(&self, prng: &mut Prng) -> Spec {
        let shards = self.shards.to_string();
        let cpus = (1 + prng.below(3)).to_string();
        let fronts = prng.below(2).to_string();
        let spec = Spec::new(self.dir.path()).with(&["--shards", &shards, "--cpus", &cpus, "--front-cores", &fronts]);
        if prng.chance(1, 2) { spec.with(&["--cache-bytes", "4194304"]) } else { spec }
    }

    /// Brings the model up to date from a member that serves, and holds everything against it.
    pub async fn verify(&mut self, member: &Member) -> Tally {
        let client = Client::connect(member.port).await.expect("a member that serves");
        let now = client.revision().await;
        let mut events = Vec::new();
        if now > self.model.revision {
            let watch = client.watch(EVERYTHING.0, EVERYTHING.1, self.model.revision + 1);
            let mut watch = watch.await.expect("a member that serves");
            let read = async {
                while events.last().map(last_revision).is_none_or(|r| r < now) {
                    let answer = watch.next::<pb::WatchResponse>().await.expect("a member that serves");
                    events.extend(answer.expect("a watch does not end").events);
                }
            };
            let until = tokio::time::timeout(PATIENCE, read).await;
            let last = events.last().map(last_revision);
            assert!(until.is_ok(), "a watch to revision {now} shows no more than {last:?} in {PATIENCE:?}");
        }
        // A short lease may have expired since, behind the revision that was asked for.
        let now = events.last().map_or(now, last_revision);
        let tally = check(&mut self.model, &self.open, &events, now);
        self.verify_keys(&client).await;
        self.verify_leases(&client).await;
        self.open = Ops::default();
        tally
    }

    async fn verify_keys(&self, client: &Client) {
        let (key, range_end) = (bytes(EVERYTHING.0), bytes(EVERYTHING.1));
        let request = pb::RangeRequest { key, range_end, revision: self.model.revision, ..Default::default() };
        let answer = client.must::<pb::RangeResponse>(RANGE, &request).await;
        let held: Vec<_> = answer.kvs.iter().map(alive).collect();
        let everything = Span { from: EVERYTHING.0.to_owned(), to: Some(EVERYTHING.1.to_owned()) };
        assert!(held == self.model.range(&everything), "the keys at revision {} are others", self.model.revision);
    }

    async fn verify_leases(&mut self, client: &Client) {
        for op in &self.open.all {
            self.unsure.extend(unsure_lease(op));
            match (&op.act, &op.outcome) {
                (Act::Grant { lease, short: false }, Outcome::Done { .. }) => drop(self.granted.insert(*lease)),
                (Act::Revoke { lease }, Outcome::Done { .. }) => drop(self.gone.insert(*lease)),
                _ => {}
            }
        }
        let answer = client.must::<pb::LeaseLeasesResponse>(LEASE_LEASES, &pb::LeaseLeasesRequest {}).await;
        let held: BTreeSet<i64> = answer.leases.iter().map(|l| l.id).collect();
        for lease in &self.granted {
            let kept = held.contains(lease) || self.gone.contains(lease) || self.unsure.contains(lease);
            assert!(kept, "lease {lease} was granted, and is not there");
        }
        for lease in &held {
            assert!(!self.gone.contains(lease), "lease {lease} was revoked, and is there");
            assert!(self.granted.contains(lease) || self.unsure.contains(lease), "nobody asked for lease {lease}");
        }
        // With a lease its keys go, at once.
        for (key, alive) in &self.model.alive {
            let expiring = self.unsure.contains(&alive.lease);
            assert!(alive.lease == 0 || held.contains(&alive.lease) || expiring, "{key} of lease {} is there", alive.lease);
        }
        for &lease in held.iter().filter(|l| !self.unsure.contains(l)).take(LEASES_LOOKED_AT) {
            let request = pb::LeaseTimeToLiveRequest { id: lease, keys: true };
            let answer = client.must::<pb::LeaseTimeToLiveResponse>(LEASE_TIME_TO_LIVE, &request).await;
            let mut keys: Vec<_> = answer.keys.iter().map(|k| String::from_utf8_lossy(k).into_owned()).collect();
            keys.sort();
            assert_eq!(keys, self.model.attached(lease), "the keys of lease {lease}");
            assert!(answer.ttl > 0 && answer.ttl <= answer.granted_ttl, "{answer:?}");
        }
    }

    pub async fn load(&mut self, member: &Member, prng: &mut Prng) -> Load {
        Load::start(member.port, prng, self.next, self.leases.clone(), self.model.revision).await
    }

    pub async fn unload(&mut self, load: Load) {
        (self.open, self.next, self.leases) = load.end().await;
    }
}

fn last_revision(event: &etcring::proto::mvccpb::Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

fn unsure_lease(op: &Op) -> Option<i64> {
    match (&op.act, &op.outcome) {
        (Act::Grant { lease, short: true }, _) | (Act::Grant { lease, .. } | Act::Revoke { lease }, Outcome::Doubt) => {
            Some(*lease)
        }
        _ => None,
    }
}

/// Lets the load go on until so many requests have been answered.
pub async fn until_done(load: &Load, requests: u64) {
    let until = Instant::now() + LOAD_TIME_MAX;
    while load.done() < requests && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Starts, is killed before it serves or a little after, as chance has it.
fn kill_at_start(spec: &Spec, prng: &mut Prng) {
    let mut member = spec.spawn();
    std::thread::sleep(Duration::from_micros(prng.below(300_000)));
    member.kill();
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let rounds = number("ETCRING_KILLS").unwrap_or(ROUNDS_DEFAULT);
    let mut prng = Prng::new(seed());
    let mut lives: Vec<Life> = SHARDS.into_iter().map(Life::new).collect();
    let (mut tallies, mut slowest) = (Tally::default(), Duration::ZERO);
    for round in 0..rounds {
        let life = &mut lives[round as usize % SHARDS.len()];
        let spec = life.spec(&mut prng);
        if prng.chance(1, 4) {
            kill_at_start(&spec, &mut prng);
        }
        let mut member = spec.start();
        slowest = slowest.max(member.ready_after);
        let tally = block_on(one_round(life, &mut member, &mut prng));
        println!("round {round}: {} shards, ready after {:?}: {tally:?}", life.shards, member.ready_after);
        add(&mut tallies, tally);
    }
    for life in &mut lives {
        let mut member = life.spec(&mut prng).start();
        slowest = slowest.max(member.ready_after);
        add(&mut tallies, block_on(life.verify(&member)));
        member.stop();
    }
    println!("{rounds} kills, slowest start {slowest:?}: {tallies:?}");
    assert!(tallies.done > rounds * 20, "the loads did something: {tallies:?}");
    assert!(tallies.doubtful > 0 && tallies.watched > 0 && tallies.reads > 0, "the kills came in mid-load: {tallies:?}");
}

async fn one_round(life: &mut Life, member: &mut Member, prng: &mut Prng) -> Tally {
    let tally = life.verify(member).await;
    if prng.chance(1, 3) && life.model.revision > 1 {
        let client = Client::connect(member.port).await.expect("a member that serves");
        let revision = life.model.revision - prng.below(life.model.revision as u64 / 4 + 1) as i64;
        let request = pb::CompactionRequest { revision, physical: false };
        // One that is behind an earlier one is refused.
        let _ = client.unary::<pb::CompactionResponse>(COMPACT, &request).await;
    }
    let load = life.load(member, prng).await;
    until_done(&load, 20 + prng.below(1500)).await;
    member.signal(libc::SIGKILL);
    life.unload(load).await;
    let status = member.wait_end(PATIENCE);
    let log = member.log();
    assert!(status.signal() == Some(libc::SIGKILL) && !log.contains("\"panic\""), "it ended by itself, {status}:\n{log}");
    tally
}

fn add(sum: &mut Tally, one: Tally) {
    sum.done += one.done;
    sum.doubtful += one.doubtful;
    sum.doubtful_happened += one.doubtful_happened;
    sum.refused += one.refused;
    sum.revisions += one.revisions;
    sum.watched += one.watched;
    sum.reads += one.reads;
}
