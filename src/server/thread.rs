//! What runs on one executor: its core and its front are made here, from plain data, and the pump runs them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{CoreId, GroupId, Instant, MemberId, Prng, Revision, Term};
use crate::config::AutoCompaction;
use crate::coordinator::{Chief, ChiefParts};
use crate::front::{self, Front, QUOTA_DEFAULT_BYTES};
use crate::gateway;
use crate::io::{Clock, Disk, Durability, File, Listener, Network, Open, OpenMode, Tasks, Urgency};
use crate::metrics::{Reader, Recorder};
use crate::proto::etcdserverpb as pb;
use crate::pump::{Bell, CoreDisk, Ended, Executor, ExecutorParts, Internal, Metering, Queues};
use crate::raft::{self, Election};
use crate::reign::Board;
use crate::rpc::{Connections, Options, Port};
use crate::runtime::{self, AcceptedSocket};
use crate::shard::{Core, CoreLog, Layout};
use crate::wal::{Ledger, Writer, WriterOptions};

use super::http::Http;
use super::recover::{Files, GroupSeed, Identity, SystemFiles};

/// How long open streams get to end when the member stops.
const CALLS_GRACE: Duration = Duration::from_secs(2);
/// How long a listener rests after an error of its own (too many open files).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a core is made from.
pub struct CoreSeed {
    /// Which core.
    pub id: CoreId,
    /// Its groups, lowest first.
    pub groups: Vec<GroupSeed>,
    /// Its WAL of this run.
    pub writer: WriterOptions,
    /// The segments of earlier runs; for core 0.
    pub earlier: Ledger,
    /// The member's term, as its disk has it.
    pub term: Term,
    /// Whom it voted for.
    pub vote: Option<MemberId>,
    /// The highest revision that any of the member's files knows to be stable.
    pub known_stable: Revision,
    /// The length of WAL segments.
    pub segment_bytes: u64,
    /// The member, as the list shows it.
    pub member: pb::Member,
    /// For the election.
    pub heartbeat_interval: Duration,
    /// For the election and new leaders' leases.
    pub election_timeout: Duration,
    /// What is compacted unasked.
    pub auto_compaction: AutoCompaction,
    /// For chance.
    pub seed: u64,
}

/// What a front is made from.
pub struct FrontSeed {
    /// Its configuration.
    pub config: front::Config,
    /// --max-request-bytes.
    pub request_bytes_max: usize,
    /// The listeners; the first front takes connections for all.
    pub listeners: Vec<TcpListener>,
    /// Connections that the first front took for this one.
    pub accepted: flume::Receiver<AcceptedSocket>,
    /// The way to every front.
    pub to_fronts: Vec<flume::Sender<AcceptedSocket>>,
    /// Connections are taken when this has come.
    pub accept: flume::Receiver<()>,
}

/// What an executor's thread is made from.
pub struct Seed {
    /// The process's layout.
    pub layout: Layout,
    /// Who the member is.
    pub identity: Identity,
    /// The board.
    pub board: Arc<Board>,
    /// Where segments are.
    pub wal_folder: PathBuf,
    /// The core that lives here.
    pub core: Option<CoreSeed>,
    /// The front that lives here.
    pub front: Option<FrontSeed>,
    /// Its end of the queues.
    pub queues: Queues,
    /// What is counted here.
    pub recorder: Recorder,
    /// What is counted everywhere.
    pub readers: Arc<[Reader]>,
    /// Told when the front has a reign to serve in.
    pub ready: flume::Sender<()>,
    /// Told how it ended.
    pub ended: flume::Sender<Result<(), String>>,
}

/// Runs one executor until it stops or fails, and tells how it ended.
pub async fn run(executor: runtime::Executor, seed: Seed) {
    let ended = seed.ended.clone();
    let outcome = match try_run(executor, seed).await {
        Ok(Ended::Cleanly) => Ok(()),
        Ok(Ended::Fatally(line)) => Err(line),
        Err(line) => Err(line),
    };
    ended.send(outcome).ok();
    // The executor is not taken down: its helper threads may be in the middle of something for it. The process ends as a whole.
    std::future::pending().await
}

async fn try_run(executor: runtime::Executor, seed: Seed) -> Result<Ended, String> {
    let Seed { layout, identity, board, wal_folder, core, front, queues, recorder, readers, ready, ended: _ } = seed;
    let metering = Rc::new(Metering::new(recorder));
    let bell = Bell::default();
    let reports = Rc::new(RefCell::new(VecDeque::new()));
    let core = match core {
        None => None,
        Some(seed) => {
            let id = seed.id;
            let pages = open_pages(&executor, &seed.groups).await?;
            let (queue, ring) = (reports.clone(), bell.clone());
            let report = move |report| {
                queue.borrow_mut().push_back(report);
                ring.ring();
            };
            let disk = CoreDisk::new(executor.clone(), executor.clone(), wal_folder, pages, metering.clone(), report);
            let core = make_core(&SystemFiles, executor.now(), layout, &identity, &board, seed).map_err(|e| e.to_string())?;
            Some((id, core, disk))
        }
    };
    let front = front.map(|seed| make_front(&executor, seed, board, &bell, &metering, readers));
    let parts = ExecutorParts { tasks: executor, core, front, queues, metering, bell, reports, ready: Some(ready) };
    Ok(Executor::new(parts).run().await)
}

type PageFiles = HashMap<GroupId, Rc<<runtime::Executor as Disk>::File>>;

async fn open_pages(executor: &runtime::Executor, groups: &[GroupSeed]) -> Result<PageFiles, String> {
    let mut files = HashMap::new();
    for seed in groups {
        let mode = if seed.path.exists() { OpenMode::Existing } else { OpenMode::New };
        let open = Open { mode, durability: Durability::OnRequest };
        let file = executor.open(&seed.path, open).await.map_err(|e| failed("opening", &seed.path, &e))?;
        if seed.is_new {
            file.set_length(0).await.map_err(|e| failed("emptying", &seed.path, &e))?;
            file.sync().await.map_err(|e| failed("syncing", &seed.path, &e))?;
        }
        files.insert(seed.group, Rc::new(file));
    }
    if let Some(folder) = groups.first().and_then(|seed| seed.path.parent()) {
        executor.sync_directory(folder).await.map_err(|e| failed("syncing", folder, &e))?;
    }
    Ok(files)
}

fn failed(what: &str, path: &std::path::Path, error: &dyn fmt::Display) -> String {
    format!("{what} {}: {error}", path.display())
}

/// Makes a core from what recovery found.
///
/// # Errors
/// Its groups' files are damaged.
pub fn make_core(
    files: &impl Files,
    now: Instant,
    layout: Layout,
    identity: &Identity,
    board: &Arc<Board>,
    seed: CoreSeed,
) -> Result<Core, super::recover::RecoverError> {
    let CoreSeed { id, groups, writer, earlier, term, vote, known_stable, segment_bytes, .. } = seed;
    let CoreSeed { member, heartbeat_interval, election_timeout, auto_compaction, seed, .. } = seed;
    let replicas = groups.into_iter().map(|group| group.grow(files, now, identity, term)).collect::<Result<Vec<_>, _>>()?;
    for floor in replicas.iter().map(|replica| replica.floor()).filter(|floor| *floor > Revision::ZERO) {
        board.raise_compact_floor(floor);
    }
    let log = CoreLog::new(now, Writer::new(writer), earlier, segment_bytes);
    let chief = (id == CoreId(0)).then(|| {
        let options = raft::Options {
            me: identity.member,
            cores: layout.cores,
            term,
            vote,
            initial: identity.initial.clone(),
            configuration: (identity.initial.version > 0).then(|| identity.initial.clone()),
            heartbeat_interval,
            election_timeout,
        };
        Chief::new(ChiefParts {
            layout,
            board: board.clone(),
            election: Election::new(now, options, Prng::new(seed)),
            member,
            election_timeout,
            auto_compaction,
        })
    });
    Ok(Core::new(now, id, layout, board.clone(), replicas, log, known_stable, chief))
}

fn make_front(
    executor: &runtime::Executor,
    seed: FrontSeed,
    board: Arc<Board>,
    bell: &Bell,
    metering: &Rc<Metering>,
    readers: Arc<[Reader]>,
) -> (crate::base::FrontId, Front, crate::pump::Calls) {
    let FrontSeed { config, request_bytes_max, listeners, accepted, to_fronts, accept } = seed;
    let id = config.front;
    let port = Port::new();
    let connections = Connections::new(executor.clone(), port.clone(), Options { request_bytes_max });
    let internal = Internal::new(bell.clone());
    let http = Http {
        board: board.clone(),
        internal: internal.clone(),
        tasks: executor.clone(),
        timeout: config.request_timeout(),
        metering: metering.clone(),
        readers,
        member: config.member,
        quota_bytes: if config.quota_bytes == 0 { QUOTA_DEFAULT_BYTES } else { config.quota_bytes },
    };
    executor.spawn(Urgency::Prompt, serve(executor.clone(), connections.clone(), accepted, http));
    executor.spawn(Urgency::Prompt, take_connections(executor.clone(), listeners, to_fronts, accept));
    let ended = Rc::new(Cell::new(false));
    let (tasks, ring, told) = (executor.clone(), bell.clone(), ended.clone());
    let shut_down = move || {
        let (connections, ring, told) = (connections.clone(), ring.clone(), told.clone());
        tasks.spawn(Urgency::Prompt, async move {
            connections.shut_down(CALLS_GRACE).await;
            told.set(true);
            ring.ring();
        });
    };
    (id, Front::new(config, board), crate::pump::Calls::new(port, bell.clone(), internal, metering.clone(), ended, shut_down))
}

/// Serves the connections that were taken for this front.
async fn serve(
    executor: runtime::Executor,
    connections: Connections<runtime::Executor>,
    accepted: flume::Receiver<AcceptedSocket>,
    http: Http<runtime::Executor>,
) {
    while let Ok(socket) = accepted.recv_async().await {
        match executor.adopt(socket) {
            Ok(socket) => {
                let (http, tasks) = (http.clone(), executor.clone());
                connections.open(socket, move |wire, stopping| async move {
                    let handler = async |request| http.answer(request).await;
                    gateway::serve(wire, &handler, &tasks, stopping.stopped()).await;
                });
            }
            Err(error) => tracing::debug!(%error, "rejected connection on client endpoint"),
        }
    }
}

/// Takes connections and deals them out to the fronts in turn.
async fn take_connections(
    executor: runtime::Executor,
    listeners: Vec<TcpListener>,
    to_fronts: Vec<flume::Sender<AcceptedSocket>>,
    accept: flume::Receiver<()>,
) {
    if accept.recv_async().await.is_err() {
        return;
    }
    for listener in listeners {
        let (tasks, to_fronts) = (executor.clone(), to_fronts.clone());
        let listener = match runtime::BoundListener::from_std(&executor, listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a client listener does not listen");
                continue;
            }
        };
        executor.spawn(Urgency::Prompt, async move {
            let mut turn = 0;
            loop {
                match listener.accept().await {
                    Ok(socket) => {
                        to_fronts[turn % to_fronts.len()].send(socket).ok();
                        turn += 1;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "rejected connection on client endpoint");
                        tasks.sleep(ACCEPT_REST).await;
                    }
                }
            }
        });
    }
}
