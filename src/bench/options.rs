//! The command line of `etcring bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::keys::Pattern;
use crate::config;

/// Puts load on any server that speaks etcd's API, and says how fast and how evenly it answered.
#[derive(Parser, Debug)]
#[command(name = "etcring bench", disable_version_flag = true, args_override_self = true)]
pub struct Options {
    /// What is done.
    #[command(subcommand)]
    pub command: Command,
}

/// What is done.
#[derive(Subcommand, Debug)]
pub enum Command {
    #[command(flatten)]
    Load(Workload),
    /// Medians of what earlier runs told with --json, as a table; benches/compare.sh uses it.
    Table(TableOptions),
}

/// What a table is made of.
#[derive(Args, Debug)]
pub struct TableOptions {
    /// A directory with the runs' JSON, in files that are called LOAD.COLUMN.ROUND.json.
    pub results: PathBuf,
    /// The tables and their rows; benches/compare.table is one, and says how it is written.
    #[arg(long, value_name = "FILE")]
    pub figures: PathBuf,
    /// What is told before the tables, line by line.
    #[arg(long, value_name = "FILE")]
    pub about: PathBuf,
    /// How a column is headed; its own name when not given.
    #[arg(long, value_name = "COLUMN=TEXT", value_parser = pair)]
    pub name: Vec<(String, String)>,
    /// Write a document.
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
    /// Write a picture of the ratios.
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Put the rows that are marked for it into this file, between its lines that begin and end the table.
    #[arg(long, value_name = "FILE.md")]
    pub readme: Option<PathBuf>,
}

/// What is asked.
#[derive(Subcommand, Debug)]
pub enum Workload {
    /// One key per put.
    Put(Common),
    /// One key per range; give --fill to store the key space first.
    Range {
        #[command(flatten)]
        common: Common,
        /// Ask for serializable reads.
        #[arg(long)]
        serializable: bool,
        /// Read so many keys from each key on; 1 reads just the key.
        #[arg(long, default_value_t = 1)]
        limit: i64,
        /// Read all keys that begin with --prefix, however many.
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        /// Ask only how many keys there are.
        #[arg(long)]
        count_only: bool,
    },
    /// Several puts in one transaction.
    Txn {
        #[command(flatten)]
        common: Common,
        /// Puts per transaction.
        #[arg(long, default_value_t = 2)]
        operations: usize,
    },
    /// Watches of one prefix, and puts at --rate under it; what is measured is the way of an event from when its put was due.
    Watch {
        #[command(flatten)]
        common: Common,
        /// Watches, spread over the connections.
        #[arg(long, default_value_t = 100)]
        watchers: usize,
        /// The most watches on one stream.
        #[arg(long, default_value_t = 100)]
        watchers_per_stream: usize,
    },
    /// Grants of leases, or keep-alives of one lease per client.
    Lease {
        #[command(flatten)]
        common: Common,
        /// Keep leases alive in place of granting them.
        #[arg(long)]
        keep_alive: bool,
    },
    /// Ranges of one key and puts.
    Mixed {
        #[command(flatten)]
        common: Common,
        /// Ranges among a hundred requests.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
        reads: u8,
        /// Ask for serializable reads.
        #[arg(long)]
        serializable: bool,
    },
    /// Compactions at the newest revision, answered when what they removed is gone.
    Compact(Common),
    /// Defragmentations.
    Defragment(Common),
    /// Nothing is asked: what the server of --server-pid uses by itself, with the connections open.
    Idle(Common),
}

/// What all workloads have.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where the servers listen; connections are dealt out in turn.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub endpoints: Vec<String>,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub connections: usize,
    /// Clients, each with one request under way at a time; as many as connections when not given.
    #[arg(long, value_parser = positive)]
    pub clients: Option<usize>,
    /// Requests per second in all, due at even intervals; without it every client asks again as soon as it is answered.
    #[arg(long)]
    pub rate: Option<f64>,
    /// How long it is measured.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// End after so many requests, warm-up not counted, if that is before the duration's end.
    #[arg(long)]
    pub total: Option<u64>,
    /// How long load is put on before it is measured.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warm_up: Duration,
    /// Bytes per key.
    #[arg(long, default_value_t = 8)]
    pub key_size: usize,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    pub value_size: usize,
    /// Different keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub key_space: u64,
    /// The order of keys.
    #[arg(long, value_enum, default_value_t = Pattern::Uniform)]
    pub keys: Pattern,
    /// What every key begins with.
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Put every key of the key space once before anything is measured.
    #[arg(long)]
    pub fill: bool,
    /// Wait up to so long for a server that answers.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub wait: Duration,
    /// The server's process on this machine: its CPU time and memory are measured too. Its highest resident memory, which
    /// the kernel keeps, is forgotten when the measurement begins.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write a picture of throughput and latency over time and of the latencies' distribution.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

impl Workload {
    /// What all workloads have.
    pub fn common(&self) -> &Common {
        match self {
            Workload::Put(common)
            | Workload::Compact(common)
            | Workload::Defragment(common)
            | Workload::Idle(common)
            | Workload::Range { common, .. }
            | Workload::Txn { common, .. }
            | Workload::Watch { common, .. }
            | Workload::Lease { common, .. }
            | Workload::Mixed { common, .. } => common,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Workload::Put(_) => "put",
            Workload::Range { .. } => "range",
            Workload::Txn { .. } => "txn",
            Workload::Watch { .. } => "watch",
            Workload::Lease { keep_alive: false, .. } => "lease grant",
            Workload::Lease { .. } => "lease keep-alive",
            Workload::Mixed { .. } => "mixed",
            Workload::Compact(_) => "compact",
            Workload::Defragment(_) => "defragment",
            Workload::Idle(_) => "idle",
        }
    }
}

impl Common {
    /// Clients, each with one request under way.
    pub fn clients(&self) -> usize {
        self.clients.unwrap_or(self.connections)
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a number above zero is wanted".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let nanos = config::parse_duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| "a duration is wanted, as 10s or 1m30s".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, text) = text.split_once('=').ok_or_else(|| "COLUMN=TEXT is wanted".to_owned())?;
    Ok((name.to_owned(), text.to_owned()))
}
