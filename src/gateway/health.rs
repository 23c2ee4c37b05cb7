//! etcd's answers to probes, out of plain facts (its `etcdhttp/health.go` and `version.go`).

use std::fmt::Write as _;

use super::message::{HttpRequest, HttpResponse};

/// An alarm that is raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// The quota is used up.
    NoSpace,
    /// Members differ.
    Corrupt,
    /// Any other.
    Other,
}

impl Alarm {
    const fn name(self) -> &'static str {
        match self {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
            Alarm::Other => "UNKNOWN",
        }
    }
}

/// A read of at most one key, keys only, as root: the probe of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Of what this member has.
    Serializable,
    /// Of what the cluster agrees on.
    Linearizable,
}

/// What a probe must know. Reads that [`Endpoint::reads`] does not ask for may be left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// Whether there is a leader.
    pub has_leader: bool,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// How the serializable read went; the error is etcd's text.
    pub serializable: Option<Result<(), String>>,
    /// How the linearizable read went.
    pub linearizable: Option<Result<(), String>>,
}

impl Facts {
    fn read(&self, read: Read) -> Result<(), String> {
        let result = match read {
            Read::Serializable => &self.serializable,
            Read::Linearizable => &self.linearizable,
        };
        result.clone().unwrap_or_else(|| Err("etcdserver: request timed out".to_owned()))
    }
}

/// One check of /livez or /readyz.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// No CORRUPT alarm.
    DataCorruption,
    /// A serializable read goes well.
    SerializableRead,
    /// A linearizable read does.
    LinearizableRead,
    /// The member is none.
    NonLearner,
}

impl Check {
    const LIVEZ: [Check; 1] = [Check::SerializableRead];
    const READYZ: [Check; 4] = [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

    /// As paths, parameters and metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Whether it holds, or etcd's text of why not.
    pub fn run(self, facts: &Facts) -> Result<(), String> {
        match self {
            Check::DataCorruption if facts.alarms.contains(&Alarm::Corrupt) => Err("alarm activated: CORRUPT".to_owned()),
            Check::NonLearner if facts.is_learner => Err("not supported for learner".to_owned()),
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => facts.read(Read::Serializable),
            Check::LinearizableRead => facts.read(Read::Linearizable),
        }
    }
}

/// What a request of these paths asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// `/health`.
    Health {
        /// Alarms that do not count.
        exclude: Vec<String>,
        /// Only this member is asked.
        serializable: bool,
    },
    /// `/livez`, `/readyz` or one check of them.
    Checks {
        /// `livez` or `readyz`: the label `type` of the metrics.
        kind: &'static str,
        /// What is checked.
        checks: Vec<Check>,
        /// What went well is told, too.
        verbose: bool,
    },
    /// `/version`.
    Version,
    /// `/metrics`.
    Metrics,
}

impl Endpoint {
    /// What `request` asks for, or the answer to it when that is nothing of ours: 404, or 405 for anything but a GET (and a HEAD of
    /// the metrics).
    pub fn of(request: &HttpRequest) -> Result<Endpoint, HttpResponse> {
        let query = &request.query;
        let endpoint = match request.path.as_str() {
            "/health" => Endpoint::Health {
                exclude: query.all("exclude").map(str::to_owned).collect(),
                serializable: query.first("serializable") == Some("true"),
            },
            "/version" => Endpoint::Version,
            "/metrics" => return Ok(Endpoint::Metrics),
            path => {
                let (kind, all, rest) = if let Some(rest) = path.strip_prefix("/livez") {
                    ("livez", &Check::LIVEZ[..], rest)
                } else if let Some(rest) = path.strip_prefix("/readyz") {
                    ("readyz", &Check::READYZ[..], rest)
                } else {
                    return Err(HttpResponse::not_found());
                };
                let is_excluded = |check: &Check| query.all("exclude").any(|name| name == check.name());
                let checks: Vec<Check> = match rest.strip_prefix('/') {
                    None if rest.is_empty() => all.iter().copied().filter(|check| !is_excluded(check)).collect(),
                    Some(name) => all.iter().copied().filter(|check| check.name() == name).collect(),
                    None => return Err(HttpResponse::not_found()),
                };
                if checks.is_empty() && !rest.is_empty() {
                    return Err(HttpResponse::not_found());
                }
                Endpoint::Checks { kind, checks, verbose: query.first("verbose").is_some() }
            }
        };
        if request.method == "GET" { Ok(endpoint) } else { Err(HttpResponse::method_not_allowed("GET")) }
    }

    /// The reads whose results its answer needs.
    pub fn reads(&self) -> Vec<Read> {
        match self {
            Endpoint::Health { serializable: true, .. } => vec![Read::Serializable],
            Endpoint::Health { .. } => vec![Read::Linearizable],
            Endpoint::Checks { checks, .. } => checks
                .iter()
                .filter_map(|check| match check {
                    Check::SerializableRead => Some(Read::Serializable),
                    Check::LinearizableRead => Some(Read::Linearizable),
                    Check::DataCorruption | Check::NonLearner => None,
                })
                .collect(),
            Endpoint::Version | Endpoint::Metrics => Vec::new(),
        }
    }
}

/// The answer to /health; its status is 200 exactly when the member is healthy.
pub fn answer_health(exclude: &[String], serializable: bool, facts: &Facts) -> HttpResponse {
    match health(exclude, serializable, facts) {
        Ok(()) => HttpResponse::text(200, r#"{"health":"true","reason":""}"#),
        Err(reason) => HttpResponse::error(503, &format!(r#"{{"health":"false","reason":{}}}"#, json_string(&reason))),
    }
}

fn health(exclude: &[String], serializable: bool, facts: &Facts) -> Result<(), String> {
    if let Some(alarm) = facts.alarms.iter().find(|alarm| !exclude.iter().any(|name| name == alarm.name())) {
        return Err(format!("ALARM {}", alarm.name()));
    }
    if !serializable && !facts.has_leader {
        return Err("RAFT NO LEADER".to_owned());
    }
    let read = if serializable { Read::Serializable } else { Read::Linearizable };
    facts.read(read).map_err(|text| format!("RANGE ERROR:{text}"))
}

/// The answer to /livez, /readyz and their sub-paths; 200 exactly when every check holds.
pub fn answer_checks(checks: &[Check], verbose: bool, facts: &Facts) -> HttpResponse {
    let mut lines = String::new();
    let mut holds = true;
    for check in checks {
        match check.run(facts) {
            Ok(()) => writeln!(lines, "[+]{} ok", check.name()),
            Err(text) => {
                holds = false;
                writeln!(lines, "[-]{} failed: {text}", check.name())
            }
        }
        .expect("a String grows");
    }
    if !holds {
        return HttpResponse::error(503, &lines);
    }
    let body = if verbose { lines + "ok\n" } else { "ok\n".to_owned() };
    HttpResponse::text(200, body).with("X-Content-Type-Options", "nosniff")
}

/// What /version tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versions {
    /// Of the server.
    pub server: &'static str,
    /// That the cluster has agreed on, once it has.
    pub cluster: Option<String>,
    /// Of the data, once it is known.
    pub storage: Option<String>,
}

/// The answer to /version.
pub fn answer_version(versions: &Versions) -> HttpResponse {
    let cluster = versions.cluster.as_deref().unwrap_or("not_decided");
    let storage = versions.storage.as_deref().unwrap_or("unknown");
    let body = format!(
        r#"{{"etcdserver":{},"etcdcluster":{},"storage":{}}}"#,
        json_string(versions.server),
        json_string(cluster),
        json_string(storage)
    );
    HttpResponse { content_type: "application/json", ..HttpResponse::text(200, body) }
}

/// The answer to /metrics: `text` is Prometheus' text format.
pub fn answer_metrics(text: String) -> HttpResponse {
    HttpResponse {
        content_type: "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        ..HttpResponse::text(200, text)
    }
}

/// A JSON string as Go's encoding/json writes it: what HTML would read is escaped, too.
fn json_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let mut escaped = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(escaped, "\\u{:04x}", u32::from(c)).expect("a String grows"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
#[path = "health_test.rs"]
mod tests;
