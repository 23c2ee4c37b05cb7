//! From a configuration to a running member: directories, recovery, threads, listeners, and the way back.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::limits::{
    ARRIVALS_GATHER_MAX, DIRTY_AT_LATEST_BYTES_MAX, DIRTY_AT_LATEST_PART, DIRTY_BYTES_MAX, DIRTY_PART, HOT_MEMORY_PART,
    SEGMENT_BYTES, SHARDS_DEFAULT_MAX,
};
use crate::base::{CoreId, FrontId, GroupId, RunNumber, SegmentSequence};
use crate::config::{Config, Quota};
use crate::front;
use crate::group::CheckpointPolicy;
use crate::metrics::{Reader, Recorder};
use crate::pages;
use crate::proto::etcdserverpb as pb;
use crate::pump::{Envelope, Homes, Queues};
use crate::raft::Configuration;
use crate::reign::{Board, BoardSizes};
use crate::runtime;
use crate::shard::Layout;
use crate::wal::{Ledger, SegmentName, WalId, WriterLimits, WriterOptions};

use super::allocator;
use super::cores::{self, cpus_found};
use super::datadir::{DataDir, DataDirError, Stage};
use super::identity::{cluster_id, initial_member_id};
use super::memory;
use super::probe;
use super::recover::{self, GroupSeed, Identity, RecoverError, SystemFiles};
use super::signals::Signals;
use super::thread::{self, CoreSeed, FrontSeed, Seed};

/// Memory for pages when --cache-bytes is not given.
const CACHE_BYTES_DEFAULT: u64 = 256 << 20;
const META_CACHE_BYTES_MAX: usize = 8 << 20;
/// The port of a URL without one.
const CLIENT_PORT: u16 = 2379;
/// How long a clean stop may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a port may stay taken before the start is given up, and how long until it is tried again.
const LISTEN_PATIENCE: Duration = Duration::from_secs(1);
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// A thread that says nothing of why it ended.
const ENDED_EARLY: &str = "a thread ended before it was ready";

/// Why the member did not start, or why it ended.
#[derive(Debug)]
pub enum StartError {
    /// What the probe found, a line each.
    Probe(Vec<String>),
    /// The data directory cannot be used.
    DataDir(DataDirError),
    /// What is in it cannot be used.
    Recover(RecoverError),
    /// The flags do not fit.
    Config(String),
    /// A port is taken.
    Listen(String),
    /// The operating system says no.
    Io(&'static str, io::Error),
    /// The member could not go on.
    Fatal(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Probe(lines) => f.write_str(&lines.join("; ")),
            StartError::DataDir(e) => write!(f, "{e}"),
            StartError::Recover(e) => write!(f, "{e}"),
            StartError::Config(line) | StartError::Listen(line) | StartError::Fatal(line) => f.write_str(line),
            StartError::Io(what, e) => write!(f, "{what}: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs a member until one of `signals` tells it to stop.
///
/// # Errors
/// [`StartError`], in the words for whoever runs it.
pub fn run(mut config: Config, signals: &Signals) -> Result<(), StartError> {
    if let Some(host) = cores::default_host() {
        config.use_default_host(host);
    }
    let plan = cores::layout(cpus_found(), &config.cpus, config.front_cores);
    let problems = probe::probe_machine(plan.threads() as u64);
    if !problems.is_empty() {
        return Err(StartError::Probe(problems.iter().map(ToString::to_string).collect()));
    }
    probe::raise_open_files();
    // The executors open directories by io_uring without a directory to begin at: a relative path leads nowhere there.
    for path in [Some(&mut config.data_dir), config.wal_dir.as_mut()].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(|e| StartError::Io("finding the current directory", e))?;
    }
    let mut dir = DataDir::open(&config.data_dir, config.wal_dir.as_deref()).map_err(StartError::DataDir)?;
    for block in dir.paths().blocks() {
        probe::probe_direct_io(&block).map_err(|p| StartError::Probe(vec![p.to_string()]))?;
    }
    remove_unfinished(&dir);
    let addresses = addresses(&config)?;
    let listeners = addresses.iter().map(|&address| bind(address)).collect::<Result<Vec<_>, _>>()?;
    let found = recover::find(&SystemFiles, dir.paths());
    if let Stage::Started(run) = dir.stage() {
        // Before any other damage: that files are missing explains it.
        recover::check_files(&SystemFiles, dir.paths(), run, found.as_ref().ok()).map_err(StartError::Recover)?;
    }
    let found = found.map_err(StartError::Recover)?;
    for tail in &found.wal.cut_tails {
        tracing::warn!("{tail}");
    }
    let identity = identify(&config, &found, plan.shard_cores)?;
    let member = Member { config, plan, identity };
    let running = member.launch(&mut dir, found, listeners)?;
    running.serve(dir, signals)
}

struct Member {
    config: Config,
    plan: cores::Layout,
    identity: Identity,
}

/// The threads of a member.
struct Running {
    senders: Vec<flume::Sender<Vec<Envelope>>>,
    ended: flume::Receiver<Result<(), String>>,
    ready: flume::Receiver<()>,
    accept: Vec<flume::Sender<()>>,
    threads: usize,
    run: RunNumber,
}

impl Member {
    fn launch(
        &self,
        dir: &mut DataDir,
        found: recover::Found,
        listeners: Vec<std::net::TcpListener>,
    ) -> Result<Running, StartError> {
        let (layout, homes) = self.layout();
        let (groups, cores, fronts) = (usize::from(layout.shards) + 1, usize::from(layout.cores), usize::from(layout.fronts));
        let board = Arc::new(Board::new(BoardSizes { groups, cores, fronts }));
        let threads = self.plan.threads();
        let run = RunNumber(found.wal.run.0 + 1);
        let mut core_seeds = self.core_seeds(dir, &found, &layout, run)?.into_iter();
        let (mut front_seeds, accept) = self.front_seeds(&layout, listeners)?;
        let (ended_sender, ended) = flume::unbounded();
        let (ready_sender, ready) = flume::unbounded();
        let mut recorders: Vec<Recorder> = (0..threads).map(|_| Recorder::new()).collect();
        let readers: Arc<[Reader]> = recorders.iter().map(Recorder::reader).collect();
        let queues = Queues::connect(threads, &homes);
        let senders = queues[0].senders();
        for (index, queues) in queues.into_iter().enumerate() {
            let seed = Seed {
                layout,
                identity: self.identity.clone(),
                board: board.clone(),
                wal_folder: dir.paths().wal().to_path_buf(),
                core: core_seeds.next(),
                front: homes.fronts.contains(&index).then(|| front_seeds.pop_front().expect("one for each front")),
                queues,
                recorder: recorders.pop().expect("one for each thread"),
                readers: readers.clone(),
                ready: ready_sender.clone(),
                ended: ended_sender.clone(),
            };
            let options = runtime::CoreOptions {
                name: format!("etcring-{index}"),
                cpu: self.plan.pin_of(index).map(usize::from),
                spin: Duration::ZERO,
                gather: ARRIVALS_GATHER_MAX,
            };
            runtime::start(&options, move |executor| thread::run(executor, seed))
                .map_err(|e| StartError::Io("starting an executor", e))?;
        }
        Ok(Running { senders, ended, ready, accept, threads, run })
    }

    /// The process's layout, and on which thread each core and front lives: cores on the first ones, fronts with them or behind.
    fn layout(&self) -> (Layout, Homes) {
        let of = |count: usize| u16::try_from(count).expect("bounded by the layout");
        let cores = of(self.plan.shard_cores);
        let (fronts, first_front) = if self.plan.fronts == 0 { (cores, 0) } else { (of(self.plan.fronts), cores) };
        let layout = Layout {
            cluster: self.identity.cluster,
            member: self.identity.member,
            shards: self.identity.initial.shards,
            cores,
            fronts,
            checkpoints: self.checkpoints(),
        };
        let homes = Homes {
            cores: (0..usize::from(cores)).collect(),
            fronts: (0..fronts).map(|front| usize::from(first_front + front)).collect(),
        };
        (layout, homes)
    }

    /// What the cores are made from, core 0's first. The first segments of all of them are under their names on disk when this ends,
    /// before any is written to.
    fn core_seeds(
        &self,
        dir: &DataDir,
        found: &recover::Found,
        layout: &Layout,
        run: RunNumber,
    ) -> Result<Vec<CoreSeed>, StartError> {
        let mut groups = self.group_seeds(dir, found, layout);
        let mut seeds = Vec::new();
        for id in (0..layout.cores).map(CoreId) {
            seeds.push(CoreSeed {
                id,
                groups: layout.groups_of(id).map(|g| groups.remove(&g).expect("a seed for every group")).collect(),
                writer: self.writer(dir, id, run, layout.cores, found, layout)?,
                earlier: if id == CoreId(0) { found.wal.ledger.clone() } else { Ledger::default() },
                term: found.wal.term,
                vote: found.wal.vote,
                known_stable: found.known_stable(),
                segment_bytes: SEGMENT_BYTES as u64,
                member: self.member(),
                heartbeat_interval: self.config.heartbeat_interval,
                election_timeout: self.config.election_timeout,
                auto_compaction: self.config.auto_compaction,
                seed: random()?,
            });
        }
        dir.paths().sync().map_err(StartError::DataDir)?;
        Ok(seeds)
    }

    /// What the fronts are made from, the first with all listeners, and how each is told to take connections.
    fn front_seeds(
        &self,
        layout: &Layout,
        listeners: Vec<std::net::TcpListener>,
    ) -> Result<(VecDeque<FrontSeed>, Vec<flume::Sender<()>>), StartError> {
        let (to_fronts, accepted): (Vec<_>, Vec<_>) = (0..layout.fronts).map(|_| flume::unbounded()).unzip();
        let mut listeners = Some(listeners);
        let mut seeds = VecDeque::new();
        let mut accept = Vec::new();
        for (id, accepted) in (0..layout.fronts).map(FrontId).zip(accepted) {
            let (sender, receiver) = flume::bounded(1);
            accept.push(sender);
            seeds.push_back(FrontSeed {
                config: self.front(id, layout)?,
                request_bytes_max: self.config.max_request_bytes,
                listeners: listeners.take().unwrap_or_default(),
                accepted,
                to_fronts: to_fronts.clone(),
                accept: receiver,
            });
        }
        Ok((seeds, accept))
    }

    fn checkpoints(&self) -> CheckpointPolicy {
        // The later a page is written, the more changes of it go in one write. Those of a checkpoint under way and those dirty beside it
        // take no more than two thirds of the memory for pages.
        let of = |bytes: u64, part: u64| (bytes / u64::from(self.identity.initial.shards) / part).max(256 << 10);
        CheckpointPolicy {
            dirty_bytes: of(self.cache_bytes(), DIRTY_PART).min(DIRTY_BYTES_MAX),
            dirty_bytes_max: of(self.hot_bytes(), DIRTY_AT_LATEST_PART).min(DIRTY_AT_LATEST_BYTES_MAX),
            entries: self.config.snapshot_count,
            interval: Duration::from_secs(30),
        }
    }

    fn cache_bytes(&self) -> u64 {
        self.config.cache_bytes.unwrap_or(CACHE_BYTES_DEFAULT)
    }

    /// What pages in use may take.
    fn hot_bytes(&self) -> u64 {
        self.config.cache_bytes.unwrap_or_else(|| CACHE_BYTES_DEFAULT.max(memory::found() / HOT_MEMORY_PART))
    }

    fn group_seeds(&self, dir: &DataDir, found: &recover::Found, layout: &Layout) -> HashMap<GroupId, GroupSeed> {
        let per_group = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX) / usize::from(layout.shards);
        let (cache_bytes, hot_bytes) = (per_group(self.cache_bytes()), per_group(self.hot_bytes()));
        let seed = |group: GroupId| {
            let most = if group == GroupId::META { META_CACHE_BYTES_MAX } else { usize::MAX };
            let cache = pages::Options::with_cache(cache_bytes.min(most));
            let pages = pages::Options { hot_bytes: hot_bytes.min(most), ..cache };
            found.seed(dir.paths(), &self.identity, group, pages)
        };
        (0..=layout.shards).map(GroupId).map(|group| (group, seed(group))).collect()
    }

    /// The writer of a core's WAL; its first segment is made here, so that those of all cores are there before any is written to.
    fn writer(
        &self,
        dir: &DataDir,
        core: CoreId,
        run: RunNumber,
        cores: u16,
        found: &recover::Found,
        layout: &Layout,
    ) -> Result<WriterOptions, StartError> {
        let wal = WalId { run, core };
        let first = SegmentName { wal, sequence: SegmentSequence(1) };
        let path = dir.paths().segment(first);
        allocate(&path).map_err(|e| StartError::Fatal(probe::no_segment(&path, SEGMENT_BYTES as u64, &e)))?;
        let tails = layout.groups_of(core).filter_map(|g| found.wal.groups.iter().find(|r| r.group == g)).map(|r| r.tail());
        Ok(WriterOptions {
            cluster: self.identity.cluster,
            member: self.identity.member,
            wal,
            cores,
            salt: random()?,
            term: found.wal.term,
            vote: found.wal.vote,
            known: found.wal.known,
            ends: found.wal.ends.clone(),
            tails: tails.collect(),
            limits: WriterLimits::default(),
        })
    }

    fn member(&self) -> pb::Member {
        let texts = |urls: &[crate::config::Url]| urls.iter().map(|u| u.as_str().to_owned()).collect();
        pb::Member {
            id: self.identity.member.get(),
            name: self.config.name.clone(),
            peer_ur_ls: texts(&self.config.initial_advertise_peer_urls),
            client_ur_ls: texts(&self.config.advertise_client_urls),
            is_learner: false,
        }
    }

    fn front(&self, id: FrontId, layout: &Layout) -> Result<front::Config, StartError> {
        let config = &self.config;
        Ok(front::Config {
            front: id,
            cluster: self.identity.cluster,
            member: self.identity.member,
            layout: front::Layout {
                shards: layout.shards,
                cores: (0..=layout.shards).map(|g| layout.core_of(GroupId(g))).collect(),
            },
            request_bytes_max: config.max_request_bytes,
            txn_ops_max: config.max_txn_ops,
            quota_bytes: match config.quota {
                Quota::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
                Quota::Unlimited => -1,
            },
            lease_ttl_min: config.min_lease_ttl_seconds(),
            election_timeout: config.election_timeout,
            progress_interval: config.watch_progress_notify_interval,
            room: front::RoomSize::default(),
            seed: random()?,
        })
    }
}

impl Running {
    /// What the first thread that ended during the start says.
    fn why_ended(&self) -> String {
        self.ended.recv().ok().and_then(Result::err).unwrap_or_else(|| ENDED_EARLY.into())
    }

    /// Serves from the moment that the member leads until a signal or a failure.
    fn serve(self, mut dir: DataDir, signals: &Signals) -> Result<(), StartError> {
        allocator::keep();
        let stopping = signals.watch();
        for _ in 0..self.accept.len() {
            let early = flume::Selector::new()
                .recv(&self.ready, |r| r.map(|()| None).map_err(|_| None))
                .recv(&stopping, |signal| Ok(Some(signal.unwrap_or_default())))
                .recv(&self.ended, |r| Err(r.ok().and_then(Result::err)))
                .wait();
            // A thread that is gone says why within moments; asked for here, where the selector does not take the news.
            let early = early.map_err(|line| StartError::Fatal(line.unwrap_or_else(|| self.why_ended())));
            if let Some(signal) = early? {
                // Nobody has been answered yet: there is nothing to finish.
                tracing::info!(signal, "received signal before the start was complete; shutting down");
                return Ok(());
            }
        }
        dir.mark_started(self.run).map_err(StartError::DataDir)?;
        for accept in &self.accept {
            accept.send(()).ok();
        }
        tracing::info!("ready to serve client requests");
        super::notify::notify(std::env::var_os("NOTIFY_SOCKET").as_deref(), "READY=1").ok();
        let stopped = loop {
            let news = flume::Selector::new()
                .recv(&stopping, |signal| Ok(signal.unwrap_or_default()))
                .recv(&self.ended, |r| Err(r.ok().and_then(Result::err).unwrap_or_else(|| "a thread ended by itself".into())))
                .wait_timeout(allocator::GIVE_BACK_INTERVAL);
            match news {
                Ok(stopped) => break stopped,
                Err(_) => allocator::give_back(),
            }
        };
        let signal = stopped.map_err(StartError::Fatal)?;
        tracing::info!(signal, "received signal; shutting down");
        super::notify::notify(std::env::var_os("NOTIFY_SOCKET").as_deref(), "STOPPING=1").ok();
        for sender in &self.senders {
            sender.send(vec![Envelope::Stop]).ok();
        }
        let until = std::time::Instant::now() + STOP_TIME_MAX;
        for _ in 0..self.threads {
            match self.ended.recv_deadline(until) {
                Ok(Ok(())) => {}
                Ok(Err(line)) => return Err(StartError::Fatal(line)),
                // Everything acknowledged is in the WAL: what is left undone is only work for the next start.
                Err(_) => tracing::warn!("the clean stop took too long and is cut short"),
            }
        }
        Ok(())
    }
}

/// Who the member is: what its data says, or on a first start what its flags say.
fn identify(config: &Config, found: &recover::Found, shard_cores: usize) -> Result<Identity, StartError> {
    let ids = found.wal.ids.or_else(|| found.notes.values().next().map(|n| (n.cluster, n.member)));
    let chosen = config.shards.unwrap_or_else(|| shard_cores.min(SHARDS_DEFAULT_MAX) as u16);
    let shards = found.shards().unwrap_or(chosen);
    if config.shards.is_some_and(|asked| asked != shards) {
        tracing::warn!(asked = chosen, shards, "--shards differs from the data directory's, which counts");
    }
    let (cluster, member) = match ids {
        Some(ids) => ids,
        None => {
            let initial = config.initial_member().map_err(|e| StartError::Config(e.message))?;
            let member = initial_member_id(&initial.peer_urls, &initial.token);
            (cluster_id(&[member]), member)
        }
    };
    let initial = Configuration::new(0, shards, vec![member], Vec::new()).map_err(|e| StartError::Config(e.to_string()))?;
    let initial = found.configuration().unwrap_or(initial);
    Ok(Identity { cluster, member, initial })
}

/// Segments that an earlier run was making when it ended hold nothing.
fn remove_unfinished(dir: &DataDir) {
    let Ok(listing) = dir.paths().list() else { return };
    for path in listing.others.iter().filter(|path| path.extension().is_some_and(|e| e == "new")) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "a half-made WAL segment could not be removed");
        }
    }
}

/// The addresses of the client URLs: every one that their hosts resolve to.
fn addresses(config: &Config) -> Result<Vec<SocketAddr>, StartError> {
    let mut all = Vec::new();
    for url in &config.listen_client_urls {
        let found = runtime::resolve(url.host(), url.port().unwrap_or(CLIENT_PORT));
        all.extend(found.map_err(|e| StartError::Listen(format!("--listen-client-urls: cannot resolve {}: {e}", url.host())))?);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The kernel closes the sockets of an io_uring shortly after their process has ended: the port of a member that was just stopped
/// may be taken for a moment still.
fn bind(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let give_up = Instant::now() + LISTEN_PATIENCE;
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => std::thread::sleep(LISTEN_PAUSE),
            Err(e) => return Err(StartError::Listen(probe::port_taken("listen-client-urls", address, &e))),
        }
    }
}

/// Makes a segment file with its space reserved, under another name until it is whole.
fn allocate(path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
    // SAFETY: the descriptor is open for as long as `file` lives.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, SEGMENT_BYTES as i64) } != 0;
    let made = if failed { Err(io::Error::last_os_error()) } else { file.sync_all() };
    match made {
        Ok(()) => std::fs::rename(&unfinished, path),
        Err(error) => {
            // What cannot be removed now is at the next start.
            let _ = std::fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

/// 64 bits from the system's generator.
fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|e| StartError::Io("reading /dev/urandom", e))?;
    Ok(u64::from_ne_bytes(bytes))
}
