//! What the flags mean: their typed form, and etcd's rules about them.

use super::bootstrap::InitialMember;
use super::cpus::Cpus;
use super::go::{go_quote, parse_duration};
use super::parse::{ConfigError, Value, read_value};
use super::table::{Class, FLAGS, Flag, find};
use super::url::{Scheme, Url};
use crate::base::limits;
use core::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// etcd's quota where none is given.
const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
/// Above this etcd warns of a quota (it does not refuse it).
const QUOTA_ADVISED_BYTES_MAX: u64 = 8 << 30;
/// Above this etcd warns of --max-request-bytes.
const REQUEST_ADVISED_BYTES_MAX: u64 = 10 << 20;
/// The longest election timeout that etcd takes, in milliseconds.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// The shortest interval of progress notifications; shorter ones are raised to it.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// What a --snapshot-count of 0 stands for, as in etcd, where it is another number.
const SNAPSHOT_COUNT_DEFAULT: u64 = 300_000;
/// etcd's interval of progress notifications where none is given.
const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);

/// The values that were set, per flag of the table.
#[derive(Default)]
pub(super) struct Settings {
    values: Vec<(usize, Option<Value>)>,
}

impl Settings {
    /// Sets the flag to what `text` says.
    ///
    /// # Errors
    /// Why the text is no value of the flag's kind.
    pub(super) fn set(&mut self, index: usize, flag: &Flag, text: &str) -> Result<(), String> {
        let value = read_value(flag.kind, text)?;
        match self.values.iter_mut().find(|(i, _)| *i == index) {
            Some(place) if value.is_some() => place.1 = value,
            Some(_) => {}
            None => self.values.push((index, value)),
        }
        Ok(())
    }

    /// Whether the flag stands on the command line or in the environment.
    pub(super) fn is_set(&self, index: usize) -> bool {
        self.values.iter().any(|(i, _)| *i == index)
    }

    fn is_set_by_name(&self, name: &str) -> bool {
        self.is_set(find(name).expect("a flag of the table"))
    }

    /// The value that was set, or the default.
    fn value(&self, index: usize) -> Option<Value> {
        let set = self.values.iter().find(|(i, _)| *i == index).and_then(|(_, v)| v.clone());
        set.or_else(|| default_value(&FLAGS[index]))
    }

    fn by_name(&self, name: &str) -> Option<Value> {
        self.value(find(name).expect("a flag of the table"))
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        match self.by_name(name) {
            Some(Value::Bool(b)) => b,
            other => unreachable!("--{name} is a truth value, not {other:?}"),
        }
    }

    fn uint(&self, name: &str) -> u64 {
        match self.by_name(name) {
            Some(Value::Uint(n)) => n,
            other => unreachable!("--{name} is a number, not {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.by_name(name) {
            Some(Value::Text(s)) => s,
            other => unreachable!("--{name} is a text, not {other:?}"),
        }
    }

    fn urls(&self, name: &str) -> Vec<Url> {
        match self.by_name(name) {
            Some(Value::Urls(urls)) => urls,
            other => unreachable!("--{name} is a list of URLs, not {other:?}"),
        }
    }
}

/// The default of a flag in the form of its kind; `None` for an empty list of URLs and an empty list of words.
pub(super) fn default_value(flag: &Flag) -> Option<Value> {
    read_value(flag.kind, flag.default).ok().flatten()
}

/// How much the store may hold before writes are refused (NOSPACE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// Bytes in use.
    Bytes(u64),
    /// A negative --quota-backend-bytes.
    Unlimited,
}

/// What is compacted without being asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoCompaction {
    /// Nothing.
    Off,
    /// Revisions older than this.
    Periodic(Duration),
    /// All but this many revisions.
    Revision(u64),
}

/// Whether the member starts a cluster or joins one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitialClusterState {
    /// It starts one.
    New,
    /// It joins one.
    Existing,
}

/// The least level that is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator may want to read.
    Info,
    /// What may need a look.
    Warn,
    /// What went wrong.
    Error,
    /// A broken invariant.
    Panic,
    /// What ends the process.
    Fatal,
}

impl LogLevel {
    fn read(text: &str) -> Option<LogLevel> {
        Some(match text.to_ascii_lowercase().as_str() {
            "debug" => LogLevel::Debug,
            "info" | "" => LogLevel::Info,
            "warn" | "warning" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "dpanic" | "panic" => LogLevel::Panic,
            "fatal" => LogLevel::Fatal,
            _ => return None,
        })
    }
}

/// Everything the member is started with.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// The directory of its data; `NAME.etcd` where none was given.
    pub data_dir: PathBuf,
    /// Where the write-ahead log is, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are served; cleartext HTTP, never empty.
    pub listen_client_urls: Vec<Url>,
    /// What the member list tells to clients; sorted by text.
    pub advertise_client_urls: Vec<Url>,
    /// Where other members are served; never empty.
    pub listen_peer_urls: Vec<Url>,
    /// What a new member makes known; sorted by text.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// As given, or the default for the name and peer URLs. Read by [`Config::initial_member`], on a first start only.
    pub initial_cluster: String,
    /// Whether a first start begins a cluster.
    pub initial_cluster_state: InitialClusterState,
    /// Goes into the ids of members and cluster.
    pub initial_cluster_token: String,
    /// Above zero.
    pub heartbeat_interval: Duration,
    /// At least five heartbeats.
    pub election_timeout: Duration,
    /// When writes are refused.
    pub quota: Quota,
    /// The largest request of a client; a gRPC message may be 512 KiB larger ([`Config::message_bytes_max`]).
    pub max_request_bytes: usize,
    /// The most operations in a transaction.
    pub max_txn_ops: usize,
    /// What is compacted unasked.
    pub auto_compaction: AutoCompaction,
    /// Entries that each group applies between two checkpoints at most; above zero.
    pub snapshot_count: u64,
    /// How often idle watches that asked for it are told the revision.
    pub watch_progress_notify_interval: Duration,
    /// The least level that is logged.
    pub log_level: LogLevel,
    /// Shards of a new cluster; `None`: by the number of shard cores.
    pub shards: Option<u16>,
    /// Front cores; `None`: by the number of CPUs; 0: the shard cores do it.
    pub front_cores: Option<u16>,
    /// The CPUs to use.
    pub cpus: Cpus,
    /// Memory for pages of all shards; `None`: by the machine's memory.
    pub cache_bytes: Option<u64>,
}

impl Config {
    /// Reads the settings and checks them in etcd's order.
    pub(super) fn from_settings(settings: &Settings, warnings: &mut Vec<String>) -> Result<Config, ConfigError> {
        refuse(settings)?;
        let log_level = read_log_level(&settings.text("log-level"))?;
        let listen_peer_urls = bind_urls(settings, "listen-peer-urls")?;
        let listen_client_urls = bind_urls(settings, "listen-client-urls")?;
        let initial_advertise_peer_urls = host_urls(settings, "initial-advertise-peer-urls")?;
        let advertise_client_urls = host_urls(settings, "advertise-client-urls")?;
        let (heartbeat_ms, election_ms) = read_timing(settings)?;
        if settings.is_set_by_name("listen-client-urls") && !settings.is_set_by_name("advertise-client-urls") {
            let message = "--advertise-client-urls is required when --listen-client-urls is set explicitly";
            return Err(ConfigError::refused(message));
        }
        let name = settings.text("name");
        let data_dir = Some(settings.text("data-dir")).filter(|d| !d.is_empty()).unwrap_or_else(|| format!("{name}.etcd"));
        let mut config = Config {
            data_dir: PathBuf::from(data_dir),
            wal_dir: Some(settings.text("wal-dir")).filter(|d| !d.is_empty()).map(PathBuf::from),
            listen_client_urls,
            advertise_client_urls,
            listen_peer_urls,
            initial_advertise_peer_urls,
            initial_cluster: settings.text("initial-cluster"),
            initial_cluster_state: match settings.text("initial-cluster-state").as_str() {
                "existing" => InitialClusterState::Existing,
                _ => InitialClusterState::New,
            },
            initial_cluster_token: settings.text("initial-cluster-token"),
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            election_timeout: Duration::from_millis(election_ms),
            quota: read_quota(settings, warnings),
            max_request_bytes: read_max_request_bytes(settings, warnings)?,
            max_txn_ops: usize::try_from(settings.uint("max-txn-ops")).unwrap_or(usize::MAX),
            auto_compaction: read_auto_compaction(settings)?,
            snapshot_count: Some(settings.uint("snapshot-count")).filter(|n| *n > 0).unwrap_or(SNAPSHOT_COUNT_DEFAULT),
            watch_progress_notify_interval: read_progress_interval(settings, warnings),
            log_level,
            shards: read_count(settings, "shards", limits::SHARDS_MAX)?,
            front_cores: read_front_cores(settings)?,
            cpus: Cpus::parse(&settings.text("cpus")).map_err(|why| ConfigError::refused(format!("--cpus: {why}")))?,
            cache_bytes: Some(settings.uint("cache-bytes")).filter(|b| *b > 0),
            name,
        };
        config.default_initial_cluster();
        Ok(config)
    }

    /// etcd's default of --initial-cluster when only the name is given.
    fn default_initial_cluster(&mut self) {
        let default = FLAGS[find("initial-cluster").expect("a flag of the table")].default;
        if self.name != "default" && self.initial_cluster == default {
            let urls = &self.initial_advertise_peer_urls;
            let name = if self.name.is_empty() { "default" } else { &self.name };
            self.initial_cluster = urls.iter().map(|u| format!("{name}={}", u.as_str())).collect::<Vec<_>>().join(",");
        }
    }

    /// etcd's `UpdateDefaultClusterFromName`: a member that listens on 0.0.0.0 and advertises the default URLs
    /// makes the machine's own address known instead. Call it before [`Config::initial_member`]; true when something changed.
    /// (etcd then leaves the initial cluster of the name `default` as it was, and ends with an error; etcring starts.)
    pub fn use_default_host(&mut self, host: IpAddr) -> bool {
        let swap = |listen: &[Url], advertise: &mut Vec<Url>, default: &str| {
            let [only] = advertise.as_slice() else { return false };
            if only.as_str() != default || listen[0].host() != "0.0.0.0" {
                return false;
            }
            advertise[0] = only.at_host(host, listen[0].port_text());
            true
        };
        let own = self.initial_cluster == self.cluster_of_own_urls();
        let peer = swap(&self.listen_peer_urls, &mut self.initial_advertise_peer_urls, "http://localhost:2380");
        let client = swap(&self.listen_client_urls, &mut self.advertise_client_urls, "http://localhost:2379");
        if peer && own {
            self.initial_cluster = self.cluster_of_own_urls();
        }
        peer || client
    }

    fn cluster_of_own_urls(&self) -> String {
        let pairs = self.initial_advertise_peer_urls.iter().map(|u| format!("{}={}", self.name, u.as_str()));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// What a first start of the member begins with: to be asked only when the data directory is new, as etcd does.
    ///
    /// # Errors
    /// etcd's sentences for an initial cluster that does not fit, and ours for what cannot be started yet.
    pub fn initial_member(&self) -> Result<InitialMember, ConfigError> {
        super::bootstrap::initial_member(self)
    }

    /// The largest gRPC message that is received.
    pub fn message_bytes_max(&self) -> usize {
        self.max_request_bytes + limits::MESSAGE_OVERHEAD_BYTES
    }

    /// How long a request may take before it is answered with etcd's "request timed out".
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout_in_ticks()
    }

    /// The election timeout as etcd counts it: in whole heartbeats.
    fn election_timeout_in_ticks(&self) -> Duration {
        self.heartbeat_interval * self.election_ticks()
    }

    fn election_ticks(&self) -> u32 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis();
        u32::try_from(ticks).expect("at most 50,000 heartbeats of a millisecond")
    }

    /// The smallest TTL of a lease, in seconds.
    pub fn min_lease_ttl_seconds(&self) -> i64 {
        min_lease_ttl_seconds(self.heartbeat_interval, self.election_timeout)
    }
}

/// The smallest TTL of a lease, in seconds: one and a half election timeouts, counted as etcd counts
/// (whole ticks, `3·ticks/2` without its fraction), rounded up to seconds.
pub fn min_lease_ttl_seconds(heartbeat: Duration, election_timeout: Duration) -> i64 {
    assert!(!heartbeat.is_zero(), "a heartbeat interval is above zero");
    let ticks = election_timeout.as_millis() / heartbeat.as_millis();
    let millis = (3 * ticks / 2) * heartbeat.as_millis();
    i64::try_from(millis.div_ceil(1000)).expect("seconds of a bounded timeout")
}

/// Ends with the first flag that asks for what etcring does not do yet.
fn refuse(settings: &Settings) -> Result<(), ConfigError> {
    let asks = |(index, flag): &(usize, &Flag)| {
        flag.class == Class::Refused && settings.is_set(*index) && settings.value(*index) != default_value(flag)
    };
    if let Some((_, flag)) = FLAGS.iter().enumerate().find(asks) {
        return Err(ConfigError::refused(format!("--{} is not supported by etcring yet", flag.name)));
    }
    Ok(())
}

fn read_log_level(text: &str) -> Result<LogLevel, ConfigError> {
    LogLevel::read(text).ok_or_else(|| {
        let levels = "debug, info, warn, error, panic or fatal";
        ConfigError::refused(format!("--log-level: unrecognized level: {} (it is one of {levels})", go_quote(text)))
    })
}

/// Listeners: an IP or localhost, cleartext, a port that exists.
fn bind_urls(settings: &Settings, flag: &str) -> Result<Vec<Url>, ConfigError> {
    let urls = settings.urls(flag);
    for url in &urls {
        refuse_scheme(flag, url)?;
        if url.host() != "localhost" && url.host().parse::<IpAddr>().is_err() {
            return Err(ConfigError::refused(format!("expected IP in URL for binding ({})", url.as_str())));
        }
        if url.port().is_none() {
            return Err(ConfigError::refused(format!("--{flag}: invalid port in {}", url.as_str())));
        }
    }
    assert!(!urls.is_empty(), "the default of --{flag} is not empty, and an empty list leaves it");
    Ok(urls)
}

/// Advertised URLs: a host that others can look up, cleartext.
fn host_urls(settings: &Settings, flag: &str) -> Result<Vec<Url>, ConfigError> {
    let urls = settings.urls(flag);
    for url in &urls {
        refuse_scheme(flag, url)?;
        if url.host().is_empty() {
            let all = go_quote(&urls.iter().map(Url::as_str).collect::<Vec<_>>().join(","));
            let form = match flag {
                "advertise-client-urls" => r#"in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket""#,
                _ => r#""host:port""#,
            };
            return Err(ConfigError::refused(format!(
                "--{flag} {all} must be {form} (unexpected empty host ({}))",
                url.as_str()
            )));
        }
    }
    Ok(urls)
}

fn refuse_scheme(flag: &str, url: &Url) -> Result<(), ConfigError> {
    let what = match url.scheme() {
        Scheme::Http => return Ok(()),
        Scheme::Https | Scheme::Unixs => "TLS",
        Scheme::Unix => "unix sockets",
    };
    Err(ConfigError::refused(format!("--{flag} {}: etcring does not support {what} yet, use an http:// URL", url.as_str())))
}

/// Heartbeat interval and election timeout in milliseconds, with etcd's rules between them.
fn read_timing(settings: &Settings) -> Result<(u64, u64), ConfigError> {
    let (heartbeat, election) = (settings.uint("heartbeat-interval"), settings.uint("election-timeout"));
    let message = if heartbeat == 0 {
        format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    } else if election == 0 {
        format!("--election-timeout must be >0 (set to {election}ms)")
    } else if heartbeat.saturating_mul(5) > election {
        format!("--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]")
    } else if election > ELECTION_TIMEOUT_MS_MAX {
        format!("--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_TIMEOUT_MS_MAX}ms")
    } else {
        return Ok((heartbeat, election));
    };
    Err(ConfigError::refused(message))
}

fn read_quota(settings: &Settings, warnings: &mut Vec<String>) -> Quota {
    let Some(Value::Int(given)) = settings.by_name("quota-backend-bytes") else {
        unreachable!("--quota-backend-bytes is a number");
    };
    match u64::try_from(given) {
        Err(_) => Quota::Unlimited,
        Ok(0) => Quota::Bytes(QUOTA_DEFAULT_BYTES),
        Ok(bytes) => {
            if bytes > QUOTA_ADVISED_BYTES_MAX {
                warnings.push(format!("quota exceeds the maximum value: {bytes} bytes, advised are {QUOTA_ADVISED_BYTES_MAX}"));
            }
            Quota::Bytes(bytes)
        }
    }
}

fn read_max_request_bytes(settings: &Settings, warnings: &mut Vec<String>) -> Result<usize, ConfigError> {
    let bytes = settings.uint("max-request-bytes");
    if bytes > limits::REQUEST_BYTES_MAX as u64 {
        let max = limits::REQUEST_BYTES_MAX;
        return Err(ConfigError::refused(format!(
            "--max-request-bytes[{bytes}] is above {max}, the most that etcring can take"
        )));
    }
    if bytes > REQUEST_ADVISED_BYTES_MAX {
        warnings
            .push(format!("exceeded recommended request limit: {bytes} bytes, recommended are {REQUEST_ADVISED_BYTES_MAX}"));
    }
    Ok(usize::try_from(bytes).expect("below a limit that is a usize"))
}

/// etcd's `parseCompactionRetention`.
fn read_auto_compaction(settings: &Settings) -> Result<AutoCompaction, ConfigError> {
    let (mode, retention) = (settings.text("auto-compaction-mode"), settings.text("auto-compaction-retention"));
    let revision = match mode.as_str() {
        "periodic" => false,
        "revision" => true,
        "" => return Err(ConfigError::refused("undefined auto-compaction-mode")),
        _ => return Err(ConfigError::refused(format!("unknown auto-compaction-mode {}", go_quote(&mode)))),
    };
    let plain = retention.strip_prefix('+').unwrap_or(&retention);
    let number = plain.parse::<u64>().ok().filter(|_| plain.bytes().all(|b| b.is_ascii_digit()));
    let nanos = match number {
        Some(0) => return Ok(AutoCompaction::Off),
        Some(n) if revision => return Ok(AutoCompaction::Revision(n)),
        Some(hours) => i64::try_from(i128::from(hours) * 3_600_000_000_000)
            .map_err(|_| ConfigError::refused(format!("--auto-compaction-retention: {hours} hours are too long")))?,
        None => parse_duration(&retention)
            .map_err(|why| ConfigError::refused(format!("error parsing CompactionRetention: {why}")))?,
    };
    match u64::try_from(nanos) {
        Err(_) => Err(ConfigError::refused(format!("--auto-compaction-retention {} is negative", go_quote(&retention)))),
        Ok(0) => Ok(AutoCompaction::Off),
        // etcd too takes a duration for its nanoseconds here.
        Ok(n) if revision => Ok(AutoCompaction::Revision(n)),
        Ok(n) => Ok(AutoCompaction::Periodic(Duration::from_nanos(n))),
    }
}

fn read_progress_interval(settings: &Settings, warnings: &mut Vec<String>) -> Duration {
    let Some(Value::Duration(nanos)) = settings.by_name("watch-progress-notify-interval") else {
        unreachable!("--watch-progress-notify-interval is a duration");
    };
    match u64::try_from(nanos).unwrap_or(0) {
        0 => PROGRESS_INTERVAL_DEFAULT,
        n if Duration::from_nanos(n) < PROGRESS_INTERVAL_MIN => {
            warnings.push("adjusting watch progress notify interval to minimum period: 100ms".to_owned());
            PROGRESS_INTERVAL_MIN
        }
        n => Duration::from_nanos(n),
    }
}

/// A number of things, 0 for "as it comes".
fn read_count(settings: &Settings, flag: &str, max: usize) -> Result<Option<u16>, ConfigError> {
    match settings.uint(flag) {
        0 => Ok(None),
        n if n <= max as u64 => Ok(Some(u16::try_from(n).expect("a limit below 65536"))),
        n => Err(ConfigError::refused(format!("--{flag}={n} is above {max}"))),
    }
}

fn read_front_cores(settings: &Settings) -> Result<Option<u16>, ConfigError> {
    let text = settings.text("front-cores");
    if text == "auto" || text.is_empty() {
        return Ok(None);
    }
    match text.parse::<u16>() {
        Ok(n) if usize::from(n) <= limits::CORES_MAX => Ok(Some(n)),
        _ => {
            Err(ConfigError::refused(format!("--front-cores={text} is neither auto nor a number up to {}", limits::CORES_MAX)))
        }
    }
}
