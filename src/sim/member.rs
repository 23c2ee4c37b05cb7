//! The simulated member: made from what its disk holds, run step by step, and ended by a power failure at any of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{CoreId, GroupId, Instant, Prng, Revision, RunNumber, SegmentSequence};
use crate::config::AutoCompaction;
use crate::front::{self, CallId, Front};
use crate::group::CheckpointPolicy;
use crate::pages;
use crate::proto::etcdserverpb as pb;
use crate::pump::{Envelope, Homes};
use crate::raft::Configuration;
use crate::reign::{Board, BoardSizes};
use crate::server::datadir::Paths;
use crate::server::identity::{cluster_id, initial_member_id};
use crate::server::recover::{self, Identity};
use crate::server::thread::{self, CoreSeed};
use crate::shard::Layout;
use crate::wal::{Ledger, SegmentName, WalId, WriterLimits, WriterOptions};

use super::disk::SimDisk;
use super::disk_work::Work;
use super::executor::{Executor, Incoming, Outcome, Outgoing, homes, residents};

/// Small, so that segments fill and are recycled within a run.
pub const SEGMENT_BYTES: u64 = 128 << 10;
/// As small as records and state batches of the simulation allow.
const LIMITS: WriterLimits =
    WriterLimits { batch_bytes: 16 << 10, state_bytes: 16 << 10, pending_bytes: 1 << 20, reserve_bytes: 12 << 10 };
/// The election timeout.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
/// When checkpoints are due.
const CHECKPOINTS: CheckpointPolicy =
    CheckpointPolicy { dirty_bytes: 48 << 10, dirty_bytes_max: 96 << 10, entries: 10_000, interval: Duration::from_secs(2) };

/// How a run is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Shards, fixed by the first run.
    pub shards: u16,
    /// Shard cores.
    pub cores: u16,
    /// Fronts.
    pub fronts: u16,
    /// Fronts live on the cores' executors.
    pub together: bool,
    /// Memory for a group's pages.
    pub cache_bytes: usize,
    /// Power may fail in the middle of a start.
    pub may_die_starting: bool,
}

/// A member that runs.
pub struct Member {
    /// Its shape.
    pub shape: Shape,
    /// What its files say was stable.
    pub known_stable_on_disk: Revision,
    /// The core whose writes of the log stand still for a while.
    pub stalled: Option<usize>,
    executors: Vec<Executor>,
    homes: Homes,
    work: Vec<Work>,
    /// The last WAL write of each core that was reported.
    written: BTreeMap<usize, (PathBuf, u64)>,
    paths: Paths,
}

/// Where the simulated member keeps its files.
pub fn paths() -> Paths {
    Paths::new(Path::new("/sim"), None)
}

impl Member {
    /// Starts a member on what `disk` holds. `None`: power failed before it had made its files.
    ///
    /// # Errors
    /// What the member would say, refusing to start.
    pub fn start(disk: &mut SimDisk, shape: Shape, now: Instant, rng: &mut Prng) -> Result<Option<Member>, String> {
        let paths = paths();
        let found = recover::find(&*disk, &paths).map_err(|e| e.to_string())?;
        let member = initial_member_id(&["http://localhost:2380"], "etcd-cluster");
        let initial = Configuration::new(0, shape.shards, vec![member], Vec::new()).map_err(|e| e.to_string())?;
        let initial = found.configuration().unwrap_or(initial);
        let identity = Identity { cluster: cluster_id(&[member]), member, initial };
        let Shape { shards, cores, fronts, .. } = shape;
        let layout = Layout { cluster: identity.cluster, member, shards, cores, fronts, checkpoints: CHECKPOINTS };
        if found.shards().is_some_and(|found| found != shards) {
            return Err("the number of shards changed".into());
        }
        let sizes = BoardSizes { groups: usize::from(shards) + 1, cores: usize::from(cores), fronts: usize::from(fronts) };
        let board = Arc::new(Board::new(sizes));
        let homes = homes(cores, fronts, shape.together);
        let executors = 1 + homes.cores.iter().chain(&homes.fronts).copied().max().expect("there is core 0");
        let run = RunNumber(found.wal.run.0 + 1);
        let dies_at = if shape.may_die_starting { rng.below(24) } else { u64::MAX };
        for group in (0..=shards).map(GroupId) {
            disk.make(&paths.pages(group));
            if !found.notes.contains_key(&group) {
                disk.set_length(&paths.pages(group), 0);
                disk.sync(&paths.pages(group));
            }
            if dies_at == 0 && rng.chance(1, 4) {
                disk.crash(rng);
                return Ok(None);
            }
        }
        disk.sync_folder(paths.root());
        for core in (0..cores).map(CoreId) {
            let first = SegmentName { wal: WalId { run, core }, sequence: SegmentSequence(1) };
            disk.make(&paths.segment(first));
            disk.allocate(&paths.segment(first), SEGMENT_BYTES);
            if dies_at == 1 && rng.chance(1, 2) {
                disk.crash(rng);
                return Ok(None);
            }
        }
        disk.sync_folder(paths.wal());
        if dies_at == 2 {
            disk.crash(rng);
            return Ok(None);
        }
        let mut made = Vec::new();
        for index in 0..executors {
            let (core, front) = residents(&homes, index);
            let core = match core {
                None => None,
                Some(id) => {
                    let seed = core_seed(&found, &identity, &layout, id, run, shape.cache_bytes, &paths, rng);
                    let core = thread::make_core(&*disk, now, layout, &identity, &board, seed).map_err(|e| e.to_string())?;
                    Some(core)
                }
            };
            let front = front.map(|id| Front::new(front_config(id, &layout, rng), board.clone()));
            made.push(Executor::new(index, executors, homes.clone(), core, front));
        }
        let noted = found.notes.values().map(|note| note.known_stable).max().unwrap_or_default();
        let known_stable_on_disk = noted.max(found.wal.known.stable);
        let (work, written) = (Vec::new(), BTreeMap::new());
        Ok(Some(Member { shape, known_stable_on_disk, stalled: None, executors: made, homes, work, written, paths }))
    }

    /// The executor of a front.
    fn of_front(&mut self, front: u16) -> &mut Executor {
        &mut self.executors[self.homes.fronts[usize::from(front)]]
    }

    /// A core, to ask it something without a front.
    #[cfg(test)]
    pub fn core(&mut self, core: u16) -> &mut crate::shard::Core {
        self.executors[self.homes.cores[usize::from(core)]].core.as_mut().expect("it lives there")
    }

    /// Something comes from the transport.
    pub fn call(&mut self, front: u16, incoming: Incoming) {
        self.of_front(front).calls.push_back(incoming);
    }

    /// Tells every executor to stop cleanly.
    pub fn stop(&mut self) {
        for executor in &mut self.executors {
            executor.receive(0, vec![Envelope::Stop]);
        }
    }

    /// Whether everything that a clean stop needs is on disk.
    pub fn is_stopped(&self) -> bool {
        self.executors.iter().all(|e| e.stopped)
    }

    /// Whether every front serves.
    pub fn leads(&self) -> bool {
        self.executors.iter().all(Executor::leads)
    }

    /// When something is due though nothing happens.
    pub fn next_deadline(&mut self) -> Instant {
        self.executors.iter_mut().map(Executor::next_deadline).min().unwrap_or(Instant::MAX)
    }

    /// A core that is parked though it has work which waits for nothing, and that is not due soon.
    pub fn sleeps_over_work(&mut self, now: Instant) -> Option<usize> {
        self.executors.iter_mut().position(|executor| executor.sleeps_over_work(now))
    }

    fn stands_still(&self, work: &Work) -> bool {
        self.stalled == Some(work.core) && work.writes_log()
    }

    /// Does one random thing that is possible; what goes to the clients is added to `clients`. False: nothing is.
    ///
    /// # Errors
    /// The line with which the member ends itself.
    pub fn step(
        &mut self,
        disk: &mut SimDisk,
        now: Instant,
        rng: &mut Prng,
        clients: &mut Vec<(CallId, Outgoing)>,
        trace: &mut impl FnMut(&dyn Fn() -> String),
    ) -> Result<bool, String> {
        let enabled: Vec<usize> = (0..self.executors.len()).filter(|&e| self.executors[e].is_enabled(now)).collect();
        let movable: Vec<usize> = (0..self.work.len()).filter(|&at| !self.stands_still(&self.work[at])).collect();
        let choices = enabled.len() + movable.len().min(4);
        if choices == 0 {
            return Ok(false);
        }
        let choice = rng.below(choices as u64) as usize;
        if choice >= enabled.len() {
            let mut at = movable[rng.below(movable.len() as u64) as usize];
            if self.work[at].is_of_names() {
                let core = self.work[at].core;
                at = self.work.iter().position(|w| w.is_of_names() && w.core == core).expect("it is one of them");
            }
            trace(&|| format!("disk: {} of core {}", self.work[at].name(), self.work[at].core));
            let steps = 1 + rng.below(24);
            if self.work[at].advance(disk, steps, rng) {
                let work = self.work.remove(at);
                let core = work.core;
                self.written.extend(work.written.clone().map(|place| (core, place)));
                self.executors[core].reports.extend(work.report());
            }
            return Ok(true);
        }
        let index = enabled[choice];
        trace(&|| format!("executor {index}: {}", self.executors[index].phase()));
        let Outcome { sent, disk: effects, clients: messages, fatal } = self.executors[index].step(now, rng);
        if let Some(line) = fatal {
            return Err(line);
        }
        for (to, batch) in sent {
            self.executors[to].receive(index, batch);
        }
        for effect in effects {
            self.work.push(Work::of(index, effect, &self.paths));
        }
        clients.extend(messages.into_iter().map(|message| match message {
            Outgoing::Message(call, _) | Outgoing::Finish(call, _) => (call, message),
        }));
        Ok(true)
    }

    /// Power fails. Where the last reported WAL write of each core was.
    pub fn crash(self, disk: &mut SimDisk, rng: &mut Prng) -> Vec<(PathBuf, u64)> {
        for work in self.work {
            work.crash(disk, rng);
        }
        disk.crash(rng);
        self.written.into_values().collect()
    }
}

#[allow(clippy::too_many_arguments, reason = "what recovery found, spelled out")]
fn core_seed(
    found: &recover::Found,
    identity: &Identity,
    layout: &Layout,
    id: CoreId,
    run: RunNumber,
    cache_bytes: usize,
    paths: &Paths,
    rng: &mut Prng,
) -> CoreSeed {
    let tails = layout.groups_of(id).filter_map(|g| found.wal.groups.iter().find(|r| r.group == g)).map(|r| r.tail());
    CoreSeed {
        id,
        groups: layout
            .groups_of(id)
            .map(|group| found.seed(paths, identity, group, pages::Options::with_cache(cache_bytes)))
            .collect(),
        writer: WriterOptions {
            cluster: identity.cluster,
            member: identity.member,
            wal: WalId { run, core: id },
            cores: layout.cores,
            salt: rng.u64(),
            term: found.wal.term,
            vote: found.wal.vote,
            known: found.wal.known,
            ends: found.wal.ends.clone(),
            tails: tails.collect(),
            limits: LIMITS,
        },
        earlier: if id == CoreId(0) { found.wal.ledger.clone() } else { Ledger::default() },
        term: found.wal.term,
        vote: found.wal.vote,
        known_stable: found.known_stable(),
        segment_bytes: SEGMENT_BYTES,
        member: pb::Member { id: identity.member.get(), name: "default".into(), ..pb::Member::default() },
        heartbeat_interval: ELECTION_TIMEOUT / 10,
        election_timeout: ELECTION_TIMEOUT,
        auto_compaction: AutoCompaction::Off,
        seed: rng.u64(),
    }
}

fn front_config(front: crate::base::FrontId, layout: &Layout, rng: &mut Prng) -> front::Config {
    front::Config {
        front,
        cluster: layout.cluster,
        member: layout.member,
        layout: front::Layout {
            shards: layout.shards,
            cores: (0..=layout.shards).map(|g| layout.core_of(GroupId(g))).collect(),
        },
        request_bytes_max: 1 << 20,
        txn_ops_max: 128,
        quota_bytes: 0,
        lease_ttl_min: 2,
        election_timeout: ELECTION_TIMEOUT,
        progress_interval: Duration::from_secs(5),
        room: front::RoomSize::default(),
        seed: rng.u64(),
    }
}
