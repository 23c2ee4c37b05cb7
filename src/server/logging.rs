//! The log: one JSON object per line on stderr, with the keys of etcd's log (zap's production encoder).
//!
//! ```json
//! {"level":"info","ts":"2026-01-02T15:04:05.123456Z","caller":"server/run.rs:12","msg":"...","key":"value"}
//! ```
//!
//! Events are `tracing`'s. A field `fatal = true` on an error event makes its level `fatal` (the process is about to end),
//! `panic = true` makes it `panic`. Spans are not kept. A line is one `write(2)`, so that lines of several threads do not mix.
//! Events of other crates are shown from `warn` on; with --log-level=debug too, for they would drown ours.

use crate::config::LogLevel;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Events of modules below this are ours.
const OWN_TARGET: &str = "etcring";
/// Lines up to this size keep their buffer for the next one.
const LINE_BYTES_KEPT: usize = 16 << 10;

/// Where lines go: all of a line at once.
pub trait LineSink: Send + Sync + 'static {
    /// Writes a line, its newline included. There is nobody to tell when that fails.
    fn line(&self, line: &[u8]);
}

/// The process's stderr, which std does not buffer.
pub struct Stderr;

impl LineSink for Stderr {
    fn line(&self, line: &[u8]) {
        let _ = io::stderr().lock().write_all(line);
    }
}

/// A subscriber for `tracing` that writes the log.
pub struct JsonLog<S: LineSink> {
    least: LogLevel,
    sink: S,
}

/// Makes the log of this level the process's, on stderr, and writes panics into it.
/// The first call counts; `false` when there is a log already.
pub fn install(least: LogLevel) -> bool {
    let installed = tracing::subscriber::set_global_default(JsonLog::new(least, Stderr)).is_ok();
    if installed {
        std::panic::set_hook(Box::new(|info| {
            let location = info.location().map(|l| short_caller(l.file(), l.line())).unwrap_or_default();
            let payload = info.payload();
            let what = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let what = what.unwrap_or("a panic without words");
            tracing::error!(panic = true, at = location, "{what}");
        }));
    }
    installed
}

impl<S: LineSink> JsonLog<S> {
    /// Writes events of this level and above to `sink`.
    pub fn new(least: LogLevel, sink: S) -> JsonLog<S> {
        JsonLog { least, sink }
    }

    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        if !metadata.is_event() {
            return false;
        }
        let own = metadata.target().split("::").next() == Some(OWN_TARGET);
        let least = if own { self.least } else { self.least.max(LogLevel::Warn) };
        filter_of(least) >= *metadata.level()
    }
}

/// What of tracing's levels may hold events of this level and above. Panics and fatal ends are error events.
fn filter_of(least: LogLevel) -> LevelFilter {
    match least {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => LevelFilter::ERROR,
    }
}

impl<S: LineSink> Subscriber for JsonLog<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.shows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter_of(self.least))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let written = LINE.try_with(|line| {
            // An event inside of another (a Display that logs) gets a line of its own.
            let mut own = String::new();
            let mut kept = line.try_borrow_mut();
            let line = kept.as_deref_mut().unwrap_or(&mut own);
            self.write_event(event, SystemTime::now(), line);
            if line.capacity() > LINE_BYTES_KEPT {
                *line = String::new();
            }
        });
        if written.is_err() {
            self.write_event(event, SystemTime::now(), &mut String::new());
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl<S: LineSink> JsonLog<S> {
    fn write_event(&self, event: &Event<'_>, now: SystemTime, line: &mut String) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = match (*metadata.level(), fields.fatal, fields.panic) {
            (Level::ERROR, true, _) => LogLevel::Fatal,
            (Level::ERROR, _, true) => LogLevel::Panic,
            (Level::ERROR, ..) => LogLevel::Error,
            (Level::WARN, ..) => LogLevel::Warn,
            (Level::INFO, ..) => LogLevel::Info,
            _ => LogLevel::Debug,
        };
        if level < self.least {
            return;
        }
        line.clear();
        let caller = short_caller(metadata.file().unwrap_or("unknown"), metadata.line().unwrap_or(0));
        let message = if fields.message.is_empty() { metadata.target() } else { &fields.message };
        line.push_str("{\"level\":\"");
        line.push_str(level_name(level));
        line.push_str("\",\"ts\":\"");
        push_timestamp(line, now);
        line.push_str("\",\"caller\":");
        push_json(line, &caller);
        line.push_str(",\"msg\":");
        push_json(line, message);
        line.push_str(&fields.json);
        line.push_str("}\n");
        self.sink.line(line.as_bytes());
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Panic => "panic",
        LogLevel::Fatal => "fatal",
    }
}

/// The fields of an event: its message, its marks, and the others as `,"key":value` each.
#[derive(Default)]
struct Fields {
    message: String,
    fatal: bool,
    panic: bool,
    json: String,
}

impl Fields {
    fn key(&mut self, field: &Field) {
        self.json.push(',');
        push_json(&mut self.json, field.name());
        self.json.push(':');
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        write!(self.json, "{value}").expect("a String takes everything");
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        self.key(field);
        push_json(&mut self.json, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "fatal" => self.fatal = value,
            "panic" => self.panic = value,
            _ => self.plain(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.plain(field, value) } else { self.record_debug(field, &value) }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The last directory and the file, with the line, as zap writes callers.
fn short_caller(file: &str, line: u32) -> String {
    let before_file = file.rfind('/').unwrap_or(0);
    let start = file[..before_file].rfind('/').map_or(0, |slash| slash + 1);
    format!("{}:{line}", &file[start..])
}

/// A JSON string, quotes included.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => write!(out, "\\u{:04x}", c as u32).expect("a String takes everything"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// UTC, to the microsecond: `2026-01-02T15:04:05.123456Z`.
fn push_timestamp(out: &mut String, now: SystemTime) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
        .expect("a String takes everything");
}

/// Year, month and day of a count of days since 1970-01-01 (Hinnant's `civil_from_days`, for days from 1970 on).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<Vec<u8>>>>);

    impl LineSink for Lines {
        fn line(&self, line: &[u8]) {
            self.0.lock().unwrap().push(line.to_vec());
        }
    }

    fn logged(least: LogLevel, events: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        tracing::subscriber::with_default(JsonLog::new(least, lines.clone()), events);
        let lines = lines.0.lock().unwrap();
        let read = |line: &Vec<u8>| {
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1, "one line per event");
            assert_eq!(line.last(), Some(&b'\n'));
            serde_json::from_slice(line).expect("a JSON object")
        };
        lines.iter().map(read).collect()
    }

    #[test]
    fn a_line_has_etcds_keys_and_the_events_fields() {
        let error = io::Error::other("no");
        let lines = logged(LogLevel::Info, || {
            tracing::info!(count = 3, ratio = 0.5, ok = true, name = "a\"b\n\u{1}é", error = %error, what = ?Some(1), nan = f64::NAN, "ready to {}", "serve");
        });
        let line = &lines[0];
        assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("info"), Some("ready to serve")));
        let caller = line["caller"].as_str().unwrap();
        assert!(caller.starts_with("server/logging.rs:"), "{caller}");
        let ts = line["ts"].as_str().unwrap();
        assert!(ts.len() == 27 && ts.ends_with('Z') && ts.as_bytes()[10] == b'T', "{ts}");
        assert_eq!((&line["count"], &line["ratio"], &line["ok"]), (&Value::from(3), &Value::from(0.5), &Value::from(true)));
        assert_eq!((line["name"].as_str(), line["error"].as_str()), (Some("a\"b\n\u{1}é"), Some("no")));
        assert_eq!((line["what"].as_str(), line["nan"].as_str()), (Some("Some(1)"), Some("NaN")));
    }

    #[test]
    fn keys_come_in_etcds_order() {
        let lines = Lines::default();
        tracing::subscriber::with_default(JsonLog::new(LogLevel::Info, lines.clone()), || tracing::warn!(a = 1, "m"));
        let text = String::from_utf8(lines.0.lock().unwrap()[0].clone()).unwrap();
        let places = ["{\"level\":\"warn\"", ",\"ts\":", ",\"caller\":", ",\"msg\":\"m\"", ",\"a\":1}\n"].map(|k| text.find(k));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    }

    #[test]
    fn levels_are_filtered() {
        let all = || {
            tracing::trace!("t");
            tracing::debug!("d");
            tracing::info!("i");
            tracing::warn!("w");
            tracing::error!("e");
            tracing::error!(panic = true, "p");
            tracing::error!(fatal = true, "f");
        };
        for (least, shown) in [
            (LogLevel::Debug, "diwepf"),
            (LogLevel::Info, "iwepf"),
            (LogLevel::Warn, "wepf"),
            (LogLevel::Error, "epf"),
            (LogLevel::Panic, "pf"),
            (LogLevel::Fatal, "f"),
        ] {
            let lines = logged(least, all);
            let messages: String = lines.iter().map(|l| l["msg"].as_str().unwrap()).collect();
            assert_eq!(messages, shown, "{least:?}");
            assert!(lines.iter().all(|l| l["level"].as_str().unwrap().starts_with(l["msg"].as_str().unwrap())));
            assert!(lines.iter().all(|l| l.get("fatal").is_none() && l.get("panic").is_none()));
        }
    }

    #[test]
    fn other_crates_are_heard_from_warnings_on() {
        let lines = logged(LogLevel::Debug, || {
            tracing::info!(target: "h2::proto", "i");
            tracing::warn!(target: "h2::proto", "w");
            tracing::info!(target: "etcring::front", "o");
            tracing::info!(target: "etcrings", "x");
        });
        let messages: String = lines.iter().map(|l| l["msg"].as_str().unwrap()).collect();
        assert_eq!(messages, "wo");
    }

    #[test]
    fn a_message_is_never_empty() {
        let lines = logged(LogLevel::Info, || tracing::info!(a = 1));
        assert_eq!(lines[0]["msg"], "etcring::server::logging::tests");
    }

    #[test]
    fn timestamps_are_utc() {
        for (seconds, micros, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000001Z"),
            (1_735_689_599, 0, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ] {
            let mut out = String::new();
            push_timestamp(&mut out, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn callers_are_short() {
        for (file, caller) in
            [("src/server/logging.rs", "server/logging.rs:7"), ("main.rs", "main.rs:7"), ("src/main.rs", "src/main.rs:7")]
        {
            assert_eq!(short_caller(file, 7), caller);
        }
    }
}
